"""Publishing against the real database: what is frozen, for whom, and what a user may not do."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from uuid import UUID, uuid4

import psycopg
import pytest

from cadenza.channels.seed import development_accounts
from cadenza.channels.store import add_missing_accounts, list_accounts
from cadenza.db.pool import Conn, Database, become_worker
from cadenza.errors import Conflict, DatabaseUnavailable, Invalid, NotFound, Reason
from cadenza.events import Lane, Verdict
from cadenza.flags.evaluate import Decision
from cadenza.publish.intents import (
    Ask,
    Created,
    Origin,
    create_intents,
    entry_statuses,
    get_intent,
    list_intents,
)
from cadenza.publish.model import Intent, IntentState
from cadenza.publish.preflight import digest
from cadenza.publish.store import Wanted
from support import TestDatabase

_CALENDAR = "INSERT INTO cadenza.calendar (id, user_id) VALUES (%s, %s)"
_ENTRY = """
INSERT INTO cadenza.calendar_entry
  (id, calendar_id, user_id, title, channel, format, copy, date, time, timezone, hashtags,
   needs_review)
VALUES (%s, %s, %s, 'The oven is on', %s, 'post', %s, '2026-12-01', '09:00', 'Europe/Madrid',
  '["bakery"]', %s)
"""
_EDIT = "UPDATE cadenza.calendar_entry SET copy = %s, version = version + 1 WHERE id = %s"
_REVISE = "UPDATE cadenza.calendar SET revision = revision + 1 WHERE id = %s"
_REVIEW = "UPDATE cadenza.calendar_entry SET needs_review = false WHERE id = %s"
_MADE_LIVE = """
INSERT INTO cadenza.publish_intent (id, user_id, calendar_id, entry_id, entry_version, request_id,
  channel, account_id, lane, mode, state, scheduled_at, not_after, flag_variant, flag_version,
  flag_source, request, request_sha256, frozen_at)
SELECT %s, user_id, calendar_id, entry_id, entry_version, request_id, channel, account_id, lane,
  'live', %s, scheduled_at, not_after, 'live', 7, flag_source, request, request_sha256, frozen_at
FROM cadenza.publish_intent WHERE id = %s
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """One user with a calendar and an account per channel."""

    db: Database
    user_id: UUID
    calendar_id: UUID

    async def run(self, statement: str, *values: object) -> None:
        """Run one statement as this user."""

        async def work(conn: Conn) -> None:
            await conn.execute(statement.encode(), values)

        await self.db.as_user(str(self.user_id), work)

    async def entry(
        self, channel: str = "bluesky", copy: str = "Tomorrow.", *, needs_review: bool = False
    ) -> UUID:
        """Save an entry."""
        entry_id = uuid4()
        await self.run(
            _ENTRY, entry_id, self.calendar_id, self.user_id, channel, copy, needs_review
        )
        return entry_id

    async def publish(self, ask: Ask | None = None, variant: str = "dry_run") -> Created:
        """Publish as this user; everything, when nothing is asked."""
        decided = decision(self.user_id, variant)
        origin = Origin(user_id=self.user_id, request_id="req-00000001")
        asked = ask or Ask(calendar_id=self.calendar_id)

        async def work(conn: Conn) -> Created:
            return await create_intents(conn, asked, decision=decided, origin=origin)

        return await self.db.as_user(str(self.user_id), work)

    async def intents(self, wanted: Wanted | None = None) -> list[Intent]:
        """Return what this user sees."""
        page, _ = await self.db.as_user(
            str(self.user_id), lambda conn: list_intents(conn, wanted or Wanted())
        )
        return page

    async def become_live(self, intent_id: UUID, state: str) -> UUID:
        """Put a live intent beside a dry run, as a later release would."""
        live_id = uuid4()

        async def work(conn: Conn) -> None:
            await conn.execute(_MADE_LIVE, [live_id, state, intent_id])

        await self.db.as_worker(work)
        return live_id


