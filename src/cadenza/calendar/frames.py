"""The frames of a run's stream: encoded once, stored, and sent to everyone as they are."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson

RETRY_MS = 2000


@dataclass(frozen=True, slots=True)
class EventId:
    """Where a frame stands: the run's epoch, which never changes, and its place from 0."""

    epoch: int
    seq: int

    def __str__(self) -> str:
        return f"{self.epoch}.{self.seq}"


def parse_event_id(text: str) -> EventId | None:
    """Return the id a client sent back, None when it is not one of ours."""
    epoch, dot, seq = text.partition(".")
    if not (dot and epoch.isdecimal() and seq.isdecimal() and len(text) <= 20):  # noqa: PLR2004
        return None
    return EventId(int(epoch), int(seq))


def frame(
    event: str | None,
    data: bytes | None,
    *,
    event_id: str | None = None,
    retry_ms: int | None = None,
) -> bytes:
    """Return one encoded frame; line breaks in `data` are kept, the other parts are one line."""
    lines: list[bytes] = []
    if retry_ms is not None:
        lines.append(b"retry: %d" % retry_ms)
    if event_id is not None:
        lines.append(b"id: " + event_id.encode())
    if event is not None:
        lines.append(b"event: " + event.encode())
    if data is not None:
        text = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        lines.extend(b"data: " + line for line in text.split(b"\n"))
    return b"\n".join(lines) + b"\n\n"


def run_frame(epoch: int, data: dict[str, Any]) -> bytes:
    """Return the first frame: it gives the client an id to resume from before any entry."""
    text = orjson.dumps(data)
    return frame("run", text, event_id=str(EventId(epoch, 0)), retry_ms=RETRY_MS)


def entry_frame(epoch: int, seq: int, entry: dict[str, Any]) -> bytes:
    """Return the frame of one stored entry."""
    data = orjson.dumps({"index": seq, "entry": entry})
    return frame("entry", data, event_id=str(EventId(epoch, seq)))


def done_frame(epoch: int, seq: int, data: dict[str, Any]) -> bytes:
    """Return the terminal frame of a run whose end is stored."""
    return frame("done", orjson.dumps(data), event_id=str(EventId(epoch, seq)))


def reset_frame() -> bytes:
    """Return the frame that says: forget what you have, everything follows again."""
    return frame("reset", orjson.dumps({"reason": "unknown_event_id"}))


def error_frame(*, code: str, status: int, request_id: str | None, run_id: UUID) -> bytes:
    """Return the frame of an end that could not be stored; without an id, so clients resume."""
    problem = {
        "type": f"urn:cadenza:problem:{code}",
        "status": status,
        "code": code,
        "retryable": True,
        "requestId": request_id,
        "runId": str(run_id),
    }
    return frame("error", orjson.dumps(problem))
