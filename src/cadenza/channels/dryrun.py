"""The channel that goes nowhere: it takes any post and keeps what it was given.

Not to be confused with the dry-run *mode*, which every channel has. This channel is published
to for real, by the same path, so that a canary can prove the path without an audience.
"""

from dataclasses import dataclass

from cadenza.channels.adapter import Account, FrozenRequest, Issue, Post, call
from cadenza.channels.fit import misfits
from cadenza.channels.limits import Confidence, Figure, Limits, Unit

_OURS = "ours: what a request body of ours may hold, 2026-11-23"

LIMITS = Limits(
    text=(Figure(at_most=65_536, unit=Unit.UTF8, source=_OURS, confidence=Confidence.INFERRED),),
    media_count=Figure(at_most=20, unit=Unit.MEDIA, source=_OURS, confidence=Confidence.INFERRED),
)


@dataclass(frozen=True, slots=True)
class DryRun:
    """The adapter: keeps the text and the media's ids."""

    name: str = "dryrun"
    limits: Limits = LIMITS

    def validate(self, post: Post) -> tuple[Issue, ...]:
        """Return why we would not keep this post: only that it is too big."""
        return misfits("The dry-run channel", self.limits, post)

    def frozen_request(self, post: Post, account: Account) -> FrozenRequest:
        """Return the one call, which never leaves this process."""
        body = {
            "publishAt": post.publish_at.isoformat().replace("+00:00", "Z"),
            "title": post.title,
            "format": post.format,
            "text": post.text,
            "media": [media.id for media in post.media],
        }
        return {
            "channel": self.name,
            "account": account.handle,
            "key": post.key,
            "calls": [call("commit", "dryrun:", body, headers={}, verb="KEEP")],
        }
