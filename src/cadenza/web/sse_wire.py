"""What a stream puts on the wire: frames, encoded once, and writes that are begun in place."""

from collections.abc import Awaitable, Generator
from dataclasses import dataclass, field
from typing import Any

from starlette.types import Message

HEARTBEAT = b": hb\n\n"
HEADERS = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store, no-transform"),
    (b"x-accel-buffering", b"no"),
)
_DONE = object()


def body(frames: bytes, *, is_last: bool) -> Message:
    """Return the server's message for these frames."""
    return {"type": "http.response.body", "body": frames, "more_body": not is_last}


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamLimits:
    """What one process grants each stream.

    `max_frames` and `max_bytes` bound what waits for a client that does not read; `linger_s` is
    how long a stream closed for that may take to end politely before the connection is cut.
    """

    heartbeat_s: float = 15.0
    max_frames: int = 64
    max_bytes: int = 256 * 1024
    linger_s: float = 10.0


@dataclass(slots=True)
class Waiting:
    """What a client has not taken yet: the pieces queued, and the one being written.

    `frames` and `size` (bytes) count both, from `add` or `hold` until `settle`.
    """

    pieces: list[bytes] = field(default_factory=list[bytes])
    frames: int = 0
    size: int = 0

    def add(self, piece: bytes, count: int) -> None:
        """Queue a piece of `count` frames."""
        self.pieces.append(piece)
        self.hold(len(piece), count)

    def hold(self, size: int, count: int) -> None:
        """Count a piece that is being written."""
        self.size += size
        self.frames += count

    def take(self) -> tuple[bytes, int]:
        """Return the queue as one piece, to be settled; called when nothing is being written."""
        piece = b"".join(self.pieces)
        self.pieces.clear()
        return piece, self.frames

    def settle(self, size: int, count: int) -> None:
        """Stop counting a piece: the server has it."""
        self.hold(-size, -count)

    def exceeds(self, limits: StreamLimits) -> bool:
        """Say whether more waits than a stream is granted."""
        return self.frames > limits.max_frames or self.size > limits.max_bytes


def begin(write: Awaitable[None]) -> "Rest | None":
    """Take the first step of a write here and now; return what remains, None if that was all.

    Raises what the write raises in its first step.
    """
    steps = write.__await__()
    waits_for: object = next(steps, _DONE)  # a default costs half of what catching the end does
    return None if waits_for is _DONE else Rest(steps, waits_for)


@dataclass(frozen=True, slots=True)
class Rest:
    """What remains of a write that has to wait; one task may await it.

    The first step told what it waits for (in asyncio, a future). A task that is told the same
    waits for it too, done by then or not, and takes the later steps itself. Cancelling that task
    abandons the write.
    """

    steps: Generator[Any, Any, None]
    waits_for: object

    def __await__(self) -> Generator[Any, Any, None]:
        try:
            yield self.waits_for
            yield from self.steps
        finally:
            self.steps.close()
