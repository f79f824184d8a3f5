"""Instagram by its Graph API: containers are prepared unseen, one call publishes.

Publishing is `media_publish` alone; everything before it makes drafts that die unseen after 24
hours. Meta fetches media itself, so each stands in the request as a public address given later.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cadenza.channels.adapter import Account, Call, FrozenRequest, Issue, Media, Post, call, later
from cadenza.channels.fit import misfits
from cadenza.channels.limits import Confidence, Figure, Limits, MediaKind, Unit

_API = "https://graph.instagram.com/v24.0/{igUserId}"
_MEDIA_DOC = "Meta, IG User Media reference, read 2026-11-23"
_MIB = 1024 * 1024

LIMITS = Limits(
    text=(
        Figure(
            at_most=2200,
            unit=Unit.UTF16,
            source=f"{_MEDIA_DOC}: 2,200 characters, unit not given; counted the strict way",
            confidence=Confidence.INFERRED,
        ),
    ),
    hashtags=Figure(
        at_most=30,
        unit=Unit.HASHTAGS,
        source=_MEDIA_DOC,
        confidence=Confidence.DOCUMENTED,
    ),
    mentions=Figure(
        at_most=20,
        unit=Unit.MENTIONS,
        source=_MEDIA_DOC,
        confidence=Confidence.DOCUMENTED,
    ),
    media_count=Figure(
        at_least=1,
        at_most=10,
        unit=Unit.MEDIA,
        source="Meta, Content Publishing guide (carousel: 2 to 10 children), read 2026-11-23",
        confidence=Confidence.DOCUMENTED,
    ),
    kinds=(
        MediaKind(
            mimes=frozenset({"image/jpeg"}),
            size_bytes=Figure(
                at_most=8 * _MIB,
                unit=Unit.BYTES,
                source=_MEDIA_DOC,
                confidence=Confidence.DOCUMENTED,
            ),
            ratio=Figure(
                at_least=80,
                at_most=191,
                unit=Unit.CENTI_RATIO,
                source=f"{_MEDIA_DOC}: 4:5 to 1.91:1",
                confidence=Confidence.DOCUMENTED,
            ),
        ),
        MediaKind(
            mimes=frozenset({"video/mp4", "video/quicktime"}),
            size_bytes=Figure(
                at_most=300_000_000,
                unit=Unit.BYTES,
                source=f"{_MEDIA_DOC}, Reels: 300 MB, taken as the smaller megabyte",
                confidence=Confidence.INFERRED,
            ),
            duration_s=Figure(
                at_least=3,
                at_most=15 * 60,
                unit=Unit.SECONDS,
                source=f"{_MEDIA_DOC}, Reels",
                confidence=Confidence.DOCUMENTED,
            ),
        ),
    ),
)


@dataclass(frozen=True, slots=True)
class Instagram:
    """The adapter: a picture, a reel, a story, or a carousel of two to ten."""

    name: str = "instagram"
    limits: Limits = LIMITS

    def validate(self, post: Post) -> tuple[Issue, ...]:
        """Return why Instagram would refuse this post."""
        return misfits("Instagram", self.limits, post)

    def frozen_request(self, post: Post, account: Account) -> FrozenRequest:
        """Return the containers, the wait for the last one, and the call that publishes it."""
        containers = [_post("prepare", "media", body) for body in _containers(post)]
        publish = {"creation_id": later("id of the last container")}
        return {
            "channel": self.name,
            "account": account.handle,
            "key": post.key,
            "calls": [*containers, _post("commit", "media_publish", publish)],
        }


def _containers(post: Post) -> list[dict[str, object]]:
    if len(post.media) == 1:
        return [_single(post, post.media[0])]
    children: list[dict[str, object]] = [
        {**_source(media), "is_carousel_item": "true"} for media in post.media
    ]
    return [*children, _carousel(post.text, post.media)]


def _single(post: Post, media: Media) -> dict[str, object]:
    """Return a lone container; a story has no caption, a video is otherwise a reel."""
    if post.format == "story":
        return {**_source(media), "media_type": "STORIES"}
    kind = {"media_type": "REELS"} if _is_video(media) else {}
    return {**_source(media), **kind, "caption": post.text}


def _carousel(caption: str, media: Sequence[Media]) -> dict[str, object]:
    children = [later(f"id of the container of media {item.id}") for item in media]
    return {"media_type": "CAROUSEL", "children": children, "caption": caption}


def _source(media: Media) -> dict[str, object]:
    field = "video_url" if _is_video(media) else "image_url"
    address = later(f"public address of media {media.id}")
    return {field: media.id if media.id.startswith("https://") else address}


def _is_video(media: Media) -> bool:
    return media.mime.startswith("video/")


def _post(step: str, edge: str, body: Mapping[str, object]) -> Call:
    headers = {"Authorization": later("bearer token of the account")}
    return call(step, f"{_API}/{edge}", body, headers=headers, verb="POST")
