"""What a run is asked for, the slots that follow from it, and the shape of one drafted entry."""

import calendar
import datetime as dt
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice

MAX_SLOTS = 200
SLOT_TIME = "09:00"

TITLE_CHARS = 200
TEXT_CHARS = 10_000
AUDIENCE_CHARS = 500
FORMAT_CHARS = 50
HASHTAGS = 60
HASHTAG_CHARS = 100


class Cadence(StrEnum):
    """How often each channel gets an entry."""

    DAILY = "daily"
    WEEKLY = "weekly"
    MONTHLY = "monthly"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """One wish for a calendar; `channels` are kept sorted and each once, whatever was given.

    `start` and `end` are both included. `timezone` is an IANA name; times are wall times in it.
    """

    channels: tuple[str, ...]
    cadence: Cadence
    start: dt.date
    end: dt.date
    timezone: str
    brief: str | None
    constraints: Mapping[str, object]

    def __post_init__(self) -> None:
        object.__setattr__(self, "channels", tuple(sorted(set(self.channels))))


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """One place in the calendar that wants an entry; `time` is `HH:MM` on the wall."""

    date: dt.date
    time: str
    channel: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """One entry as a generator proposes it, before it has an id; `time` is `HH:MM` on the wall.

    Hashtags come without their `#`.
    """

    title: str
    channel: str
    format: str
    copy: str
    script: str | None
    target_audience: str | None
    date: dt.date
    time: str
    timezone: str
    hashtags: tuple[str, ...]
    media: tuple[str, ...]


def slots(request: RunRequest) -> tuple[Slot, ...]:
    """Return one slot per channel per day, week or month, by date and then channel.

    Never more than MAX_SLOTS + 1, so that a far too long range is as cheap to refuse as a
    slightly too long one: a longer answer than MAX_SLOTS means too many.
    """
    wanted = (
        Slot(date=day, time=SLOT_TIME, channel=channel)
        for day in _days(request)
        for channel in request.channels
    )
    return tuple(islice(wanted, MAX_SLOTS + 1))


def _days(request: RunRequest) -> Iterator[dt.date]:
    if request.cadence is Cadence.MONTHLY:
        return _months(request.start, request.end)
    step = 7 if request.cadence is Cadence.WEEKLY else 1
    ordinals = range(request.start.toordinal(), request.end.toordinal() + 1, step)
    return map(dt.date.fromordinal, ordinals)


def _months(start: dt.date, end: dt.date) -> Iterator[dt.date]:
    for month in range(start.year * 12 + start.month - 1, end.year * 12 + end.month):
        year, index = divmod(month, 12)
        _, last = calendar.monthrange(year, index + 1)
        day = dt.date(year, index + 1, min(start.day, last))
        if day <= end:
            yield day
