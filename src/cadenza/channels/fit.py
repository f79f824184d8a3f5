"""Whether a post fits a channel's limits: one reading of the figures, for every channel."""

from collections.abc import Callable, Iterator

from cadenza.channels.adapter import Issue, IssueCode, Media, Post
from cadenza.channels.graphemes import grapheme_count
from cadenza.channels.limits import Figure, Limits, MediaKind, Unit
from cadenza.channels.text import SpanKind, spans, utf8_bytes, utf16_units

MEASURES: dict[Unit, Callable[[str], int]] = {
    Unit.UTF16: utf16_units,
    Unit.GRAPHEMES: grapheme_count,
    Unit.UTF8: utf8_bytes,
}


def misfits(label: str, limits: Limits, post: Post) -> tuple[Issue, ...]:
    """Return every limit the post breaks, each with a sentence saying by how much."""
    return (
        *_text_issues(label, limits, post),
        *_count_issues(label, limits, post),
        *_media_issues(label, limits, post),
    )


def _text_issues(label: str, limits: Limits, post: Post) -> Iterator[Issue]:
    for figure in limits.text:
        size = MEASURES[figure.unit](post.text)
        if size > figure.at_most:
            yield _over(
                "copy",
                figure,
                f"{label} takes {figure.at_most} {figure.unit} of text, hashtags included; this"
                f" has {size}. Shorten it by {size - figure.at_most}.",
            )


def _count_issues(label: str, limits: Limits, post: Post) -> Iterator[Issue]:
    found = [span.kind for span in spans(post.text)]
    for figure, kind, field in (
        (limits.hashtags, SpanKind.HASHTAG, "hashtags"),
        (limits.mentions, SpanKind.MENTION, "copy"),
    ):
        count = found.count(kind)
        if figure is not None and count > figure.at_most:
            yield _over(
                field,
                figure,
                f"{label} takes {figure.at_most} {figure.unit}; this has {count}."
                f" Take out {count - figure.at_most}.",
            )


def _media_issues(label: str, limits: Limits, post: Post) -> Iterator[Issue]:
    count, figure = len(post.media), limits.media_count
    if count < figure.at_least:
        yield Issue(
            code=IssueCode.MISSING_MEDIA,
            field="media",
            detail=f"{label} publishes nothing without {_wanted(limits)}. Attach one.",
            limit=figure.at_least,
        )
    if count > figure.at_most:
        yield _over(
            "media", figure, f"{label} takes at most {figure.at_most} media; this has {count}."
        )
    if limits.kinds:
        for media in post.media:
            yield from _one_media_issues(label, limits, media)


def _one_media_issues(label: str, limits: Limits, media: Media) -> Iterator[Issue]:
    kind = next((kind for kind in limits.kinds if media.mime in kind.mimes), None)
    if kind is None:
        yield Issue(
            code=IssueCode.CHANNEL_UNSUPPORTED,
            field="media",
            detail=f"{label} does not take {media.mime}. Use {_wanted(limits)}.",
        )
        return
    for figure, value, what in _measured(kind, media):
        if figure is not None and value is not None and not figure.holds(value):
            yield _over(
                "media",
                figure,
                f"{label} takes {what} of {figure.at_least} to {figure.at_most} {figure.unit};"
                f" this {media.mime} has {value:g}.",
            )


def _measured(kind: MediaKind, media: Media) -> Iterator[tuple[Figure | None, float | None, str]]:
    yield kind.size_bytes, media.size_bytes, "files"
    yield kind.duration_s, media.duration_s, "videos"
    if media.width and media.height:
        yield kind.ratio, 100 * media.width / media.height, "shapes"


def _wanted(limits: Limits) -> str:
    return " or ".join(sorted(mime for kind in limits.kinds for mime in kind.mimes))


def _over(field: str, figure: Figure, detail: str) -> Issue:
    return Issue(code=IssueCode.OVER_LIMIT, field=field, detail=detail, limit=figure.at_most)
