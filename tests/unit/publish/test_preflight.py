"""Every reason not to publish has its own word and a cure; what is ready is frozen."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, time
from uuid import UUID

import pytest

from cadenza.channels.adapter import Account, AccountState
from cadenza.channels.registry import ADAPTERS
from cadenza.publish.model import IntentState, Mode, SavedEntry
from cadenza.publish.preflight import (
    Earlier,
    Ready,
    Refusal,
    Verdict,
    World,
    digest,
    preflight,
    publish_instant,
)

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
ENTRY = SavedEntry(
    id=UUID(int=1),
    version=3,
    calendar_id=UUID(int=2),
    run_id=UUID(int=3),
    channel="bluesky",
    title="The oven is on",
    format="post",
    copy="Tomorrow at seven.",
    script=None,
    hashtags=("bakery",),
    media=(),
    date=date(2026, 12, 1),
    time=time(9),
    timezone="Europe/Madrid",
    needs_review=False,
)
ACCOUNT = Account(
    id=UUID(int=10),
    channel="bluesky",
    handle="cadenza.test",
    time_zone="Europe/Madrid",
    state=AccountState.CONNECTED,
)
OTHER = replace(ACCOUNT, id=UUID(int=11), handle="other.test")
INSTAGRAM = replace(ACCOUNT, id=UUID(int=12), channel="instagram")
WORLD = World(
    adapters=ADAPTERS,
    accounts=(ACCOUNT, INSTAGRAM),
    named=None,
    earlier={},
    mode=Mode.DRY_RUN,
    asked_live=True,
    again=False,
    now=NOW,
)


def judged(entry: SavedEntry = ENTRY, world: World = WORLD) -> Verdict:
    (verdict,) = preflight([entry], world)
    return verdict


def refused(entry: SavedEntry = ENTRY, world: World = WORLD) -> Refusal:
    found = judged(entry, world).found
    assert isinstance(found, Refusal)
    return found


def ready(entry: SavedEntry = ENTRY, world: World = WORLD) -> Ready:
    found = judged(entry, world).found
    assert isinstance(found, Ready)
    return found


def with_accounts(accounts: Sequence[Account]) -> World:
    return replace(WORLD, accounts=tuple(accounts))


def test_a_good_entry_is_ready_with_its_request_and_half_an_hour_of_grace() -> None:
    found = ready()
    assert judged().account == ACCOUNT
    assert found.post.publish_at == datetime(2026, 12, 1, 8, tzinfo=UTC)
    assert found.not_after == datetime(2026, 12, 1, 8, 30, tzinfo=UTC)
    assert found.request["account"] == "cadenza.test"
    assert (found.remark, found.replaces) == (None, None)


def test_an_unknown_channel_is_unsupported_and_the_known_ones_are_named() -> None:
    found = refused(replace(ENTRY, channel="myspace"))
    assert found.code == "CHANNEL_UNSUPPORTED"
    assert "instagram, tiktok, bluesky, webhook, dryrun" in found.detail


def test_an_entry_that_nobody_reviewed_is_refused_in_every_mode() -> None:
    entry = replace(ENTRY, needs_review=True)
    for mode in Mode:
        assert refused(entry, replace(WORLD, mode=mode)).code == "RUN_NOT_REVIEWED"


@pytest.mark.parametrize(
    ("state", "code"),
    [
        (AccountState.MISSING, "CHANNEL_AUTH_MISSING"),
        (AccountState.EXPIRED, "CHANNEL_AUTH_EXPIRED"),
        (AccountState.REVOKED, "CHANNEL_AUTH_EXPIRED"),
        (AccountState.SCOPE_MISSING, "CHANNEL_SCOPE_MISSING"),
    ],
)
def test_an_account_that_cannot_publish_says_what_it_lacks(state: AccountState, code: str) -> None:
    found = refused(world=with_accounts([replace(ACCOUNT, state=state)]))
    assert found.code == code
    assert "Connect it" in found.detail


def test_without_an_account_the_authorisation_is_missing() -> None:
    assert refused(world=with_accounts([INSTAGRAM])).code == "CHANNEL_AUTH_MISSING"


def test_two_accounts_are_ambiguous_until_one_is_named() -> None:
    world = with_accounts([ACCOUNT, OTHER])
    assert refused(world=world).code == "ACCOUNT_AMBIGUOUS"
    assert judged(world=replace(world, named=frozenset({OTHER.id}))).account == OTHER


def test_an_entry_goes_to_every_account_that_is_named_on_its_channel() -> None:
    named = frozenset({ACCOUNT.id, OTHER.id, INSTAGRAM.id})
    world = replace(with_accounts([ACCOUNT, OTHER, INSTAGRAM]), named=named)
    assert [verdict.account for verdict in preflight([ENTRY], world)] == [ACCOUNT, OTHER]


def test_naming_only_accounts_of_other_channels_is_refused() -> None:
    found = refused(world=replace(WORLD, named=frozenset({INSTAGRAM.id})))
    assert found.code == "CHANNEL_AUTH_MISSING"
    assert "accountIds" in found.detail


def test_content_is_judged_with_its_hashtags_and_every_reason_is_told() -> None:
    found = refused(replace(ENTRY, channel="instagram", copy="x" * 2195))
    assert found.code == "OVER_LIMIT"
    assert "Shorten it by 4" in found.detail
    assert "image/jpeg" in found.detail


def test_missing_media_is_its_own_code() -> None:
    assert refused(replace(ENTRY, channel="instagram")).code == "MISSING_MEDIA"


def test_the_past_stops_a_live_publish_and_is_remarked_in_a_dry_run() -> None:
    entry = replace(ENTRY, date=date(2026, 11, 22))
    assert refused(entry, replace(WORLD, mode=Mode.LIVE)).code == "IN_THE_PAST"
    assert "IN_THE_PAST" in (ready(entry).remark or "")


@pytest.mark.parametrize(
    ("state", "code"),
    [
        (IntentState.SCHEDULED, "ALREADY_SCHEDULED"),
        (IntentState.UNKNOWN, "ALREADY_SCHEDULED"),
        (IntentState.PUBLISHED, "ALREADY_PUBLISHED"),
    ],
)
def test_what_is_live_already_is_named_unless_it_is_wanted_again_or_only_tried(
    state: IntentState, code: str
) -> None:
    earlier = Earlier(id=UUID(int=20), state=state)
    world = replace(WORLD, earlier={(ENTRY.id, ACCOUNT.id): earlier})
    assert refused(world=world).code == code
    assert judged(world=world).earlier == earlier
    assert ready(world=replace(world, again=True)).replaces == earlier.id
    assert ready(world=replace(world, asked_live=False)).replaces is None


def test_a_dry_run_and_the_live_publish_of_one_version_freeze_the_same_bytes() -> None:
    dry, live = ready(), ready(world=replace(WORLD, mode=Mode.LIVE))
    assert digest(dry.request) == digest(live.request)


def test_another_version_account_or_an_again_freezes_another_key() -> None:
    earlier = Earlier(id=UUID(int=20), state=IntentState.PUBLISHED)
    again = replace(WORLD, again=True, earlier={(ENTRY.id, ACCOUNT.id): earlier})
    keys = {
        ready().post.key,
        ready(replace(ENTRY, version=4)).post.key,
        ready(world=with_accounts([OTHER])).post.key,
        ready(world=again).post.key,
    }
    assert len(keys) == 4


@pytest.mark.parametrize(
    ("day", "wall", "zone", "instant"),
    [
        (date(2026, 12, 1), time(9), "Europe/Madrid", "2026-12-01T08:00"),
        (date(2026, 7, 1), time(9), "Europe/Madrid", "2026-07-01T07:00"),
        (date(2026, 3, 29), time(2, 30), "Europe/Madrid", "2026-03-29T01:30"),
        (date(2026, 10, 25), time(2, 30), "Europe/Madrid", "2026-10-25T00:30"),
        (date(2026, 11, 1), time(1, 30), "America/New_York", "2026-11-01T05:30"),
    ],
)
def test_a_wall_time_is_dst_true(day: date, wall: time, zone: str, instant: str) -> None:
    at = publish_instant(replace(ENTRY, date=day, time=wall, timezone=zone))
    assert at == datetime.fromisoformat(instant).replace(tzinfo=UTC)


@pytest.mark.parametrize("day", [date.min, date.max])
def test_no_date_is_too_far_to_be_judged(day: date) -> None:
    for zone in ("Pacific/Kiritimati", "Pacific/Niue"):
        preflight([replace(ENTRY, date=day, time=time(23, 59), timezone=zone)], WORLD)
