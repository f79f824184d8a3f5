"""What a channel takes, as data: every figure with its unit, its source and how sure it is."""

from dataclasses import dataclass
from enum import StrEnum


class Unit(StrEnum):
    """What a figure counts, in words that fit a sentence."""

    UTF16 = "UTF-16 units"
    GRAPHEMES = "graphemes"
    UTF8 = "UTF-8 bytes"
    HASHTAGS = "hashtags"
    MENTIONS = "mentions"
    MEDIA = "media"
    BYTES = "bytes"
    SECONDS = "seconds"
    CENTI_RATIO = "hundredths of width by height"


class Confidence(StrEnum):
    """How we know a figure: its owner wrote it, a server showed it, or we take the safe side."""

    DOCUMENTED = "documented"
    OBSERVED = "observed"
    INFERRED = "inferred"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A range that something must stay in, both ends included, and where that is from."""

    at_most: int
    unit: Unit
    source: str
    confidence: Confidence
    at_least: int = 0

    def holds(self, value: float) -> bool:
        """Say whether a value is in the range."""
        return self.at_least <= value <= self.at_most


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaKind:
    """One kind of media a channel takes; a figure that is None is no limit of the channel."""

    mimes: frozenset[str]
    size_bytes: Figure
    duration_s: Figure | None = None
    ratio: Figure | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """All a channel's limits. No `kinds` means that media of any kind is passed on unread."""

    text: tuple[Figure, ...]
    media_count: Figure
    kinds: tuple[MediaKind, ...] = ()
    hashtags: Figure | None = None
    mentions: Figure | None = None
