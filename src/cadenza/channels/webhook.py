"""A webhook of one's own: the post as signed JSON, with a key that makes a repeat harmless.

Headers are those of Standard Webhooks (standardwebhooks.com), so that receivers can use a
library: `webhook-id` is the post's key, the signature is made when the call is.
"""

from dataclasses import dataclass

import orjson

from cadenza.channels.adapter import Account, FrozenRequest, Issue, Post, call, later
from cadenza.channels.fit import misfits
from cadenza.channels.limits import Confidence, Figure, Limits, Unit

_OURS = "ours: what a request body of ours may hold, 2026-11-23"

LIMITS = Limits(
    text=(Figure(at_most=65_536, unit=Unit.UTF8, source=_OURS, confidence=Confidence.INFERRED),),
    media_count=Figure(at_most=20, unit=Unit.MEDIA, source=_OURS, confidence=Confidence.INFERRED),
)


@dataclass(frozen=True, slots=True)
class Webhook:
    """The adapter: posts everything an entry has to the URL that is the account's handle."""

    name: str = "webhook"
    limits: Limits = LIMITS

    def validate(self, post: Post) -> tuple[Issue, ...]:
        """Return why we would not send this post: only that it is too big."""
        return misfits("The webhook", self.limits, post)

    def frozen_request(self, post: Post, account: Account) -> FrozenRequest:
        """Return the one signed call; `bytes` is its exact body, the text the signature covers."""
        body = {
            "type": "post.published",
            "timestamp": post.publish_at.isoformat().replace("+00:00", "Z"),
            "data": content(post),
        }
        headers = {
            "Content-Type": "application/json",
            "webhook-id": post.key,
            "webhook-timestamp": later("second of the call"),
            "webhook-signature": later("v1, HMAC-SHA256 of id, timestamp and body"),
        }
        exact = {"bytes": orjson.dumps(body).decode()}
        return {
            "channel": self.name,
            "account": account.handle,
            "key": post.key,
            "calls": [call("commit", account.handle, exact, headers=headers, verb="POST")],
        }


def content(post: Post) -> dict[str, object]:
    """Return all that a post says, as the receiver reads it."""
    return {
        "key": post.key,
        "title": post.title,
        "format": post.format,
        "text": post.text,
        "copy": post.copy,
        "script": post.script,
        "hashtags": list(post.hashtags),
        "media": [
            {
                "id": media.id,
                "mime": media.mime,
                "sizeBytes": media.size_bytes,
                "width": media.width,
                "height": media.height,
                "durationS": media.duration_s,
            }
            for media in post.media
        ],
    }
