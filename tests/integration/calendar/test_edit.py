"""Changing calendars: versions, revisions, review, and refusals that lose nothing."""

import asyncio
from typing import Any, LiteralString, cast
from uuid import UUID, uuid4

import pytest

from cadenza.calendar import edit, read
from cadenza.calendar.edit import Written
from cadenza.calendar.model import Changes, Sent, Wire
from cadenza.calendar.read import Caller
from cadenza.db.idempotency import Key, fingerprint
from cadenza.db.pool import Conn, Database
from cadenza.errors import Conflict, Invalid, NotFound, PreconditionMissing
from calendar_support import (
    as_owner,
    as_sent,
    begin_run,
    content,
    entries_of,
    id_of,
    new,
    saved,
    someone,
    used,
)
from support import TestDatabase, eventually


async def revisions(db: Database, who: Caller, calendar_id: UUID) -> list[dict[str, Any]]:
    page = await read.list_revisions(db, who, calendar_id)
    return cast("list[dict[str, Any]]", page["items"])


def sides(refused: pytest.ExceptionInfo[Conflict]) -> tuple[dict[str, Any], dict[str, Any]]:
    extra = cast("dict[str, dict[str, Any]]", refused.value.extra)
    return extra["yours"], extra["current"]


def test_a_first_save_makes_the_calendar_and_reading_gives_it_back(database: TestDatabase) -> None:
    async def work(db: Database) -> None:
        who, calendar_id = someone(), uuid4()
        sent = [new(title="Second", time="10:00"), new(title="First", time="08:30")]
        first = await edit.save_all(db, who, calendar_id, sent, if_match=None, is_first=True)
        assert (first.document["id"], first.document["revision"]) == (str(calendar_id), 1)
        assert [entry["title"] for entry in entries_of(first.document)] == ["First", "Second"]
        contents = await read.read_calendar(db, who, calendar_id)
        assert [entry.title for entry in contents.entries] == ["First", "Second"]
        assert [entry.time for entry in contents.entries] == ["08:30", "10:00"]
        assert {entry.version for entry in contents.entries} == {1}

    used(database, work)


def test_a_write_without_its_version_is_refused_before_anything_is_looked_at(
    database: TestDatabase,
) -> None:
    async def work(db: Database) -> None:
        who, calendar_id = someone(), uuid4()
        with pytest.raises(PreconditionMissing):
            await edit.save_all(db, who, calendar_id, [], if_match=None)
        with pytest.raises(PreconditionMissing):
            await edit.patch_entry(db, who, calendar_id, uuid4(), {}, if_match=None)
        with pytest.raises(PreconditionMissing):
            await edit.delete_entry(db, who, calendar_id, uuid4(), if_match=None)

    used(database, work)


def test_save_all_keeps_ids_and_only_what_changed_gets_a_new_version(
    database: TestDatabase,
) -> None:
    async def work(db: Database) -> None:
        who = someone()
        calendar = await saved(
            db, who, [new(title=t, time=f"0{n}:00") for n, t in enumerate("abc")]
        )
        a, b, c = entries_of(calendar)
        sent = [as_sent(a), as_sent(b, title="B"), new(title="d", time="09:00")]
        written = await edit.save_all(db, who, id_of(calendar), sent, if_match=1)
        entries = entries_of(written.document)
        assert written.document["revision"] == 2
        assert [entry["title"] for entry in entries] == ["a", "B", "d"]
        assert [entry["id"] for entry in entries[:2]] == [a["id"], b["id"]]
        assert [entry["version"] for entry in entries] == [1, 2, 1]
        assert entries[2]["id"] not in {a["id"], b["id"], c["id"]}

    used(database, work)


def test_a_field_left_out_of_a_known_entry_keeps_what_is_stored(database: TestDatabase) -> None:
    async def work(db: Database) -> None:
        who = someone()
        calendar = await saved(db, who, [new(script="Said aloud", hashtags=("a",), media=("m",))])
        (entry,) = entries_of(calendar)
        sent = [as_sent(entry, copy="Other words")]
        written = await edit.save_all(db, who, id_of(calendar), sent, if_match=1)
        (after,) = entries_of(written.document)
        assert (after["copy"], after["script"]) == ("Other words", "Said aloud")
        assert (after["hashtags"], after["media"]) == (["a"], ["m"])

    used(database, work)


