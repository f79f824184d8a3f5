"""What is waited for in a model's answer, for how long, and how its end is told."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final

from cadenza.calendar.generator import Ended, RunStatus, Usage
from cadenza.errors import Reason

if TYPE_CHECKING:
    from openai.types import CompletionUsage
    from openai.types.chat import ChatCompletionChunk

CHARS_PER_TOKEN: Final = 4  # the usual rule of thumb for English; an estimate is marked as one

_ENDS: Final = {
    "length": Ended(status=RunStatus.PARTIAL, reason=Reason.MAX_TOKENS),
    "content_filter": Ended(status=RunStatus.FAILED, reason=Reason.PROVIDER_CONTENT_FILTER),
}
_COMPLETED: Final = Ended(status=RunStatus.COMPLETED)
_NOTHING_SENT: Final = frozenset(
    {
        Reason.TIMEOUT_CONNECT,
        Reason.PROVIDER_UNREACHABLE,
        Reason.PROVIDER_HTTP_ERROR,
        Reason.PROVIDER_RATE_LIMITED,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadlines:
    """How long a provider may keep a run waiting, in seconds, judged by content."""

    connect_s: float = 5.0
    first_s: float = 12.0
    between_s: float = 5.0
    total_s: float = 30.0


@dataclass(frozen=True, slots=True)
class Fault:
    """How a run ends that the provider let down, and whether asking once more could help."""

    status: RunStatus
    reason: Reason
    is_retryable: bool = False
    retry_after_s: float | None = None

    def ended(self) -> Ended:
        """Return the end of a run that had this fault."""
        return Ended(status=self.status, reason=self.reason)


class Watch:
    """The one deadline in force: `until`, on the clock of `now`."""

    def __init__(self, deadlines: Deadlines, now: Callable[[], float]) -> None:
        self._deadlines = deadlines
        self._now = now
        self._end = now() + deadlines.total_s
        self._reason = Reason.TIMEOUT_TOTAL
        self.until = self._end

    def expect_first(self) -> None:
        """Give a new call its time to the first content."""
        self._expect(self._deadlines.first_s, Reason.TIMEOUT_FIRST)

    def expect_more(self) -> None:
        """Give the next content its time, beginning now."""
        self._expect(self._deadlines.between_s, Reason.TIMEOUT_BETWEEN)

    def is_over(self) -> bool:
        """Say whether the deadline passed, also when nobody was waiting."""
        return self._now() >= self.until

    def left_s(self) -> float:
        """Return what is left of the total."""
        return self._end - self._now()

    def missed(self) -> Fault:
        """Return the fault of a provider that missed the deadline in force."""
        return Fault(RunStatus.TIMEOUT, self._reason)

    def _expect(self, wait_s: float, reason: Reason) -> None:
        until = self._now() + wait_s
        self._reason = reason if until < self._end else Reason.TIMEOUT_TOTAL
        self.until = min(until, self._end)


class Listener:
    """Reads one answer's chunks: gives their content, remembers finish and usage."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch
        self._finish: str | None = None
        self._usage: Usage | None = None

    @property
    def is_finished(self) -> bool:
        """Whether the model said why it stopped."""
        return self._finish is not None

    def take(self, chunk: "ChatCompletionChunk") -> str:
        """Return the chunk's content, empty when it has none."""
        if chunk.usage:
            self._usage = _usage(chunk.usage) or self._usage
        if not chunk.choices:
            return ""
        choice = chunk.choices[0]
        if choice.finish_reason and self._finish is None:
            self._finish = choice.finish_reason
            self.watch.expect_more()  # the usage may follow; silence from here costs nothing
        content: object = choice.delta.content
        return content if isinstance(content, str) else ""

    def ended_by(self, fault: Fault) -> Ended:
        """Return the model's own end if it gave one, else the fault's."""
        if self._finish is None:
            return fault.ended()
        return _ENDS.get(self._finish, _COMPLETED)

    def counted(self, ended: Ended, *, asked_chars: int, content_chars: int) -> Ended:
        """Return the end with the provider's usage, or with one estimated by length."""
        if self._usage is not None:
            return replace(ended, usage=self._usage)
        if ended.reason in _NOTHING_SENT:
            return ended
        usage = Usage(
            input_tokens=asked_chars // CHARS_PER_TOKEN,
            output_tokens=content_chars // CHARS_PER_TOKEN,
        )
        return replace(ended, usage=usage, usage_estimated=True)


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Return the wait that an answer asks for: seconds, or a date read by the answer's own clock.

    None when it asks for none, or in no way that HTTP knows.
    """
    asked = headers.get("retry-after", "")
    try:
        return max(0.0, float(asked))
    except ValueError:
        pass
    try:
        until, sent = parsedate_to_datetime(asked), parsedate_to_datetime(headers.get("date", ""))
        return max(0.0, (until - sent).total_seconds())
    except (ValueError, TypeError):
        return None


def _usage(told: "CompletionUsage") -> Usage | None:
    counts: tuple[object, object] = (told.prompt_tokens, told.completion_tokens)
    match counts:
        case (int() as read, int() as written) if read >= 0 and written >= 0:
            return Usage(input_tokens=read, output_tokens=written)
        case _:
            return None
