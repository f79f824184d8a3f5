"""From a model's words to entries: one validation each, and what is not an entry is counted."""

import datetime as dt
from collections.abc import Iterator
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from cadenza.calendar.generator import Drafted, Ended, Rejected, RunStatus, is_enough
from cadenza.calendar.request import (
    AUDIENCE_CHARS,
    FORMAT_CHARS,
    HASHTAG_CHARS,
    HASHTAGS,
    MAX_SLOTS,
    SLOT_TIME,
    TEXT_CHARS,
    TITLE_CHARS,
    Draft,
    RunRequest,
)
from cadenza.calendar.scan import Scanner
from cadenza.errors import Reason

MAX_CONTENT_BYTES = 1024 * 1024


def _storable(text: str) -> str:
    if "\x00" in text:
        raise ValueError  # no database keeps it; pydantic makes this its own error
    return text


def _tags(given: object) -> object:
    """Take hashtags as a list, or as the one string that some models write."""
    if given is None:
        return []
    return given.replace(",", " ").split() if isinstance(given, str) else given


def _bare(tag: str) -> str:
    return tag.lstrip("#")


_Text = Annotated[str, AfterValidator(_storable)]
_Tag = Annotated[_Text, Field(max_length=HASHTAG_CHARS), AfterValidator(_bare)]


class _Line(BaseModel):
    """One object of the model; unknown keys are passed over, known ones are strict."""

    model_config = ConfigDict(
        strict=True, extra="ignore", hide_input_in_errors=True, str_strip_whitespace=True
    )

    id: object = None
    title: Annotated[_Text, Field(min_length=1, max_length=TITLE_CHARS)]
    channel: str
    format: Annotated[_Text | None, Field(max_length=FORMAT_CHARS)] = None
    text: Annotated[_Text | None, Field(alias="copy", max_length=TEXT_CHARS)] = None
    script: Annotated[_Text | None, Field(max_length=TEXT_CHARS)] = None
    audience: Annotated[_Text | None, Field(alias="targetAudience", max_length=AUDIENCE_CHARS)] = (
        None
    )
    date: dt.date
    time: Annotated[str | None, Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")] = None
    hashtags: Annotated[list[_Tag], BeforeValidator(_tags), Field(max_length=HASHTAGS)] = []


class Sieve:
    """Judges one run's output as it comes in; entries and rejections leave in the model's order.

    It is full, and wants no more, after MAX_SLOTS entries with another one coming, as many
    rejections, or MAX_CONTENT_BYTES. A model that ran on so far and left at least 80 % of the
    expected entries is taken to have completed; with fewer its output was invalid.
    """

    def __init__(self, request: RunRequest, *, expected: int) -> None:
        self._request = request
        self._expected = expected
        self._scanner = Scanner()
        self._seen: set[tuple[str, Draft]] = set()
        self._kept = 0
        self._rejected = 0
        self._overflowed = False
        self.content_bytes = 0
        self.content_chars = 0

    @property
    def is_full(self) -> bool:
        """Whether reading on could not improve the run."""
        return (
            self._overflowed or self._rejected > MAX_SLOTS or self.content_bytes > MAX_CONTENT_BYTES
        )

    def feed(self, text: str) -> Iterator[Drafted | Rejected]:
        """Yield what `text` completes, until the sieve is full."""
        self.content_chars += len(text)
        self.content_bytes += len(text.encode(errors="surrogatepass"))
        for found in self._scanner.feed(text):
            judged = self._judge(found)
            if isinstance(judged, Drafted) and self._kept == MAX_SLOTS:
                self._overflowed = True
            if self.is_full:
                return
            self._count(judged)
            yield judged

    def rest(self) -> Iterator[Rejected]:
        """Yield a rejection if the model said it was done in the middle of an object."""
        if self._scanner.is_inside:
            yield Rejected("unfinished")

    def cut_short(self) -> Ended:
        """Return the end of a run whose model was stopped because the sieve was full."""
        if is_enough(self._kept, self._expected):
            return Ended(status=RunStatus.COMPLETED)
        return Ended(status=RunStatus.FAILED, reason=Reason.PROVIDER_INVALID_OUTPUT)

    def _count(self, judged: Drafted | Rejected) -> None:
        if isinstance(judged, Drafted):
            self._kept += 1
        else:
            self._rejected += 1

    def _judge(self, found: str | None) -> Drafted | Rejected:
        if found is None:
            return Rejected("not_json")
        try:
            line = _Line.model_validate_json(_mended(found))
        except ValidationError as error:
            kind = error.errors(include_url=False, include_input=False, include_context=False)
            return Rejected("not_json" if kind[0]["type"] == "json_invalid" else "not_an_entry")
        return self._judge_line(line)

    def _judge_line(self, line: _Line) -> Drafted | Rejected:
        channel = line.channel.lower()
        if channel not in self._request.channels:
            return Rejected("unknown_channel")
        if not self._request.start <= line.date <= self._request.end:
            return Rejected("out_of_range")
        if not (line.text or line.script):
            return Rejected("not_an_entry")
        draft = self._draft(line, channel)
        # The model's id only tells a repetition from a second thought; it is nobody else's id.
        key = (repr(line.id), draft)
        if key in self._seen:
            return Rejected("duplicate")
        self._seen.add(key)
        return Drafted(draft)

    def _draft(self, line: _Line, channel: str) -> Draft:
        return Draft(
            title=line.title,
            channel=channel,
            format=line.format or "post",
            copy=line.text or "",
            script=line.script or None,
            target_audience=line.audience or None,
            date=line.date,
            time=line.time or SLOT_TIME,
            timezone=self._request.timezone,
            hashtags=tuple(tag for tag in line.hashtags if tag),
            media=(),  # a model has no media; an address it made up must never be published
        )


def _mended(text: str) -> str:
    """Join surrogate halves that a provider sent in two pieces, so that emoji survive."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