def test_the_revision_keeps_every_text_that_a_save_changed_or_deleted(
    database: TestDatabase,
) -> None:
    async def work(db: Database) -> None:
        who = someone()
        calendar = await saved(db, who, [new(title=title) for title in "ab"])
        a, b = entries_of(calendar)
        await edit.save_all(db, who, id_of(calendar), [as_sent(a, title="A")], if_match=1)
        newest, first = await revisions(db, who, id_of(calendar))
        changes = {change["entryId"]: change for change in newest["changes"]}
        assert (newest["revision"], newest["cause"], first["revision"]) == (2, "save", 1)
        assert newest["requestId"] == "test-request"
        assert changes[a["id"]]["before"]["title"] == "a"
        assert changes[a["id"]]["after"]["title"] == "A"
        assert changes[b["id"]]["before"]["title"] == "b"
        assert changes[b["id"]]["after"] is None
        assert [change["before"] for change in first["changes"]] == [None, None]

    used(database, work)


def test_an_unknown_id_is_a_mistake_that_is_named_and_changes_nothing(
    database: TestDatabase,
) -> None:
    async def work(db: Database) -> None:
        who = someone()
        calendar = await saved(db, who, [new()])
        (entry,) = entries_of(calendar)
        sent = [as_sent(entry), new(), new(), Sent(id=uuid4(), changes=content())]
        with pytest.raises(Invalid) as refused:
            await edit.save_all(db, who, id_of(calendar), sent, if_match=1)
        assert [mistake.pointer for mistake in refused.value.mistakes] == ["/entries/3/id"]
        after = await read.read_calendar(db, who, id_of(calendar))
        assert (after.calendar.revision, len(after.entries)) == (1, 1)

    used(database, work)


def test_an_entry_of_another_calendar_is_unknown_in_this_one(database: TestDatabase) -> None:
    async def work(db: Database) -> None:
        who = someone()
        here, there = await saved(db, who, [new()]), await saved(db, who, [new()])
        sent = [as_sent(entries_of(there)[0], title="Taken")]
        with pytest.raises(Invalid):
            await edit.save_all(db, who, id_of(here), sent, if_match=1)
        with pytest.raises(NotFound):
            await edit.patch_entry(
                db, who, id_of(here), id_of(entries_of(there)[0]), {}, if_match=1
            )

    used(database, work)


def test_repeated_ids_missing_fields_and_too_many_entries_are_all_named() -> None:
    async def refuse(sent: list[Sent]) -> set[str]:
        with pytest.raises(Invalid) as refused:
            await edit.save_all(
                Database("postgresql://127.0.0.1:9/never-asked"),
                someone(),
                uuid4(),
                sent,
                if_match=1,
            )
        return {mistake.pointer for mistake in refused.value.mistakes}

    async def main() -> None:
        twice = Sent(id=uuid4(), changes={})
        only_title: Changes = {"title": "Alone"}
        assert await refuse([twice, twice, Sent(id=None, changes=only_title)]) == {
            "/entries/1/id",
            "/entries/2/channel",
            "/entries/2/date",
        }
        assert await refuse([new()] * 201) == {"/entries"}

    asyncio.run(main())


def test_a_stale_save_is_refused_with_both_sides_of_what_differs(database: TestDatabase) -> None:
    async def work(db: Database) -> None:
        who = someone()
        titles = ("same", "shared", "left out")
        calendar = await saved(db, who, [new(title=title) for title in titles])
        known = {entry["title"]: entry for entry in entries_of(calendar)}
        same, shared = known["same"], known["shared"]
        await edit.patch_entry(
            db, who, id_of(calendar), id_of(shared), {"title": "Theirs"}, if_match=1
        )
        sent = [as_sent(same, title="same"), as_sent(shared, title="Mine"), new(title="New")]
        with pytest.raises(Conflict) as refused:
            await edit.save_all(db, who, id_of(calendar), sent, if_match=1)
        yours, current = sides(refused)
        assert refused.value.code == "STALE_VERSION"
        assert (yours["revision"], current["revision"]) == (1, 2)
        assert [entry["title"] for entry in yours["entries"]] == ["Mine", "New"]
        assert {entry["title"] for entry in current["entries"]} == {"Theirs", "left out"}

    used(database, work)


def test_a_first_save_is_refused_where_a_calendar_has_content_and_fills_one_left_empty(
    database: TestDatabase,
) -> None:
    async def work(db: Database) -> None:
        who, empty = someone(), uuid4()
        run_id = begin_run(database, who.user_id, empty)
        as_owner(database, "UPDATE cadenza.run SET status = 'failed' WHERE id = %s", [run_id])
        filled = await edit.save_all(db, who, empty, [new()], if_match=None, is_first=True)
        assert filled.document["revision"] == 1
        with pytest.raises(Conflict) as refused:
            await edit.save_all(db, who, empty, [], if_match=None, is_first=True)
        assert refused.value.code == "STALE_VERSION"
        assert len(sides(refused)[1]["entries"]) == 1

    used(database, work)


