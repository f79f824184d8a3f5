"""A drill names a user, what it forces, and for how long; nothing else."""

import pytest

from cadenza.errors import Invalid
from cadenza.flags.drill import new_drill

ALICE = "9750dcc2-516e-5ea0-8a26-54fa6ff6986b"


def test_a_drill_has_an_id_of_its_own_that_cannot_be_guessed() -> None:
    drills = [new_drill(user_id=ALICE, flags={"calendar": "ai"}, ttl_s=600) for _ in range(50)]
    assert len({drill.id for drill in drills}) == 50
    assert min(len(drill.id) for drill in drills) >= 32


@pytest.mark.parametrize(
    ("user_id", "flags", "ttl_s", "expected"),
    [
        ("alice", {"calendar": "ai"}, 60, ("/userId", "BAD_UUID")),
        (ALICE, {}, 60, ("/flags", "MISSING")),
        (ALICE, {"export": "on"}, 60, ("/flags/export", "UNKNOWN_FLAG")),
        (ALICE, {"publish": "ai"}, 60, ("/flags/publish", "UNKNOWN_VARIANT")),
        (ALICE, {"calendar": "ai"}, 0, ("/ttlS", "OUT_OF_RANGE")),
        (ALICE, {"calendar": "ai"}, 601, ("/ttlS", "OUT_OF_RANGE")),
    ],
)
def test_a_mistake_is_named(
    user_id: str, flags: dict[str, str], ttl_s: int, expected: tuple[str, str]
) -> None:
    with pytest.raises(Invalid) as refused:
        new_drill(user_id=user_id, flags=flags, ttl_s=ttl_s)
    assert [(m.pointer, m.code) for m in refused.value.mistakes] == [expected]
