"""What a channel is: limits as data, a pure check, and the exact request it would be sent.

The verbs that speak to the network (auth, next step, reconcile, unpublish) join this Protocol
with live publishing; nothing here sends anything.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol, TypedDict
from uuid import UUID

from cadenza.channels.limits import Limits
from cadenza.channels.text import with_hashtags


class Call(TypedDict):
    """One remote call as it would be made; `step` is prepare or commit, the commit publishes."""

    step: str
    method: str
    url: str
    headers: dict[str, object]
    body: dict[str, object]


class FrozenRequest(TypedDict):
    """All calls that would publish one post on one account, in order."""

    channel: str
    account: str
    key: str
    calls: list[Call]


class AccountState(StrEnum):
    """Whether an account can be published to, as last seen."""

    CONNECTED = "connected"
    MISSING = "missing"
    EXPIRED = "expired"
    REVOKED = "revoked"
    SCOPE_MISSING = "scope_missing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """One user's account on one channel; `handle` is its name there, a webhook's its URL."""

    id: UUID
    channel: str
    handle: str
    time_zone: str
    state: AccountState


@dataclass(frozen=True, slots=True, kw_only=True)
class Media:
    """A stored picture or video; what is not known of it is None and is not checked here."""

    id: str
    mime: str
    size_bytes: int | None = None
    width: int | None = None
    height: int | None = None
    duration_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Post:
    """What is to be published once: one version of one entry, at one instant.

    `key` is the same for every try of the same post and different for any other, whoever
    computes it; channels turn it into whatever keeps them from posting twice.
    """

    key: str
    publish_at: datetime
    copy: str
    title: str = ""
    format: str = "post"
    script: str | None = None
    hashtags: tuple[str, ...] = ()
    media: tuple[Media, ...] = field(default=())

    @property
    def text(self) -> str:
        """Return the text as it is published: the copy, then the hashtags it lacks."""
        return with_hashtags(self.copy, self.hashtags)


class IssueCode(StrEnum):
    """Why a channel would not take a post; the words of the publish contract."""

    OVER_LIMIT = "OVER_LIMIT"
    MISSING_MEDIA = "MISSING_MEDIA"
    CHANNEL_UNSUPPORTED = "CHANNEL_UNSUPPORTED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Issue:
    """One reason a channel would refuse a post: the field, the cure as a sentence, the limit."""

    code: IssueCode
    field: str
    detail: str
    limit: int | None = None


class ChannelAdapter(Protocol):
    """One social network. Adapters keep no state, read no clock and never raise on any content."""

    @property
    def name(self) -> str:
        """Return the channel's name: an entry's `channel`, a metric's label."""
        ...

    @property
    def limits(self) -> Limits:
        """Return what the channel takes, each figure with where it is from."""
        ...

    def validate(self, post: Post) -> tuple[Issue, ...]:
        """Return every reason the channel would refuse this post; empty when there is none."""
        ...

    def frozen_request(self, post: Post, account: Account) -> FrozenRequest:
        """Return the calls that would publish this post, in order, as JSON without secrets.

        Equal posts give equal requests. A value that exists only once the calls are made (a
        token, an upload address, the id of a draft there) stands as `{"$later": "what it is"}`.
        """
        ...


def later(what: str) -> dict[str, str]:
    """Return the stand-in for a value that exists only when the call is made."""
    return {"$later": what}


def call(
    step: str, url: str, body: Mapping[str, object], *, headers: Mapping[str, object], verb: str
) -> Call:
    """Return one remote call of a frozen request."""
    return {
        "step": step,
        "method": verb,
        "url": url,
        "headers": dict(headers),
        "body": dict(body),
    }