def test_while_a_run_is_on_entries_are_patched_but_not_saved_all(database: TestDatabase) -> None:
    async def work(db: Database) -> None:
        who = someone()
        calendar = await saved(db, who, [new()])
        run_id = begin_run(database, who.user_id, id_of(calendar))
        with pytest.raises(Conflict) as refused:
            await edit.save_all(db, who, id_of(calendar), [], if_match=1)
        assert (refused.value.code, refused.value.extra) == (
            "RUN_IN_PROGRESS",
            {"runId": str(run_id)},
        )
        (entry,) = entries_of(calendar)
        patched = await edit.patch_entry(
            db, who, id_of(calendar), id_of(entry), {"title": "Meanwhile"}, if_match=1
        )
        assert patched.document["title"] == "Meanwhile"

    used(database, work)


def test_a_patch_changes_only_its_fields_and_makes_a_version_and_a_revision(
    database: TestDatabase,
) -> None:
    async def work(db: Database) -> None:
        who = someone()
        calendar = await saved(db, who, [new(script="Keep me"), new(time="11:00")])
        entry, other = entries_of(calendar)
        patched = await edit.patch_entry(
            db, who, id_of(calendar), id_of(entry), {"time": "23:59", "script": None}, if_match=1
        )
        after = patched.document
        assert (after["version"], after["revision"]) == (2, 2)
        assert (after["time"], after["script"], after["copy"]) == ("23:59", None, entry["copy"])
        assert (await read.read_entry(db, who, id_of(calendar), id_of(other))).version == 1
        (newest, _) = await revisions(db, who, id_of(calendar))
        assert newest["cause"] == "patch"
        assert [change["before"]["script"] for change in newest["changes"]] == ["Keep me"]

    used(database, work)


def test_a_delete_keeps_the_text_in_its_revision(database: TestDatabase) -> None:
    async def work(db: Database) -> None:
        who = someone()
        calendar = await saved(db, who, [new(copy="Last words")])
        (entry,) = entries_of(calendar)
        deleted = await edit.delete_entry(db, who, id_of(calendar), id_of(entry), if_match=1)
        assert deleted.document == {"id": entry["id"], "revision": 2}
        with pytest.raises(NotFound):
            await read.read_entry(db, who, id_of(calendar), id_of(entry))
        with pytest.raises(NotFound):
            await edit.delete_entry(db, who, id_of(calendar), id_of(entry), if_match=1)
        (newest, _) = await revisions(db, who, id_of(calendar))
        assert newest["changes"][0]["before"]["copy"] == "Last words"
        assert newest["changes"][0]["after"] is None

    used(database, work)


def test_a_stale_delete_is_refused_with_the_text_it_would_have_destroyed(
    database: TestDatabase,
) -> None:
    async def work(db: Database) -> None:
        who = someone()
        calendar = await saved(db, who, [new()])
        (entry,) = entries_of(calendar)
        place = (id_of(calendar), id_of(entry))
        await edit.patch_entry(db, who, *place, {"copy": "Newer"}, if_match=1)
        with pytest.raises(Conflict) as refused:
            await edit.delete_entry(db, who, *place, if_match=1)
        assert sides(refused)[1]["copy"] == "Newer"
        assert (await read.read_entry(db, who, *place)).copy == "Newer"

    used(database, work)


async def with_review_needed(database: TestDatabase, db: Database, who: Caller) -> Wire:
    calendar = await saved(db, who, [new(title="a", time="08:00"), new(title="b")])
    as_owner(database, "UPDATE cadenza.calendar_entry SET needs_review = true")
    return calendar


def test_a_patch_reviews_its_entry_even_when_it_changes_nothing(database: TestDatabase) -> None:
    async def work(db: Database) -> None:
        who = someone()
        calendar = await with_review_needed(database, db, who)
        entry, _ = entries_of(calendar)
        patched = await edit.patch_entry(
            db, who, id_of(calendar), id_of(entry), {"title": "a"}, if_match=1
        )
        assert (patched.document["needsReview"], patched.document["version"]) == (False, 1)
        assert patched.document["revision"] == 2
        contents = await read.read_calendar(db, who, id_of(calendar))
        assert [entry.needs_review for entry in contents.entries] == [False, True]

    used(database, work)


