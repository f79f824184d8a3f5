"""The gate: between a flag's flip and the writes that were decided before it.

A transaction that writes under a flag takes the flag's gate in shared form with its *first*
statement, and only with its *second* compares the version it decided on and writes. A flip takes
the exclusive form first. So when a flip has committed, every write of the old version is already
there to be seen, and none comes later. Taking the lock and comparing in one statement is worse
than no lock: both would read the snapshot from before the wait.

`Database.as_user` and `as_worker` take a number from here as `gate=`, `as_ops` as `closing=`.
Each flag has its own number, so that flipping one never waits for writes under another.
"""

from typing import Final

from cadenza.errors import NotFound

GATES: Final = {"calendar": 1, "publish": 2}


def gate_of(key: str) -> int:
    """Return the number of the flag's gate; raise NotFound for a flag that has none."""
    number = GATES.get(key)
    if number is None:
        raise NotFound(f"There is no such flag; there are {', '.join(GATES)}")
    return number
