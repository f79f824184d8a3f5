"""What the log must show of a request: its lines, found by the id the caller was given."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import orjson

from cadenza.drills.visit import HEALTH, Asked
from cadenza.events import REQUIRED, RequestFinished, RunFinished

Line = dict[str, Any]
WAIT_S = 5.0
TAIL_BYTES = 8 * 1024 * 1024


def reader_of(path: Path) -> Callable[[], list[Line]]:
    """Return a reader of the end of a log file; lines that are no JSON are left out."""

    def read() -> list[Line]:
        with path.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - TAIL_BYTES))
            return [line for text in file for line in _parsed(text)]

    return read


def log_lines(read: Callable[[], list[Line]], request_ids: Sequence[str]) -> list[Line]:
    """Return the lines of these requests, waiting a little for the last to be written."""
    wanted, until = set(request_ids), time.monotonic() + WAIT_S
    while True:
        found = [line for line in read() if line.get("requestId") in wanted]
        ended = {line["requestId"] for line in found if line.get("event") == RequestFinished.name}
        if ended >= wanted or time.monotonic() > until:
            return found
        time.sleep(0.1)


def missing_from(asked: Asked, lines: Sequence[Line], user_id: str) -> list[str]:
    """Return what the log lacks of one request: nothing, when all is well."""
    mine = [line for line in lines if line["requestId"] == asked.request_id]
    ended = [line for line in mine if line["event"] == RequestFinished.name]
    if asked.what == HEALTH:
        return []
    if len(ended) != 1:
        return [f"{len(ended)} request lines"]
    faults = [f"no {key}" for line in mine for key in REQUIRED if key not in line]
    faults += _differences(asked, ended[0], user_id)
    if asked.run_id is not None:
        finished = [line for line in mine if line["event"] == RunFinished.name]
        if len(finished) != 1:
            return [*faults, f"{len(finished)} run lines"]
        faults += _differences(asked, finished[0], user_id)
        faults += [] if finished[0]["status"] else ["the run's line has no status"]
    return faults


def _differences(asked: Asked, line: Line, user_id: str) -> list[str]:
    wanted = {"calendarId": asked.calendar_id, "runId": asked.run_id, "channel": asked.channel}
    faults = [
        f"{key} is {line.get(key)} in {line['event']}"
        for key, value in wanted.items()
        if value is not None and line.get(key) != value
    ]
    if line.get("userId") != user_id and len(str(line.get("userId"))) != 32:  # noqa: PLR2004
        faults.append(f"userId is {line.get('userId')}")
    return faults if line.get("status") else [*faults, "no status"]


def _parsed(text: bytes) -> list[Line]:
    try:
        line: Any = orjson.loads(text)
    except ValueError:
        return []
    return [line] if isinstance(line, dict) else []  # pyright: ignore[reportUnknownVariableType]