def test_a_save_that_changes_nothing_reviews_every_entry_and_is_a_revision(
    database: TestDatabase,
) -> None:
    async def work(db: Database) -> None:
        who = someone()
        calendar = await with_review_needed(database, db, who)
        same = [as_sent(entry) for entry in entries_of(calendar)]
        written = await edit.save_all(db, who, id_of(calendar), same, if_match=1)
        assert [entry["needsReview"] for entry in entries_of(written.document)] == [False, False]
        assert [entry["version"] for entry in entries_of(written.document)] == [1, 1]
        (newest, _) = await revisions(db, who, id_of(calendar))
        reviewed = [
            (c["before"]["needsReview"], c["after"]["needsReview"]) for c in newest["changes"]
        ]
        assert reviewed == [(True, False), (True, False)]

    used(database, work)


def test_the_status_of_entries_is_asked_of_publishing_in_the_same_transaction(
    database: TestDatabase,
) -> None:
    async def work(db: Database) -> None:
        plain = someone()
        calendar = await saved(db, plain, [new()])
        entry_id = id_of(entries_of(calendar)[0])

        async def scheduled(conn: Conn, calendar_id: UUID) -> dict[UUID, str]:
            assert calendar_id == id_of(calendar)
            assert not conn.closed
            return {entry_id: "scheduled"}

        who = Caller(user_id=plain.user_id, statuses=scheduled)
        assert (await read.read_entry(db, who, id_of(calendar), entry_id)).status == "scheduled"
        patched = await edit.patch_entry(db, who, id_of(calendar), entry_id, {}, if_match=1)
        assert patched.document["status"] == "scheduled"

    used(database, work)


def test_of_two_patches_for_one_version_one_wins_and_the_other_is_given_both_texts(
    database: TestDatabase,
) -> None:
    async def work(db: Database) -> None:
        who = someone()
        calendar = await saved(db, who, [new()])
        place = (id_of(calendar), id_of(entries_of(calendar)[0]))
        for version in range(1, 11):
            tries = [
                edit.patch_entry(db, who, *place, {"copy": f"{name}{version}"}, if_match=version)
                for name in ("left", "right")
            ]
            results = await asyncio.gather(*tries, return_exceptions=True)
            (won,) = [result for result in results if isinstance(result, Written)]
            (lost,) = [result for result in results if isinstance(result, Conflict)]
            yours = cast("Wire", lost.extra["yours"])
            current = cast("Wire", lost.extra["current"])
            assert current["copy"] == won.document["copy"]
            assert {yours["copy"], current["copy"]} == {f"left{version}", f"right{version}"}
        assert len(await revisions(db, who, place[0])) == 11

    used(database, work)


def test_a_save_all_that_arrives_in_the_middle_of_a_patch_sees_what_it_wrote(
    database: TestDatabase,
) -> None:
    async def work(db: Database) -> None:
        who = someone()
        calendar = await saved(db, who, [new()])
        (entry,) = entries_of(calendar)
        inside, leave = asyncio.Event(), asyncio.Event()

        async def pausing(_conn: Conn, _calendar_id: UUID) -> dict[UUID, str]:
            inside.set()
            await leave.wait()
            return {}

        async def is_waiting() -> bool:
            waiting = "SELECT count(*) AS n FROM pg_locks WHERE NOT granted"
            row = await db.as_ops(lambda conn: _one(conn, waiting))
            return row["n"] >= 1

        slow = Caller(user_id=who.user_id, statuses=pausing)
        patch = asyncio.ensure_future(
            edit.patch_entry(
                db, slow, id_of(calendar), id_of(entry), {"copy": "Patched"}, if_match=1
            )
        )
        await inside.wait()
        sent = [as_sent(entry, copy="Saved")]
        save = asyncio.ensure_future(edit.save_all(db, who, id_of(calendar), sent, if_match=1))
        await eventually(is_waiting, what="the save waits for the patch")
        leave.set()
        assert (await patch).document["copy"] == "Patched"
        with pytest.raises(Conflict) as refused:
            await save
        assert sides(refused)[1]["entries"][0]["copy"] == "Patched"

    used(database, work)


async def _one(conn: Conn, statement: LiteralString) -> dict[str, Any]:
    row = await (await conn.execute(statement)).fetchone()
    assert row is not None
    return row


