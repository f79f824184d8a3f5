"""Whether an entry can be published on an account, and the sentence that says what to do if not.

Pure: everything it judges is handed to it. The first reason found is the answer, in this order:
channel, review, account, an earlier intent, content, time.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

import orjson

from cadenza.channels.adapter import (
    Account,
    AccountState,
    ChannelAdapter,
    FrozenRequest,
    Issue,
    Post,
)
from cadenza.publish.model import IntentState, Mode, PublishCode, SavedEntry, instant, media_of

LATE_LIMIT = timedelta(minutes=30)
# So that an instant in any zone, and the half hour after it, is still a date.
_FIRST_DAY, _LAST_DAY = date(1, 1, 3), date(9999, 12, 29)


@dataclass(frozen=True, slots=True, kw_only=True)
class Earlier:
    """The live intent that an entry already has on an account, and is not replaced."""

    id: UUID
    state: IntentState


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What entries are judged against. `named` are the accounts asked for, None for any."""

    adapters: Mapping[str, ChannelAdapter]
    accounts: Sequence[Account]
    named: frozenset[UUID] | None
    earlier: Mapping[tuple[UUID, UUID], Earlier]
    mode: Mode
    asked_live: bool
    again: bool
    now: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why not, in the contract's word and in a sentence with the cure."""

    code: PublishCode
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """A post that can be published as it is; `remark` is worth knowing and stops nothing."""

    post: Post
    request: FrozenRequest
    not_after: datetime
    replaces: UUID | None
    remark: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One entry on one account. `account` is None when no account could be chosen."""

    entry: SavedEntry
    account: Account | None
    found: Ready | Refusal
    earlier: Earlier | None = None


def preflight(entries: Sequence[SavedEntry], world: World) -> list[Verdict]:
    """Return a verdict per entry and account, in the order of the entries."""
    return [verdict for entry in entries for verdict in _verdicts(entry, world)]


def _verdicts(entry: SavedEntry, world: World) -> Iterator[Verdict]:
    adapter = world.adapters.get(entry.channel)
    if adapter is None:
        yield Verdict(entry=entry, account=None, found=_unsupported(entry, world))
        return
    if entry.needs_review:
        yield Verdict(entry=entry, account=None, found=_not_reviewed())
        return
    chosen = _choose(entry, world)
    if isinstance(chosen, Refusal):
        yield Verdict(entry=entry, account=None, found=chosen)
        return
    for account in chosen:
        yield _judge(entry, account, adapter, world)


def _judge(entry: SavedEntry, account: Account, adapter: ChannelAdapter, world: World) -> Verdict:
    """Judge one entry on one account that was chosen for it."""
    earlier = world.earlier.get((entry.id, account.id))
    if refusal := _auth(account):
        return Verdict(entry=entry, account=account, found=refusal)
    if earlier and world.asked_live and not world.again:
        return Verdict(entry=entry, account=account, found=_already(earlier), earlier=earlier)
    replaces = earlier.id if earlier and world.again else None
    post = post_of(entry, account, replaces=replaces)
    if issues := adapter.validate(post):
        return Verdict(entry=entry, account=account, found=_content(issues))
    is_past = post.publish_at < world.now
    if is_past and world.mode is Mode.LIVE:
        return Verdict(entry=entry, account=account, found=_past(post.publish_at))
    ready = Ready(
        post=post,
        request=adapter.frozen_request(post, account),
        not_after=post.publish_at + LATE_LIMIT,
        replaces=replaces,
        remark=_past_remark(post.publish_at) if is_past else None,
    )
    return Verdict(entry=entry, account=account, found=ready)


def publish_instant(entry: SavedEntry) -> datetime:
    """Return the UTC instant of an entry's wall time in its zone.

    Where the clocks go forward, a time that does not exist moves on by the gap; where they go
    back, a time that exists twice means its first.
    """
    day = min(max(entry.date, _FIRST_DAY), _LAST_DAY)
    wall = datetime.combine(day, entry.time, ZoneInfo(entry.timezone))
    return wall.replace(fold=0).astimezone(UTC)


def post_of(entry: SavedEntry, account: Account, *, replaces: UUID | None) -> Post:
    """Return the post that one version of an entry is on one account.

    A dry run and a later live publish of the same version give the same key, so the same bytes;
    asking for it *again* after a live one gives another, so that it is another post.
    """
    key = f"{entry.id}:{account.id}:{entry.version}" + (f":{replaces}" if replaces else "")
    return Post(
        key=key,
        publish_at=publish_instant(entry),
        copy=entry.copy,
        title=entry.title,
        format=entry.format,
        script=entry.script,
        hashtags=entry.hashtags,
        media=tuple(map(media_of, entry.media)),
    )


def digest(request: Mapping[str, object]) -> str:
    """Return the hex sha256 of a frozen request as compact UTF-8 JSON with sorted keys."""
    return hashlib.sha256(orjson.dumps(request, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _choose(entry: SavedEntry, world: World) -> Sequence[Account] | Refusal:
    """Return the accounts an entry goes to: those named on its channel, or the only one."""
    there = [account for account in world.accounts if account.channel == entry.channel]
    if world.named is not None:
        named = [account for account in there if account.id in world.named]
        return named or Refusal(
            code=PublishCode.CHANNEL_AUTH_MISSING,
            detail=f"None of the accounts named is on {entry.channel}. Add one of that channel"
            " to accountIds, or leave accountIds out.",
        )
    if not there:
        return Refusal(
            code=PublishCode.CHANNEL_AUTH_MISSING,
            detail=f"No {entry.channel} account is connected. Connect one, then publish again.",
        )
    if len(there) > 1:
        return Refusal(
            code=PublishCode.ACCOUNT_AMBIGUOUS,
            detail=f"There are {len(there)} {entry.channel} accounts. Name the one you mean in"
            " accountIds.",
        )
    return there


_AUTH: dict[AccountState, tuple[PublishCode, str]] = {
    AccountState.MISSING: (PublishCode.CHANNEL_AUTH_MISSING, "has no authorisation. Connect it."),
    AccountState.EXPIRED: (
        PublishCode.CHANNEL_AUTH_EXPIRED,
        "has an authorisation that expired. Connect it again.",
    ),
    AccountState.REVOKED: (
        PublishCode.CHANNEL_AUTH_EXPIRED,
        "has an authorisation that was revoked on the channel. Connect it again.",
    ),
    AccountState.SCOPE_MISSING: (
        PublishCode.CHANNEL_SCOPE_MISSING,
        "may not publish. Connect it again and grant publishing.",
    ),
}


def _auth(account: Account) -> Refusal | None:
    if account.state is AccountState.CONNECTED:
        return None
    code, rest = _AUTH[account.state]
    return Refusal(code=code, detail=f"The {account.channel} account {account.handle} {rest}")


def _unsupported(entry: SavedEntry, world: World) -> Refusal:
    return Refusal(
        code=PublishCode.CHANNEL_UNSUPPORTED,
        detail=f"There is no channel {entry.channel!r}. Change the entry's channel to one of"
        f" {', '.join(world.adapters)}.",
    )


def _not_reviewed() -> Refusal:
    return Refusal(
        code=PublishCode.RUN_NOT_REVIEWED,
        detail="The run that wrote this entry did not end well, and nobody has looked since."
        " Edit the entry or save the calendar, even unchanged, then publish again.",
    )


def _already(earlier: Earlier) -> Refusal:
    if earlier.state is IntentState.PUBLISHED:
        return Refusal(
            code=PublishCode.ALREADY_PUBLISHED,
            detail="This entry is published on this account. To post it once more, publish with"
            " again: true.",
        )
    return Refusal(
        code=PublishCode.ALREADY_SCHEDULED,
        detail=f"This entry already has an intent on this account ({earlier.state}). Look at"
        " that one, cancel it, or publish with again: true.",
    )


def _content(issues: Sequence[Issue]) -> Refusal:
    """Return one refusal for all of a post's issues: the first one's code, every sentence."""
    return Refusal(
        code=PublishCode(issues[0].code), detail=" ".join(issue.detail for issue in issues)
    )


def _past(at: datetime) -> Refusal:
    return Refusal(
        code=PublishCode.IN_THE_PAST,
        detail=f"Its time, {instant(at)}, has passed. Move the entry to a time to come.",
    )


def _past_remark(at: datetime) -> str:
    return (
        f"Its time, {instant(at)}, has passed: a dry run shows it all the same, a live publish"
        " would refuse it (IN_THE_PAST)."
    )
