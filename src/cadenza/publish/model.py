"""An intent: the durable wish to publish one entry on one account. Its states are data."""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time
from enum import StrEnum
from types import MappingProxyType
from uuid import UUID

from cadenza.channels.adapter import Media
from cadenza.errors import CadenzaError
from cadenza.events import Lane


class IntentState(StrEnum):
    """Where an intent stands."""

    DRY_RUN = "dry_run"
    SCHEDULED = "scheduled"
    HELD = "held"
    PUBLISHING = "publishing"
    RETRY_WAIT = "retry_wait"
    PUBLISHED = "published"
    UNKNOWN = "unknown"
    NEEDS_ATTENTION = "needs_attention"
    MISSED = "missed"
    CANCELLED = "cancelled"


_S = IntentState
Graph = Mapping[IntentState, frozenset[IntentState]]

INITIAL = frozenset({_S.DRY_RUN, _S.SCHEDULED})
TERMINAL = frozenset({_S.DRY_RUN, _S.PUBLISHED, _S.CANCELLED})
# From publishing to held only while no call is armed: the worker's to keep, not the graph's.
TRANSITIONS: Graph = MappingProxyType({
    _S.DRY_RUN: frozenset[IntentState](),
    _S.SCHEDULED: frozenset({_S.PUBLISHING, _S.HELD, _S.MISSED, _S.CANCELLED}),
    _S.HELD: frozenset({_S.SCHEDULED, _S.MISSED, _S.CANCELLED}),
    _S.PUBLISHING: frozenset({
        _S.PUBLISHED, _S.RETRY_WAIT, _S.UNKNOWN, _S.NEEDS_ATTENTION, _S.HELD
    }),
    _S.PUBLISHED: frozenset[IntentState](),
    _S.RETRY_WAIT: frozenset({_S.PUBLISHING, _S.HELD, _S.MISSED, _S.CANCELLED}),
    _S.UNKNOWN: frozenset({_S.PUBLISHED, _S.SCHEDULED, _S.NEEDS_ATTENTION}),
    _S.NEEDS_ATTENTION: frozenset({_S.SCHEDULED, _S.PUBLISHED, _S.CANCELLED}),
    _S.MISSED: frozenset({_S.SCHEDULED, _S.CANCELLED}),
    _S.CANCELLED: frozenset[IntentState](),
})  # fmt: skip


def check_graph(graph: Graph) -> None:
    """Raise CadenzaError unless every state is there, reachable, and ends only where it should."""
    if set(graph) != set(IntentState):
        raise CadenzaError(f"States without edges: {sorted(set(IntentState) - set(graph))}")
    ends = frozenset(state for state, edges in graph.items() if not edges)
    if ends != TERMINAL:
        raise CadenzaError(f"Terminal states are {sorted(ends)}, not {sorted(TERMINAL)}")
    seen, waiting = set(INITIAL), deque(INITIAL)
    while waiting:
        found = graph[waiting.popleft()] - seen
        seen |= found
        waiting.extend(found)
    if unreachable := set(graph) - seen:
        raise CadenzaError(f"No path leads to {sorted(unreachable)}")


check_graph(TRANSITIONS)

# A retry that waits is, for who looks at a calendar, a post that is scheduled.
_SHOWN: tuple[tuple[IntentState, str], ...] = (
    (_S.NEEDS_ATTENTION, "needs_attention"),
    (_S.UNKNOWN, "unknown"),
    (_S.MISSED, "missed"),
    (_S.PUBLISHING, "publishing"),
    (_S.HELD, "held"),
    (_S.SCHEDULED, "scheduled"),
    (_S.RETRY_WAIT, "scheduled"),
    (_S.PUBLISHED, "published"),
)
DRAFT = "draft"


def entry_status(states: Iterable[IntentState]) -> str:
    """Return an entry's status from its live, un-replaced intents: the first that applies."""
    present = frozenset(states)
    return next((status for state, status in _SHOWN if state in present), DRAFT)


class Mode(StrEnum):
    """Whether an intent sends or only shows what it would send."""

    LIVE = "live"
    DRY_RUN = "dry_run"


