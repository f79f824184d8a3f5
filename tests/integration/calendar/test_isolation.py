"""Someone else's calendar looks like one that does not exist, in every verb."""

from collections.abc import Awaitable, Callable
from typing import cast
from uuid import UUID, uuid4

import pytest

from cadenza.calendar import edit, read
from cadenza.calendar.read import Caller
from cadenza.calendar.store import entries as store
from cadenza.db.pool import Conn, Database
from cadenza.errors import NotFound
from calendar_support import as_sent, entries_of, id_of, new, saved, someone, used
from support import TestDatabase

Verb = Callable[[Database, Caller, UUID, UUID], Awaitable[object]]

VERBS: dict[str, Verb] = {
    "read_calendar": lambda db, who, calendar, _: read.read_calendar(db, who, calendar),
    "read_entry": read.read_entry,
    "list_revisions": lambda db, who, calendar, _: read.list_revisions(db, who, calendar),
    "save_all": lambda db, who, calendar, entry: edit.save_all(
        db, who, calendar, [as_sent({"id": str(entry)}, title="Taken")], if_match=1
    ),
    "save_all at any revision": lambda db, who, calendar, _: edit.save_all(
        db, who, calendar, [], if_match=77
    ),
    "patch_entry": lambda db, who, calendar, entry: edit.patch_entry(
        db, who, calendar, entry, {"title": "Taken"}, if_match=1
    ),
    "patch_entry, stale": lambda db, who, calendar, entry: edit.patch_entry(
        db, who, calendar, entry, {}, if_match=77
    ),
    "delete_entry": lambda db, who, calendar, entry: edit.delete_entry(
        db, who, calendar, entry, if_match=1
    ),
}


def refusal(error: pytest.ExceptionInfo[NotFound]) -> tuple[str, str, object]:
    return error.value.code, error.value.detail, error.value.extra


@pytest.mark.parametrize("verb", VERBS)
def test_a_foreign_calendar_and_an_absent_one_answer_the_same(
    database: TestDatabase, verb: str
) -> None:
    async def work(db: Database) -> None:
        owner, stranger = someone(), someone()
        calendar = await saved(db, owner, [new(title="Private")])
        entry_id = id_of(entries_of(calendar)[0])
        with pytest.raises(NotFound) as foreign:
            await VERBS[verb](db, stranger, id_of(calendar), entry_id)
        with pytest.raises(NotFound) as absent:
            await VERBS[verb](db, stranger, uuid4(), entry_id)
        assert refusal(foreign) == refusal(absent)
        after = await read.read_calendar(db, owner, id_of(calendar))
        assert (after.calendar.revision, after.entries[0].title) == (1, "Private")

    used(database, work)


def test_a_first_save_under_someone_elses_id_finds_nothing_and_takes_nothing(
    database: TestDatabase,
) -> None:
    async def work(db: Database) -> None:
        owner, stranger = someone(), someone()
        calendar = await saved(db, owner, [])
        with pytest.raises(NotFound):
            await edit.save_all(
                db, stranger, id_of(calendar), [new()], if_match=None, is_first=True
            )
        assert (await read.list_calendars(db, stranger))["items"] == []
        assert (await read.read_calendar(db, owner, id_of(calendar))).entries == ()

    used(database, work)


def test_a_list_shows_only_ones_own(database: TestDatabase) -> None:
    async def work(db: Database) -> None:
        owner, stranger = someone(), someone()
        await saved(db, owner, [new()])
        mine = await saved(db, stranger, [])
        listed = await read.list_calendars(db, stranger)
        items = cast("list[dict[str, object]]", listed["items"])
        assert [item["id"] for item in items] == [mine["id"]]

    used(database, work)


def test_a_statement_that_forgets_its_user_still_changes_nothing_of_others(
    database: TestDatabase,
) -> None:
    async def work(db: Database) -> None:
        owner, stranger = someone(), someone()
        calendar = await saved(db, owner, [new(title="Private")])
        entry_id = id_of(entries_of(calendar)[0])

        async def careless(conn: Conn) -> None:
            assert await store.lock_calendar(conn, id_of(calendar)) is None
            assert await store.select_entries(conn, id_of(calendar)) == ()
            await store.mark_reviewed(conn, id_of(calendar))
            await store.delete_entries(conn, id_of(calendar), [entry_id])
            with pytest.raises(NotFound):
                await store.add_revision(
                    conn, id_of(calendar), cause="save", changes=[], request_id=None
                )

        await db.as_user(stranger.user_id, careless)
        after = await read.read_calendar(db, owner, id_of(calendar))
        assert (after.calendar.revision, len(after.entries)) == (1, 1)

    used(database, work)