def test_a_save_all_and_a_patch_never_overwrite_each_other(database: TestDatabase) -> None:
    async def work(db: Database) -> None:
        who = someone()
        calendar = await saved(db, who, [new(title=str(n)) for n in range(20)])
        for _ in range(10):
            before = await read.read_calendar(db, who, id_of(calendar))
            target = before.entries[7]
            number = before.calendar.revision
            sent = [Sent(id=e.id, changes={"copy": f"All {number}"}) for e in before.entries]
            results = await asyncio.gather(
                edit.save_all(db, who, id_of(calendar), sent, if_match=number),
                edit.patch_entry(
                    db,
                    who,
                    id_of(calendar),
                    target.id,
                    {"copy": f"One {number}"},
                    if_match=target.version,
                ),
                return_exceptions=True,
            )
            won = [result for result in results if isinstance(result, Written)]
            lost = [result for result in results if isinstance(result, Conflict)]
            assert (len(won), len(lost)) == (1, 1)
            after = await read.read_calendar(db, who, id_of(calendar))
            assert after.calendar.revision == number + 1
        end = await read.read_calendar(db, who, id_of(calendar))
        kept = await read.list_revisions(db, who, id_of(calendar), limit=50)
        numbers = [item["revision"] for item in cast("list[dict[str, Any]]", kept["items"])]
        assert numbers == list(range(end.calendar.revision, 0, -1))

    used(database, work)


def test_twenty_requests_with_one_key_have_one_effect_and_the_same_answer(
    database: TestDatabase,
) -> None:
    async def work(db: Database) -> None:
        who = someone()
        calendar = await saved(db, who, [new()])
        place = (id_of(calendar), id_of(entries_of(calendar)[0]))
        changes: Changes = {"copy": "Once"}
        key = Key(
            user_id=who.user_id,
            route="PATCH /test",
            key="k-1",
            fingerprint=fingerprint("PATCH", "/test", dict(changes)),
        )
        asker = someone(who.user_id, key=key)
        answers = await asyncio.gather(
            *(edit.patch_entry(db, asker, *place, changes, if_match=1) for _ in range(20))
        )
        assert [answer.is_replayed for answer in answers].count(False) == 1
        assert {str(answer.document) for answer in answers} == {str(answers[0].document)}
        assert (await read.read_entry(db, who, *place)).version == 2
        assert len(await revisions(db, who, place[0])) == 2

    used(database, work)


def test_a_refused_write_leaves_its_key_free(database: TestDatabase) -> None:
    async def work(db: Database) -> None:
        who = someone()
        calendar = await saved(db, who, [])
        run_id = begin_run(database, who.user_id, id_of(calendar))
        key = Key(user_id=who.user_id, route="PUT /test", key="k-1", fingerprint="same")
        asker = someone(who.user_id, key=key)
        with pytest.raises(Conflict):
            await edit.save_all(db, asker, id_of(calendar), [new()], if_match=1)
        as_owner(database, "UPDATE cadenza.run SET status = 'completed' WHERE id = %s", [run_id])
        written = await edit.save_all(db, asker, id_of(calendar), [new()], if_match=1)
        assert (written.document["revision"], written.is_replayed) == (2, False)

    used(database, work)


def test_pages_of_calendars_and_revisions_neither_skip_nor_repeat(database: TestDatabase) -> None:
    async def work(db: Database) -> None:
        who = someone()
        made = [id_of(await saved(db, who, [new()] * n)) for n in range(5)]
        seen: list[str] = []
        cursor: str | None = None
        while True:
            page = await read.list_calendars(db, who, cursor=cursor, limit=2)
            items = cast("list[dict[str, Any]]", page["items"])
            seen += [item["id"] for item in items]
            assert all(item["revision"] == 1 for item in items)
            cursor = cast("str | None", page["nextCursor"])
            if cursor is None:
                break
        assert seen == [str(each) for each in reversed(made)]
        counted = await read.list_calendars(db, who)
        assert [item["entries"] for item in cast("list[Any]", counted["items"])] == [4, 3, 2, 1, 0]
        for bad in ("", "x", "1~x", "9" * 400 + f"~{uuid4()}"):
            with pytest.raises(Invalid):
                await read.list_calendars(db, who, cursor=bad)

        calendar_id = made[0]
        for number in (1, 2):
            await edit.save_all(db, who, calendar_id, [], if_match=number)
        page = await read.list_revisions(db, who, calendar_id, limit=2)
        rest = await read.list_revisions(
            db, who, calendar_id, limit=2, cursor=cast("str", page["nextCursor"])
        )
        numbers = [i["revision"] for p in (page, rest) for i in cast("list[Any]", p["items"])]
        assert (numbers, rest["nextCursor"]) == ([3, 2, 1], None)
        for bad in ("", "x", "-1", "9" * 30):
            with pytest.raises(Invalid):
                await read.list_revisions(db, who, calendar_id, cursor=bad)

    used(database, work)