def decision(user_id: UUID, variant: str) -> Decision:
    return Decision(
        key="publish",
        user_id=str(user_id),
        variant=variant,
        rule="safe",
        bucket=1,
        version=7,
        set_version=9,
        source="database",
    )


async def desk(db: Database) -> Desk:
    """Return a new user's desk."""
    found = Desk(db=db, user_id=uuid4(), calendar_id=uuid4())
    await found.run(_CALENDAR, found.calendar_id, found.user_id)

    async def seed(conn: Conn) -> int:
        accounts = development_accounts(found.user_id)
        return await add_missing_accounts(conn, found.user_id, accounts)

    assert await db.as_worker(seed) == 5
    assert await db.as_worker(seed) == 0
    return found


def used(database: TestDatabase, work: Callable[[Desk], Awaitable[None]]) -> None:
    """Run `work` at a desk of this test's database."""

    async def main() -> None:
        db = Database(database.dsn, budget_s=20)
        await db.open()
        try:
            await work(await desk(db))
        finally:
            await db.close()

    asyncio.run(main())


def test_the_latest_saved_version_is_frozen_and_can_be_read_back(database: TestDatabase) -> None:
    async def work(mine: Desk) -> None:
        entry_id = await mine.entry(copy="First")
        await mine.run(_EDIT, "Second", entry_id)
        created = await mine.publish()
        (result,) = created.results
        (intent,) = await mine.intents()
        assert (intent.id, intent.entry_version, intent.state) == (result.intent_id, 2, "dry_run")
        assert (intent.cause, intent.flag_variant, intent.flag_version) == ("flag", "dry_run", 7)
        assert "Second\\n\\n#bakery" in str(intent.request)
        assert intent.request_sha256 == digest(intent.request)
        again = await mine.db.as_user(str(mine.user_id), lambda conn: get_intent(conn, intent.id))
        assert again == intent

    used(database, work)


def test_each_dry_run_tells_its_event_once_and_has_its_first_move(database: TestDatabase) -> None:
    async def work(mine: Desk) -> None:
        await mine.entry("bluesky")
        await mine.entry("dryrun")
        created = await mine.publish(Ask(calendar_id=mine.calendar_id, dry_run=True))
        assert [event.channel for event in created.finished] == ["bluesky", "dryrun"]
        for event in created.finished:
            assert (event.status, event.reason) == ("dry_run", Reason.REQUESTED)
            assert (event.verdict, event.lane) == (Verdict.IGNORED, Lane.LIVE)

        async def moves(conn: Conn) -> list[tuple[object, ...]]:
            rows = await conn.execute(
                "SELECT from_state, to_state, cause, actor, request_id"
                " FROM cadenza.intent_transition"
            )
            return [tuple(row.values()) for row in await rows.fetchall()]

        move = (None, "dry_run", "requested", "user", "req-00000001")
        assert await mine.db.as_worker(moves) == [move, move]

    used(database, work)


def test_entries_are_judged_one_by_one(database: TestDatabase) -> None:
    async def work(mine: Desk) -> None:
        wanted = {
            await mine.entry("bluesky"): None,
            await mine.entry("bluesky", "x" * 301): "OVER_LIMIT",
            await mine.entry("instagram"): "MISSING_MEDIA",
            await mine.entry("myspace"): "CHANNEL_UNSUPPORTED",
        }
        created = await mine.publish()
        assert {result.entry_id: result.code for result in created.results} == wanted
        assert created.is_accepted
        for result in created.results:
            assert (result.state == "refused") is (result.intent_id is None)
            assert (result.code is None) is (result.intent_id is not None)
        assert len(await mine.intents()) == 1

    used(database, work)


def test_nothing_is_accepted_where_every_entry_is_refused(database: TestDatabase) -> None:
    async def work(mine: Desk) -> None:
        await mine.entry("tiktok")
        created = await mine.publish()
        assert not created.is_accepted
        assert created.finished == ()
        assert await mine.intents() == []

    used(database, work)


