"""Text as channels see it: its lengths, its hashtags, mentions and links, and where they stand."""

import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

_TAG_CATEGORIES = frozenset({"So", "Sk"})
_JOINER = "\u200d"
_LINKS = ("https://", "http://")
_TRAILING = ".,;:!?'\"\u201c\u201d\u2018\u2019\u00bb"  # with the curly quotes
_OPENING = "([{<\"'\u201c\u2018\u00ab"
_BMP_END = 0xFFFF
_HANDLE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")


def utf16_units(text: str) -> int:
    """Return how many UTF-16 code units a text has: what JavaScript calls its length."""
    return len(text) + sum(1 for char in text if ord(char) > _BMP_END)


def utf8_bytes(text: str) -> int:
    """Return how many bytes a text has in UTF-8."""
    return len(text.encode(errors="surrogatepass"))


class SpanKind(StrEnum):
    """What a stretch of text is to a channel."""

    LINK = "link"
    MENTION = "mention"
    HASHTAG = "hashtag"


@dataclass(frozen=True, slots=True)
class Span:
    """A link, mention or hashtag in a text, from `start` to before `end`, in code points.

    `value` is the link's address, the mention's handle without @, the hashtag without #.
    """

    kind: SpanKind
    start: int
    end: int
    value: str


def clean_tag(tag: str) -> str:
    """Return a hashtag without # and without what would end it on the channels.

    Letters, digits, marks, `_` and emoji stay; spaces and all other signs go, so that
    `new york` and `#new-york` are both published as #newyork.
    """
    return "".join(filter(_is_tag_char, tag))


def with_hashtags(copy: str, hashtags: Iterable[str]) -> str:
    """Return the copy followed, after a blank line, by the hashtags it does not have yet.

    Tags are compared without case, kept in their order and added once. A copy that already
    holds all of them is returned unchanged, so doing it twice is doing it once.
    """
    present = {span.value.casefold() for span in spans(copy) if span.kind is SpanKind.HASHTAG}
    added: list[str] = []
    for tag in map(clean_tag, hashtags):
        if _is_tag(tag) and tag.casefold() not in present:
            present.add(tag.casefold())
            added.append(f"#{tag}")
    if not added:
        return copy
    return "\n\n".join(filter(None, (copy.rstrip(), " ".join(added))))


def spans(text: str) -> list[Span]:
    """Return the links, mentions and hashtags of a text, in order, never overlapping."""
    found: list[Span] = []
    at = 0
    while at < len(text):
        span = _span_at(text, at) if at == 0 or _opens(text[at - 1]) else None
        if span is None:
            at += 1
        else:
            found.append(span)
            at = span.end
    return found


def _span_at(text: str, at: int) -> Span | None:
    if text[at] == "#":
        return _hashtag(text, at)
    if text[at] == "@":
        return _mention(text, at)
    return _link(text, at) if text.startswith(_LINKS, at) else None


def _hashtag(text: str, at: int) -> Span | None:
    tag = "".join(_run(text, at + 1))
    return Span(SpanKind.HASHTAG, at, at + 1 + len(tag), tag) if _is_tag(tag) else None


def _mention(text: str, at: int) -> Span | None:
    end = at + 1
    while end < len(text) and text[end] in _HANDLE:
        end += 1
    handle = text[at + 1 : end].rstrip("._-")
    return Span(SpanKind.MENTION, at, at + 1 + len(handle), handle) if handle else None


def _link(text: str, at: int) -> Span | None:
    end = at
    while end < len(text) and not text[end].isspace():
        end += 1
    url = text[at:end].rstrip(_TRAILING)
    if url.count(")") > url.count("("):
        url = url[:-1]
    return Span(SpanKind.LINK, at, at + len(url), url) if len(url) > len(_LINKS[0]) else None


def _run(text: str, at: int) -> Iterator[str]:
    while at < len(text) and _is_tag_char(text[at]):
        yield text[at]
        at += 1


def _is_tag(tag: str) -> bool:
    """Say whether cleaned text makes a hashtag: something in it, and not digits alone."""
    return bool(tag) and not tag.isdigit()


def _is_tag_char(char: str) -> bool:
    category = unicodedata.category(char)
    return category[0] in "LNM" or category in _TAG_CATEGORIES or char in {"_", _JOINER}


def _opens(before: str) -> bool:
    """Say whether a link, mention or hashtag may begin after this character."""
    return before.isspace() or before in _OPENING
