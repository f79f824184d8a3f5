"""Whoever drafts a calendar: what it says while it works, and how its end counts."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from cadenza.calendar.request import Draft, RunRequest
from cadenza.errors import Reason
from cadenza.events import Verdict


class RunStatus(StrEnum):
    """Where a run is, or how it ended."""

    RUNNING = "running"
    COMPLETED = "completed"
    PARTIAL = "partial"
    TIMEOUT = "timeout"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens read and written by the model."""

    input_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Drafted:
    """One valid entry."""

    draft: Draft


@dataclass(frozen=True, slots=True)
class Rejected:
    """Something of the model that was no valid entry; `why` is a code, never the model's words."""

    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """Nothing more will come; `usage` is None where no tokens were spent or nobody can tell."""

    status: RunStatus
    reason: Reason | None = None
    usage: Usage | None = None
    usage_estimated: bool = False


class Generator(Protocol):
    """Drafts entries for a request, one by one."""

    @property
    def variant(self) -> str:
        """The flag's variant that this generator serves."""
        ...

    def entries(self, request: RunRequest) -> AsyncGenerator[Drafted | Rejected | Ended]:
        """Yield entries and rejections as they come, then exactly one Ended, always.

        A fault of the provider never raises: it is the Ended. What was yielded before it is good.
        Closing the generator early lets go of everything it holds.
        """
        ...


def classify(
    ended: Ended, *, entries: int, rejected: int, expected: int
) -> tuple[RunStatus, Reason | None, Verdict]:
    """Return how a run of that end and those counts is stored, and whether it was good.

    A completed run needs an entry and at most 20 % rejected, else it failed with
    provider_invalid_output. A partial one is good from 80 % of the expected slots.
    """
    if ended.status is RunStatus.COMPLETED and not _is_sound(entries, rejected):
        return RunStatus.FAILED, Reason.PROVIDER_INVALID_OUTPUT, Verdict.BAD
    return ended.status, ended.reason, _verdict(ended, is_enough(entries, expected))


def is_enough(entries: int, expected: int) -> bool:
    """Say whether at least 80 % of the expected slots have an entry."""
    return entries * 5 >= expected * 4


def _is_sound(entries: int, rejected: int) -> bool:
    return entries > 0 and rejected * 5 <= entries + rejected


def _verdict(ended: Ended, enough: bool) -> Verdict:  # noqa: FBT001 - one caller, one line above
    if ended.status is RunStatus.CANCELLED or ended.reason is Reason.SHUTDOWN:
        return Verdict.IGNORED
    if ended.status is RunStatus.COMPLETED:
        return Verdict.GOOD
    if ended.status is RunStatus.PARTIAL and enough:
        return Verdict.GOOD
    return Verdict.BAD
