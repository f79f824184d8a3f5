"""Bluesky by the AT protocol: one record under a name that we choose, so it can be put twice.

The record's key is derived from the post, and `swapRecord: null` lets the put succeed only where
nothing stands or the very same record does: a repeated put cannot make a second post.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from cadenza.channels.adapter import Account, Call, FrozenRequest, Issue, Media, Post, call, later
from cadenza.channels.fit import misfits
from cadenza.channels.limits import Confidence, Figure, Limits, MediaKind, Unit
from cadenza.channels.text import Span, SpanKind, spans, utf8_bytes

_XRPC = "{pds}/xrpc/"
_POST = "app.bsky.feed.post"
_FACET = "app.bsky.richtext.facet"
_LEXICON = f"Bluesky, lexicon {_POST}, and a PDS 0.5.35, 2026-11-23"
_SORTABLE = "234567abcdefghijklmnopqrstuvwxyz"
_TAG_BYTES = 640

LIMITS = Limits(
    text=(
        Figure(at_most=300, unit=Unit.GRAPHEMES, source=_LEXICON, confidence=Confidence.OBSERVED),
        Figure(at_most=3000, unit=Unit.UTF8, source=_LEXICON, confidence=Confidence.OBSERVED),
    ),
    media_count=Figure(
        at_most=4,
        unit=Unit.MEDIA,
        source="Bluesky, lexicon app.bsky.embed.images, read 2026-11-23",
        confidence=Confidence.DOCUMENTED,
    ),
    kinds=(
        MediaKind(
            mimes=frozenset({"image/jpeg", "image/png", "image/webp"}),
            size_bytes=Figure(
                at_most=2_000_000,
                unit=Unit.BYTES,
                source="a PDS 0.5.35: 1.5 MB taken, 2.05 MB refused, 2026-11-23",
                confidence=Confidence.OBSERVED,
            ),
        ),
    ),
)


@dataclass(frozen=True, slots=True)
class Bluesky:
    """The adapter: a short text with links, hashtags and mentions, and up to four pictures."""

    name: str = "bluesky"
    limits: Limits = LIMITS

    def validate(self, post: Post) -> tuple[Issue, ...]:
        """Return why Bluesky would refuse this post."""
        return misfits("Bluesky", self.limits, post)

    def frozen_request(self, post: Post, account: Account) -> FrozenRequest:
        """Return the pictures' uploads and the put of the record."""
        body = {
            "repo": account.handle,
            "collection": _POST,
            "rkey": record_key(post.publish_at, post.key),
            "swapRecord": None,
            "record": _record(post),
        }
        return {
            "channel": self.name,
            "account": account.handle,
            "key": post.key,
            "calls": [
                *map(_upload, post.media),
                _call("commit", "com.atproto.repo.putRecord", body, "application/json"),
            ],
        }


def record_key(publish_at: datetime, key: str) -> str:
    """Return the record's key: a TID, as the protocol demands, the same for the same post.

    Its 53 bits of microseconds are the instant's second and 20 bits of the post's key, its 10
    bits of clock id ten more of them.
    """
    digest = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8])
    micros = int(publish_at.timestamp()) * 1_000_000 + (digest >> 10) % 1_000_000
    number = micros << 10 | digest & 0x3FF
    return "".join(_SORTABLE[number >> shift & 31] for shift in range(60, -1, -5))


def facets(text: str) -> list[dict[str, object]]:
    """Return the features of a text at their UTF-8 byte offsets.

    A mention's account is known only once its handle is looked up; a hashtag longer than the
    lexicon's 640 bytes stays plain text.
    """
    return [
        {
            "index": {
                "byteStart": utf8_bytes(text[: span.start]),
                "byteEnd": utf8_bytes(text[: span.end]),
            },
            "features": [_feature(span)],
        }
        for span in spans(text)
        if _is_feature(span)
    ]


def _is_feature(span: Span) -> bool:
    if span.kind is SpanKind.MENTION:
        return "." in span.value
    return span.kind is not SpanKind.HASHTAG or utf8_bytes(span.value) <= _TAG_BYTES


def _feature(span: Span) -> dict[str, object]:
    if span.kind is SpanKind.LINK:
        return {"$type": f"{_FACET}#link", "uri": span.value}
    if span.kind is SpanKind.HASHTAG:
        return {"$type": f"{_FACET}#tag", "tag": span.value}
    return {"$type": f"{_FACET}#mention", "did": later(f"account of @{span.value}")}


def _record(post: Post) -> dict[str, object]:
    record: dict[str, object] = {
        "$type": _POST,
        "text": post.text,
        "createdAt": post.publish_at.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
    }
    if found := facets(post.text):
        record["facets"] = found
    if post.media:
        images = [_image(post.title, media) for media in post.media]
        record["embed"] = {"$type": "app.bsky.embed.images", "images": images}
    return record


def _image(alt: str, media: Media) -> dict[str, object]:
    image: dict[str, object] = {"alt": alt, "image": later(f"blob of media {media.id}")}
    if media.width and media.height:
        image["aspectRatio"] = {"width": media.width, "height": media.height}
    return image


def _upload(media: Media) -> Call:
    body = {"bytes": later(f"media {media.id}")}
    return _call("prepare", "com.atproto.repo.uploadBlob", body, media.mime)


def _call(step: str, method: str, body: Mapping[str, object], mime: str) -> Call:
    headers = {"Authorization": later("session of the account"), "Content-Type": mime}
    return call(step, _XRPC + method, body, headers=headers, verb="POST")
