"""Publishing a calendar: from the latest saved entries to intents with their frozen requests.

In this release every intent is a dry run: the same path to the last byte, and nothing is sent.
A repeated dry run makes a new record each time; only live intents are unique per entry and
account.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from uuid_utils.compat import uuid7

from cadenza.channels.registry import ADAPTERS
from cadenza.channels.store import list_accounts
from cadenza.db.pool import Conn, become_user, become_worker
from cadenza.errors import Conflict, Invalid, Mistake, NotFound, Reason
from cadenza.events import IntentFinished, Lane, Verdict
from cadenza.flags.evaluate import Decision
from cadenza.flags.policy import REQUIRES
from cadenza.publish import store
from cadenza.publish.model import Intent, IntentState, Mode, SavedEntry, entry_status
from cadenza.publish.preflight import Ready, Refusal, World, digest, preflight
from cadenza.publish.preflight import Verdict as Found

REFUSED = "refused"
ACTOR = "user"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What a user asks to publish. No `entry_ids` means every entry, no `account_ids` any account.

    `again` asks for another post of what is live already; it changes nothing about a dry run's
    freedom to be repeated.
    """

    calendar_id: UUID
    entry_ids: tuple[UUID, ...] | None = None
    account_ids: tuple[UUID, ...] | None = None
    dry_run: bool = False
    again: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Who asked, in which request, in which lane."""

    user_id: UUID
    request_id: str
    lane: Lane = Lane.LIVE


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What became of one entry on one account."""

    entry_id: UUID
    account_id: UUID | None
    intent_id: UUID | None
    state: str
    mode: Mode
    code: str | None
    detail: str | None

    def as_wire(self) -> dict[str, object]:
        """Return the contract's JSON shape."""
        return {
            "entryId": str(self.entry_id),
            "accountId": None if self.account_id is None else str(self.account_id),
            "intentId": None if self.intent_id is None else str(self.intent_id),
            "state": self.state,
            "mode": self.mode.value,
            "code": self.code,
            "detail": self.detail,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Created:
    """What a publish answers, on which channels, and the events to record once it is committed."""

    results: tuple[Result, ...]
    channels: tuple[str, ...]
    finished: tuple[IntentFinished, ...]

    @property
    def is_accepted(self) -> bool:
        """Say whether any entry has an intent now: made by this publish, or the one it had."""
        return any(result.intent_id is not None for result in self.results)


async def create_intents(
    conn: Conn,
    ask: Ask,
    *,
    decision: Decision,
    origin: Origin,
    now: datetime | None = None,
    new_id: Callable[[], UUID] = uuid7,
) -> Created:
    """Make an intent of each entry that can be published, in the caller's user transaction.

    The entries are read as the user, the intents written as the worker; then the transaction is
    the user's again. Raises NotFound for a calendar that is not theirs, Invalid for ids that are
    not in it, Conflict SCHEMA_BEHIND where a live publish was decided: sending is not shipped.
    """
    now = now or datetime.now(UTC)
    _refuse_live(ask, decision)
    saved = await store.saved_entries(conn, ask.calendar_id)
    if saved is None:
        raise NotFound("There is no such calendar")
    accounts = await list_accounts(conn)
    entries = _picked(saved, ask.entry_ids)
    _known("accountIds", ask.account_ids, {account.id for account in accounts})
    world = World(
        adapters=ADAPTERS,
        accounts=accounts,
        named=None if ask.account_ids is None else frozenset(ask.account_ids),
        earlier=await store.earlier_intents(conn, ask.calendar_id),
        mode=Mode.DRY_RUN,
        asked_live=not ask.dry_run,
        again=ask.again,
        now=now,
    )
    made = [
        (
            found,
            _intent(found, ask=ask, decision=decision, origin=origin, now=now, intent_id=new_id()),
        )
        for found in preflight(entries, world)
    ]
    intents = [intent for _, intent in made if intent is not None]
    if intents:
        await become_worker(conn)
        await store.insert_intents(conn, intents, actor=ACTOR)
        await become_user(conn)
    return Created(
        results=tuple(_result(found, intent) for found, intent in made),
        channels=tuple(sorted({found.entry.channel for found, _ in made})),
        finished=tuple(map(_finished, intents)),
    )


async def get_intent(conn: Conn, intent_id: UUID) -> Intent:
    """Return one intent of this transaction's user; raise NotFound where there is none."""
    for intent in await store.select_intents(conn, store.Wanted(id=intent_id, limit=1)):
        return intent
    raise NotFound("There is no such intent")


async def list_intents(conn: Conn, wanted: store.Wanted) -> tuple[list[Intent], UUID | None]:
    """Return a page of this user's intents, newest first, and the next page's `before`."""
    page = await store.select_intents(conn, wanted)
    more = len(page) == wanted.limit
    return page, page[-1].id if more and page else None


async def entry_statuses(conn: Conn, calendar_id: UUID) -> dict[UUID, str]:
    """Return the status of each entry that has a live intent; every other entry is a draft."""
    states = await store.live_states(conn, calendar_id)
    return {entry_id: entry_status(found) for entry_id, found in states.items()}


def _refuse_live(ask: Ask, decision: Decision) -> None:
    """Refuse what only a drill can ask for yet: the flag itself cannot be turned on."""
    if ask.dry_run or not decision.is_on:
        return
    needed = REQUIRES["publish"].schema
    raise Conflict(
        f"Live publishing needs schema revision {needed}, which this release does not ship."
        " Publish with dryRun: true.",
        code="SCHEMA_BEHIND",
        extra={"missing": needed},
    )


def _picked(saved: Sequence[SavedEntry], ids: tuple[UUID, ...] | None) -> list[SavedEntry]:
    """Return the entries asked for, in the calendar's order; all of them when none is named."""
    _known("entryIds", ids, {entry.id for entry in saved})
    return [entry for entry in saved if ids is None or entry.id in ids]


def _known(field: str, ids: tuple[UUID, ...] | None, known: set[UUID]) -> None:
    """Raise Invalid that names each id that is not known, or a list without any."""
    if ids is None:
        return
    mistakes = [
        Mistake(pointer=f"/{field}/{index}", code="UNKNOWN_ID", fix="Use an id that is listed")
        for index, given in enumerate(ids)
        if given not in known
    ]
    if not ids:
        fix = f"Name at least one, or leave {field} out to mean all"
        mistakes.append(Mistake(pointer=f"/{field}", code="EMPTY", fix=fix))
    if mistakes:
        raise Invalid(f"{field} names what is not there", mistakes=mistakes)


def _intent(
    found: Found, *, ask: Ask, decision: Decision, origin: Origin, now: datetime, intent_id: UUID
) -> Intent | None:
    """Return the dry run of an entry that is ready, None for one that is refused."""
    if found.account is None or isinstance(found.found, Refusal):
        return None
    ready: Ready = found.found
    return Intent(
        id=intent_id,
        entry_id=found.entry.id,
        entry_version=found.entry.version,
        calendar_id=found.entry.calendar_id,
        run_id=found.entry.run_id,
        request_id=origin.request_id,
        user_id=origin.user_id,
        channel=found.entry.channel,
        account_id=found.account.id,
        mode=Mode.DRY_RUN,
        state=IntentState.DRY_RUN,
        cause=Reason.REQUESTED if ask.dry_run else Reason.FLAG,
        publish_at=ready.post.publish_at,
        not_after=ready.not_after,
        flag_variant=decision.variant,
        flag_version=decision.version,
        flag_source=decision.source,
        request=ready.request,
        request_sha256=digest(ready.request),
        frozen_at=now,
        lane=origin.lane,
        replaces=ready.replaces,
    )


def _result(found: Found, intent: Intent | None) -> Result:
    """Return what the caller is told of one entry on one account."""
    refusal = found.found if isinstance(found.found, Refusal) else None
    held = found.earlier
    return Result(
        entry_id=found.entry.id,
        account_id=None if found.account is None else found.account.id,
        intent_id=intent.id if intent else held.id if held else None,
        state=intent.state if intent else held.state if held else REFUSED,
        mode=Mode.LIVE if held else Mode.DRY_RUN,
        code=refusal.code if refusal else None,
        detail=refusal.detail if refusal else _remark(found),
    )


def _remark(found: Found) -> str | None:
    return found.found.remark if isinstance(found.found, Ready) else None


def _finished(intent: Intent) -> IntentFinished:
    return IntentFinished(
        request_id=intent.request_id,
        user_id=str(intent.user_id),
        channel=intent.channel,
        calendar_id=intent.calendar_id,
        run_id=intent.run_id,
        intent_id=intent.id,
        status=intent.state,
        reason=Reason(intent.cause) if intent.cause else None,
        verdict=Verdict.IGNORED,
        mode=intent.mode,
        flags={"publish": f"{intent.flag_variant}@{intent.flag_version}"},
        lane=intent.lane,
        account_id=intent.account_id,
    )