def test_a_timed_out_runs_entry_waits_for_a_person(database: TestDatabase) -> None:
    async def work(mine: Desk) -> None:
        entry_id = await mine.entry(needs_review=True)
        (result,) = (await mine.publish()).results
        assert (result.code, result.intent_id) == ("RUN_NOT_REVIEWED", None)
        await mine.run(_REVIEW, entry_id)
        (result,) = (await mine.publish()).results
        assert (result.code, result.state) == (None, "dry_run")

    used(database, work)


def test_someone_elses_calendar_is_not_there(database: TestDatabase) -> None:
    async def work(mine: Desk) -> None:
        yours = await desk(mine.db)
        await yours.entry()
        (result,) = (await yours.publish()).results
        intent_id = result.intent_id
        assert intent_id is not None
        for calendar_id in (yours.calendar_id, uuid4()):
            with pytest.raises(NotFound):
                await mine.publish(Ask(calendar_id=calendar_id))
        with pytest.raises(NotFound):
            await mine.db.as_user(str(mine.user_id), lambda conn: get_intent(conn, intent_id))
        assert await mine.intents(Wanted(calendar_id=yours.calendar_id)) == []

    used(database, work)


def test_ids_that_are_not_there_are_named_by_pointer(database: TestDatabase) -> None:
    async def work(mine: Desk) -> None:
        entry_id = await mine.entry()
        yours = await desk(mine.db)
        foreign = (await mine.db.as_user(str(yours.user_id), list_accounts))[0].id
        everything = Ask(calendar_id=mine.calendar_id)
        for ask, pointer in (
            (replace(everything, entry_ids=(entry_id, uuid4())), "/entryIds/1"),
            (replace(everything, account_ids=(foreign,)), "/accountIds/0"),
            (replace(everything, entry_ids=()), "/entryIds"),
        ):
            with pytest.raises(Invalid) as refused:
                await mine.publish(ask)
            assert [mistake.pointer for mistake in refused.value.mistakes] == [pointer]
        assert await mine.intents() == []

    used(database, work)


def test_only_the_entries_named_are_published(database: TestDatabase) -> None:
    async def work(mine: Desk) -> None:
        await mine.entry()
        wanted = await mine.entry()
        created = await mine.publish(Ask(calendar_id=mine.calendar_id, entry_ids=(wanted,)))
        assert [result.entry_id for result in created.results] == [wanted]

    used(database, work)


def test_live_publishing_is_refused_with_the_revision_it_waits_for(database: TestDatabase) -> None:
    async def work(mine: Desk) -> None:
        await mine.entry("dryrun")
        with pytest.raises(Conflict) as refused:
            await mine.publish(variant="live")
        assert refused.value.code == "SCHEMA_BEHIND"
        assert refused.value.extra == {"missing": "0005"}
        created = await mine.publish(
            Ask(calendar_id=mine.calendar_id, dry_run=True), variant="live"
        )
        assert [result.state for result in created.results] == ["dry_run"]

    used(database, work)


def test_publishes_at_once_each_make_their_dry_run(database: TestDatabase) -> None:
    async def work(mine: Desk) -> None:
        await mine.entry()
        created = await asyncio.gather(*(mine.publish() for _ in range(8)))
        made = {result.intent_id for one in created for result in one.results}
        found = await mine.intents()
        assert made == {intent.id for intent in found}
        assert len(made) == 8
        assert len({intent.request_sha256 for intent in found}) == 1

    used(database, work)


def test_an_edit_waits_for_a_publish_under_way(database: TestDatabase) -> None:
    """What was the latest saved version when it was read is still that at the commit."""

    async def work(mine: Desk) -> None:
        await mine.entry()

        async def revise(conn: Conn) -> None:
            await conn.execute("SELECT set_config('lock_timeout', '50', true)")
            await conn.execute(_REVISE, [mine.calendar_id])

        async def publish(conn: Conn) -> None:
            await create_intents(
                conn,
                Ask(calendar_id=mine.calendar_id),
                decision=decision(mine.user_id, "dry_run"),
                origin=Origin(user_id=mine.user_id, request_id="req-00000001"),
            )
            with pytest.raises(DatabaseUnavailable):
                await mine.db.as_user(str(mine.user_id), revise)

        await mine.db.as_user(str(mine.user_id), publish)
        await mine.db.as_user(str(mine.user_id), revise)

    used(database, work)


