"""TikTok by its Content Posting API: one video, uploaded by us.

The file is always sent from here (FILE_UPLOAD): opening the upload publishes nothing, the last
piece does, and by then its publish id is known. A lost answer can so be looked up.
"""

from dataclasses import dataclass

from cadenza.channels.adapter import Account, Call, FrozenRequest, Issue, Media, Post, call, later
from cadenza.channels.fit import misfits
from cadenza.channels.limits import Confidence, Figure, Limits, MediaKind, Unit

_INIT = "https://open.tiktokapis.com/v2/post/publish/video/init/"
_POST_DOC = "TikTok, Content Posting API, Direct Post reference, read 2026-11-23"
_MEDIA_DOC = "TikTok, Content Posting API, Media Transfer Guide, read 2026-11-23"

WHOLE_BYTES = 64_000_000
CHUNK_BYTES = 32_000_000

LIMITS = Limits(
    text=(
        Figure(
            at_most=2200,
            unit=Unit.UTF16,
            source=f"{_POST_DOC}: post_info.title",
            confidence=Confidence.DOCUMENTED,
        ),
    ),
    media_count=Figure(
        at_least=1,
        at_most=1,
        unit=Unit.MEDIA,
        source=f"{_POST_DOC}: one video; photos are another call, not offered yet",
        confidence=Confidence.DOCUMENTED,
    ),
    kinds=(
        MediaKind(
            mimes=frozenset({"video/mp4", "video/quicktime", "video/webm"}),
            size_bytes=Figure(
                at_least=1,
                at_most=4_000_000_000,
                unit=Unit.BYTES,
                source=f"{_MEDIA_DOC}: 4 GB, taken as the smaller gigabyte",
                confidence=Confidence.INFERRED,
            ),
            duration_s=Figure(
                at_most=10 * 60,
                unit=Unit.SECONDS,
                source=f"{_MEDIA_DOC}; the creator's own maximum may be lower",
                confidence=Confidence.DOCUMENTED,
            ),
        ),
    ),
)


@dataclass(frozen=True, slots=True)
class TikTok:
    """The adapter: one video with a text."""

    name: str = "tiktok"
    limits: Limits = LIMITS

    def validate(self, post: Post) -> tuple[Issue, ...]:
        """Return why TikTok would refuse this post."""
        return misfits("TikTok", self.limits, post)

    def frozen_request(self, post: Post, account: Account) -> FrozenRequest:
        """Return the opening of the upload and its pieces; the last piece publishes.

        Visible to the account alone: the only audience an app has before TikTok's audit.
        """
        pieces = [piece for media in post.media for piece in _pieces(media)]
        return {
            "channel": self.name,
            "account": account.handle,
            "key": post.key,
            "calls": [_init(post), *pieces],
        }


def chunks(size_bytes: int) -> tuple[int, int]:
    """Return piece size and number of pieces for a file, by the Media Transfer Guide.

    Up to 64 MB go in one piece; above, in pieces of 32 MB, the last one taking the remainder.
    """
    if size_bytes <= WHOLE_BYTES:
        return size_bytes, 1
    return CHUNK_BYTES, size_bytes // CHUNK_BYTES


def _init(post: Post) -> Call:
    body = {
        "post_info": {
            "title": post.text,
            "privacy_level": "SELF_ONLY",
            "disable_comment": False,
            "disable_duet": False,
            "disable_stitch": False,
        },
        "source_info": {"source": "FILE_UPLOAD", **_source(post.media)},
    }
    headers = {
        "Authorization": later("bearer token of the account"),
        "Content-Type": "application/json; charset=UTF-8",
    }
    return call("prepare", _INIT, body, headers=headers, verb="POST")


def _source(media: tuple[Media, ...]) -> dict[str, object]:
    size = media[0].size_bytes if media else None
    if size is None:
        unknown = later("size of the file")
        return {"video_size": unknown, "chunk_size": unknown, "total_chunk_count": unknown}
    chunk_size, count = chunks(size)
    return {"video_size": size, "chunk_size": chunk_size, "total_chunk_count": count}


def _pieces(media: Media) -> list[Call]:
    if media.size_bytes is None:
        return [_piece(media, later("the file's range"), is_last=True)]
    size, (chunk_size, count) = media.size_bytes, chunks(media.size_bytes)
    firsts = [index * chunk_size for index in range(count)]
    lasts = [*(first - 1 for first in firsts[1:]), size - 1]
    return [
        _piece(media, f"bytes {first}-{last}/{size}", is_last=last == size - 1)
        for first, last in zip(firsts, lasts, strict=True)
    ]


def _piece(media: Media, content_range: object, *, is_last: bool) -> Call:
    headers = {"Content-Type": media.mime, "Content-Range": content_range}
    body = {"bytes": later(f"that range of media {media.id}")}
    return call(
        "commit" if is_last else "prepare", "{uploadUrl}", body, headers=headers, verb="PUT"
    )
