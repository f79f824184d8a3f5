"""How a simulated model can behave, as a table: what it says, what is wrong, how it ends."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

PREFIX: Final = "sim-"
ENTRY_GAP_MS: Final = 40


class Spoil(StrEnum):
    """What is wrong with some of the lines."""

    ONE_BROKEN = "one_broken"
    EVERY_OTHER_BROKEN = "every_other_broken"
    ONE_REPEATED = "one_repeated"
    ONE_OUTSIDE_RANGE = "one_outside_range"
    ONE_UNKNOWN_CHANNEL = "one_unknown_channel"


class Fault(StrEnum):
    """What happens to the answer on its way."""

    FIRST_STALL = "first_stall"
    STALL = "stall"
    COMMENTS = "comments"
    TRICKLE = "trickle"
    CUT = "cut"
    ERROR_FRAME = "error_frame"
    EOF = "eof"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One behaviour; `after` entries are sent whole before a fault or an early finish.

    `entry_gap_ms` is the pause before each entry, `gap_ms` the one between pieces of an entry and
    between the signs of life of a faulty answer.
    """

    about: str
    http_status: int = 200
    opening: str = ""
    closing: str = ""
    is_prose: bool = False
    spoil: Spoil | None = None
    fault: Fault | None = None
    finish: str = "stop"
    after: int | None = None
    gap_ms: int = 0
    entry_gap_ms: int = ENTRY_GAP_MS


SCENARIOS: Final = {
    "ok": Scenario(about="One JSON object per line, one per slot"),
    "fenced": Scenario(
        about="The same in a code fence, with a sentence before and after",
        opening="Sure! Here is your calendar:\n\n```jsonl\n",
        closing="```\nLet me know if you want changes.\n",
    ),
    "one-bad-line": Scenario(
        about="The second line is no JSON; the rest is fine", spoil=Spoil.ONE_BROKEN
    ),
    "prose": Scenario(about="Advice instead of entries", is_prose=True),
    "broken-json": Scenario(
        about="Every other line is no JSON, the first included", spoil=Spoil.EVERY_OTHER_BROKEN
    ),
    "duplicate-ids": Scenario(
        about="The first line comes twice, and its id once more with other content",
        spoil=Spoil.ONE_REPEATED,
    ),
    "outside-range": Scenario(
        about="The second entry lies a year after the end", spoil=Spoil.ONE_OUTSIDE_RANGE
    ),
    "unknown-channel": Scenario(
        about="The second entry is for a channel nobody asked for", spoil=Spoil.ONE_UNKNOWN_CHANNEL
    ),
    "first-stall": Scenario(about="Headers, then silence", fault=Fault.FIRST_STALL),
    "mid-stall": Scenario(about="Some entries, then silence", fault=Fault.STALL, after=3),
    "comment-stall": Scenario(
        about="Some entries, then only comments and empty deltas",
        fault=Fault.COMMENTS,
        after=3,
        gap_ms=100,
    ),
    "slow": Scenario(
        about="Some entries, then a character now and then, without end",
        fault=Fault.TRICKLE,
        after=3,
        gap_ms=100,
    ),
    "cut": Scenario(about="Some entries, then a TCP reset", fault=Fault.CUT, after=3),
    "error-frame": Scenario(
        about="Some entries, then an error in the stream", fault=Fault.ERROR_FRAME, after=3
    ),
    "eof": Scenario(about="Some entries, then a clean end too early", fault=Fault.EOF, after=3),
    "429": Scenario(about="Too many requests, Retry-After 1", http_status=429),
    "500": Scenario(about="An internal error", http_status=500),
    "content-filter": Scenario(
        about="Some entries, then the provider's filter", finish="content_filter", after=3
    ),
    "length": Scenario(about="Some entries, then the token limit", finish="length", after=3),
}