def test_an_entry_has_one_live_intent_per_account_and_its_status_shows_it(
    database: TestDatabase,
) -> None:
    async def work(mine: Desk) -> None:
        entry_id = await mine.entry()
        (first,) = (await mine.publish()).results
        assert first.intent_id is not None
        user = str(mine.user_id)
        statuses = await mine.db.as_user(user, lambda c: entry_statuses(c, mine.calendar_id))
        assert statuses == {}
        live_id = await mine.become_live(first.intent_id, "scheduled")
        with pytest.raises(psycopg.errors.UniqueViolation):
            await mine.become_live(first.intent_id, "scheduled")
        statuses = await mine.db.as_user(user, lambda c: entry_statuses(c, mine.calendar_id))
        assert statuses == {entry_id: "scheduled"}
        created = await mine.publish()
        (second,) = created.results
        assert (second.intent_id, second.state) == (live_id, "scheduled")
        assert (second.code, second.mode) == ("ALREADY_SCHEDULED", "live")
        assert created.is_accepted
        assert created.finished == ()
        await mine.publish(Ask(calendar_id=mine.calendar_id, again=True))
        assert [intent.id for intent in await mine.intents() if intent.replaces == live_id]

    used(database, work)


def test_intents_come_newest_first_in_pages_that_filter(database: TestDatabase) -> None:
    async def work(mine: Desk) -> None:
        await mine.entry()
        made = [(await mine.publish()).results[0].intent_id for _ in range(5)]
        seen: list[UUID] = []
        before: UUID | None = None
        while True:
            wanted = Wanted(calendar_id=mine.calendar_id, before=before, limit=2)
            page, before = await mine.db.as_user(
                str(mine.user_id), lambda conn, wanted=wanted: list_intents(conn, wanted)
            )
            seen += [intent.id for intent in page]
            if before is None:
                break
        assert seen == made[::-1]
        assert await mine.intents(Wanted(state=IntentState.HELD)) == []

    used(database, work)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE cadenza.publish_intent SET state = 'published'",
        "DELETE FROM cadenza.publish_intent",
        "INSERT INTO cadenza.account (id) VALUES (gen_random_uuid())",
        "UPDATE cadenza.account SET state = 'connected'",
        "SELECT * FROM cadenza.intent_transition",
    ],
)
def test_a_user_writes_no_intent_account_or_move(database: TestDatabase, statement: str) -> None:
    async def work(mine: Desk) -> None:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await mine.run(statement)

    used(database, work)


def test_after_a_publish_the_transaction_is_the_users_again(database: TestDatabase) -> None:
    async def work(mine: Desk) -> None:
        await mine.entry()

        async def who(conn: Conn) -> object:
            await create_intents(
                conn,
                Ask(calendar_id=mine.calendar_id),
                decision=decision(mine.user_id, "dry_run"),
                origin=Origin(user_id=mine.user_id, request_id="req-00000001"),
            )
            row = await (await conn.execute("SELECT current_user AS who")).fetchone()
            return row and row["who"]

        assert await mine.db.as_user(str(mine.user_id), who) == "authenticated"

    used(database, work)


def test_a_move_can_be_added_but_never_changed(database: TestDatabase) -> None:
    async def work(mine: Desk) -> None:
        await mine.entry()
        await mine.publish()

        async def change(conn: Conn) -> None:
            await become_worker(conn)
            await conn.execute("UPDATE cadenza.intent_transition SET actor = 'nobody'")

        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await mine.db.as_worker(change)
        with (
            psycopg.connect(database.owner_dsn) as owner,
            pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"),
        ):
            owner.execute("UPDATE cadenza.intent_transition SET actor = 'nobody'")

    used(database, work)
