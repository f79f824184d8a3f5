"""The frames of one simulated answer, with whatever goes wrong on the way."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import orjson

from cadenza.simulator.scenarios import Fault, Scenario

PIECE_CHARS: Final = 48
FOREVER_S: Final = 300.0
READ_S: Final = 0.05  # a reset may overtake what the peer has not read yet


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What to send: the lines of one scenario, and how to cut the connection."""

    scenario: Scenario
    lines: Sequence[str]
    model: str
    prompt_tokens: int
    cut: Callable[[], None]

    @property
    def text(self) -> str:
        """Everything the model says, in one piece."""
        said = "".join(f"{line}\n" for line in self.lines[: self.scenario.after])
        return f"{self.scenario.opening}{said}{self.scenario.closing}"

    @property
    def usage(self) -> dict[str, int]:
        """The tokens as a provider counts them."""
        written = len(self.text) // 4
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": written,
            "total_tokens": self.prompt_tokens + written,
        }


async def frames(answer: Answer) -> AsyncGenerator[bytes]:
    """Yield the server-sent events of an answer, at the scenario's pace."""
    scenario = answer.scenario
    yield _delta(answer, {"role": "assistant", "content": ""})
    if scenario.fault is Fault.FIRST_STALL:
        await asyncio.sleep(FOREVER_S)
    async for frame in _entries(answer):
        yield frame
    if scenario.fault is None:
        for frame in _ending(answer):
            yield frame
    else:
        async for frame in _FAILING[scenario.fault](answer):
            yield frame


async def _entries(answer: Answer) -> AsyncGenerator[bytes]:
    scenario = answer.scenario
    if scenario.opening:
        yield _delta(answer, {"content": scenario.opening})
    for line in answer.lines[: scenario.after]:
        await asyncio.sleep(scenario.entry_gap_ms / 1000)
        for piece in _pieces(f"{line}\n"):
            yield _delta(answer, {"content": piece})
            await asyncio.sleep(scenario.gap_ms / 1000 if scenario.fault is None else 0)
    if scenario.after is not None:
        rest = "".join(answer.lines[scenario.after : scenario.after + 1])
        yield _delta(answer, {"content": rest[: len(rest) // 2] or "{"})


def _ending(answer: Answer) -> Iterator[bytes]:
    if answer.scenario.closing:
        yield _delta(answer, {"content": answer.scenario.closing})
    yield _delta(answer, {}, finish=answer.scenario.finish)
    nothing: list[object] = []
    yield _event(_chunk(answer) | {"choices": nothing, "usage": answer.usage})
    yield b"data: [DONE]\n\n"


async def _stall(_answer: Answer) -> AsyncGenerator[bytes]:
    await asyncio.sleep(FOREVER_S)
    yield b""


async def _comments(answer: Answer) -> AsyncGenerator[bytes]:
    async for _ in _ticks(answer):
        yield b": still working\n\n"
        yield _delta(answer, {"content": ""})


async def _trickle(answer: Answer) -> AsyncGenerator[bytes]:
    async for _ in _ticks(answer):
        yield _delta(answer, {"content": "."})


async def _cut(answer: Answer) -> AsyncGenerator[bytes]:
    await asyncio.sleep(READ_S)
    answer.cut()
    yield b""


async def _error_frame(_answer: Answer) -> AsyncGenerator[bytes]:
    error = {"message": "Upstream is overloaded", "type": "overloaded_error", "code": 529}
    yield _event({"error": error})


async def _eof(_answer: Answer) -> AsyncGenerator[bytes]:
    yield b""


_FAILING: Final[Mapping[Fault, Callable[[Answer], AsyncGenerator[bytes]]]] = {
    Fault.FIRST_STALL: _stall,
    Fault.STALL: _stall,
    Fault.COMMENTS: _comments,
    Fault.TRICKLE: _trickle,
    Fault.CUT: _cut,
    Fault.ERROR_FRAME: _error_frame,
    Fault.EOF: _eof,
}


async def _ticks(answer: Answer) -> AsyncGenerator[None]:
    gap_s = max(answer.scenario.gap_ms, 1) / 1000
    for _ in range(int(FOREVER_S / gap_s)):
        yield
        await asyncio.sleep(gap_s)


def _pieces(text: str) -> Iterator[str]:
    for at in range(0, len(text), PIECE_CHARS):
        yield text[at : at + PIECE_CHARS]


def _delta(answer: Answer, delta: dict[str, str], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return _event(_chunk(answer) | {"choices": [choice]})


def _chunk(answer: Answer) -> dict[str, object]:
    return {
        "id": "chatcmpl-simulated",
        "object": "chat.completion.chunk",
        "created": 0,
        "model": answer.model,
    }


def _event(body: dict[str, object]) -> bytes:
    return b"data: " + orjson.dumps(body) + b"\n\n"