class PublishCode(StrEnum):
    """Why an entry was not taken as asked; the words of the publish contract."""

    CHANNEL_UNSUPPORTED = "CHANNEL_UNSUPPORTED"
    CHANNEL_AUTH_MISSING = "CHANNEL_AUTH_MISSING"
    CHANNEL_AUTH_EXPIRED = "CHANNEL_AUTH_EXPIRED"
    CHANNEL_SCOPE_MISSING = "CHANNEL_SCOPE_MISSING"
    ACCOUNT_AMBIGUOUS = "ACCOUNT_AMBIGUOUS"
    OVER_LIMIT = "OVER_LIMIT"
    MISSING_MEDIA = "MISSING_MEDIA"
    IN_THE_PAST = "IN_THE_PAST"
    RUN_NOT_REVIEWED = "RUN_NOT_REVIEWED"
    ALREADY_SCHEDULED = "ALREADY_SCHEDULED"
    ALREADY_PUBLISHED = "ALREADY_PUBLISHED"


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedEntry:
    """What publishing reads of an entry: its latest saved version."""

    id: UUID
    version: int
    calendar_id: UUID
    run_id: UUID | None
    channel: str
    title: str
    format: str
    copy: str
    script: str | None
    hashtags: tuple[str, ...]
    media: tuple[str, ...]
    date: date
    time: time
    timezone: str
    needs_review: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """One row of `publish_intent`; `request` is the frozen request itself."""

    id: UUID
    entry_id: UUID
    entry_version: int
    calendar_id: UUID
    run_id: UUID | None
    request_id: str
    user_id: UUID
    channel: str
    account_id: UUID
    mode: Mode
    state: IntentState
    cause: str | None
    publish_at: datetime
    not_after: datetime
    flag_variant: str
    flag_version: int
    flag_source: str
    request: Mapping[str, object]
    request_sha256: str
    frozen_at: datetime
    lane: Lane
    remote: Mapping[str, object] | None = None
    replaces: UUID | None = None


def as_wire(intent: Intent, *, with_payload: bool = False) -> dict[str, object]:
    """Return the contract's JSON shape; `with_payload` adds the frozen request itself."""
    request: dict[str, object] = {
        "sha256": intent.request_sha256,
        "frozenAt": instant(intent.frozen_at),
    }
    if with_payload:
        request["payload"] = intent.request
    return {
        "id": str(intent.id),
        "entryId": str(intent.entry_id),
        "entryVersion": intent.entry_version,
        "calendarId": str(intent.calendar_id),
        "runId": _id(intent.run_id),
        "requestId": intent.request_id,
        "userId": str(intent.user_id),
        "channel": intent.channel,
        "accountId": str(intent.account_id),
        "mode": intent.mode.value,
        "state": intent.state.value,
        "cause": intent.cause,
        "publishAt": instant(intent.publish_at),
        "notAfter": instant(intent.not_after),
        "flags": {"publish": f"{intent.flag_variant}@{intent.flag_version}"},
        "request": request,
        "attempts": [],
        "remote": intent.remote,
        "replaces": _id(intent.replaces),
    }


def instant(at: datetime) -> str:
    """Return an aware UTC instant as the wire spells it: whole seconds, or milliseconds."""
    spec = "milliseconds" if at.microsecond else "seconds"
    return at.isoformat(timespec=spec).replace("+00:00", "Z")


_KINDS = {
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".png": "image/png",
    ".webp": "image/webp",
    ".gif": "image/gif",
    ".mp4": "video/mp4",
    ".mov": "video/quicktime",
    ".webm": "video/webm",
}


def media_of(reference: str) -> Media:
    """Return an entry's media reference as a channel sees it; its kind is told by its ending."""
    path = reference.partition("?")[0]
    ending = "." + path.rpartition(".")[2].lower()
    return Media(id=reference, mime=_KINDS.get(ending, "application/octet-stream"))


def _id(value: UUID | None) -> str | None:
    return None if value is None else str(value)
