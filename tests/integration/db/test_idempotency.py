"""Idempotency keys: one effect, one answer, kept exactly when the effect is."""

import asyncio
from uuid import uuid4

import psycopg
import pytest

from cadenza.db.idempotency import (
    Answer,
    Key,
    checked_key,
    fingerprint,
    once,
    purge,
    remember,
)
from cadenza.db.pool import Conn, Database
from cadenza.errors import Conflict, Invalid
from calendar_support import used
from support import TestDatabase

USER = str(uuid4())


def key(text: str = "k-1", *, user: str = USER, route: str = "PUT /x", body: object = None) -> Key:
    return Key(user_id=user, route=route, key=text, fingerprint=fingerprint("PUT", "/x", body))


async def creating(conn: Conn, wanted: Key) -> tuple[Answer, bool]:
    """Make a calendar once per key, and answer its id."""
    kept = await once(conn, wanted)
    if kept is not None:
        return kept, False
    made = str(uuid4())
    await conn.execute(
        "INSERT INTO cadenza.calendar (id, user_id) VALUES (%s, %s)", [made, wanted.user_id]
    )
    await remember(conn, wanted, 200, made.encode())
    return Answer(200, made.encode()), True


async def answered(db: Database, wanted: Key) -> tuple[Answer, bool]:
    return await db.as_user(wanted.user_id, lambda conn: creating(conn, wanted))


def count(database: TestDatabase, table: str) -> int:
    with psycopg.connect(database.owner_dsn, autocommit=True) as conn:
        row = conn.execute(f"SELECT count(*) FROM cadenza.{table}".encode()).fetchone()  # noqa: S608
    assert row is not None
    return row[0]


def test_twenty_at_once_have_one_effect_and_the_same_answer(database: TestDatabase) -> None:
    async def work(db: Database) -> None:
        results = await asyncio.gather(*(answered(db, key()) for _ in range(20)))
        assert {answer for answer, _ in results} == {results[0][0]}
        assert [is_new for _, is_new in results].count(True) == 1

    used(database, work)
    assert count(database, "calendar") == 1


def test_a_key_belongs_to_one_user_and_one_route(database: TestDatabase) -> None:
    async def work(db: Database) -> None:
        wanted = [key(), key(route="POST /y"), key(user=str(uuid4())), key("k-2")]
        for each in wanted:
            assert (await answered(db, each))[1]
        for each in wanted:
            assert not (await answered(db, each))[1]

    used(database, work)


def test_a_key_that_comes_with_another_body_is_refused(database: TestDatabase) -> None:
    async def work(db: Database) -> None:
        await answered(db, key(body={"a": 1}))
        with pytest.raises(Invalid) as refused:
            await answered(db, key(body={"a": 2}))
        assert refused.value.code == "IDEMPOTENCY_KEY_REUSED"

    used(database, work)
    assert count(database, "calendar") == 1


def test_a_key_whose_first_request_still_runs_is_a_conflict_and_no_long_wait(
    database: TestDatabase,
) -> None:
    async def work(db: Database) -> None:
        inside, leave = asyncio.Event(), asyncio.Event()

        async def slow(conn: Conn) -> None:
            await creating(conn, key())
            inside.set()
            await leave.wait()

        async def impatient(conn: Conn) -> None:
            await once(conn, key(), lock_wait_s=0.05)

        first = asyncio.ensure_future(db.as_user(USER, slow))
        await inside.wait()
        with pytest.raises(Conflict) as refused:
            await db.as_user(USER, impatient)
        assert refused.value.code == "IDEMPOTENCY_RUNNING"
        leave.set()
        await first
        assert not (await answered(db, key()))[1]

    used(database, work)


def test_a_failed_effect_keeps_no_answer_and_the_key_can_be_used_again(
    database: TestDatabase,
) -> None:
    async def work(db: Database) -> None:
        async def broken(conn: Conn) -> None:
            await creating(conn, key())
            raise Conflict("Something else said no")

        with pytest.raises(Conflict):
            await db.as_user(USER, broken)
        assert (await answered(db, key()))[1]

    used(database, work)
    assert count(database, "calendar") == 1


def test_the_short_wait_is_for_the_key_only(database: TestDatabase) -> None:
    async def work(db: Database) -> None:
        async def waits(conn: Conn) -> tuple[str, str]:
            show = "SELECT current_setting('lock_timeout') AS wait"
            before = await (await conn.execute(show)).fetchone()
            await once(conn, key())
            after = await (await conn.execute(show)).fetchone()
            assert before is not None
            assert after is not None
            return before["wait"], after["wait"]

        before, after = await db.as_user(USER, waits)
        assert before == after

    used(database, work)


def test_old_keys_are_forgotten_and_young_ones_stay(database: TestDatabase) -> None:
    async def work(db: Database) -> None:
        await answered(db, key("old"))
        with psycopg.connect(database.owner_dsn, autocommit=True) as conn:
            conn.execute(
                "UPDATE cadenza.idempotency_key SET created_at = now() - interval '8 days'"
            )
        await answered(db, key("young"))
        assert await db.as_ops(purge) == 1
        assert not (await answered(db, key("young")))[1]
        assert (await answered(db, key("old")))[1]

    used(database, work)


def test_one_document_has_one_fingerprint_however_it_is_written() -> None:
    same = fingerprint("PUT", "/x", {"a": 1, "b": ["é"]})
    assert fingerprint("PUT", "/x", {"b": ["\u00e9"], "a": 1}) == same
    others = [("PUT", "/y", {"a": 1, "b": ["é"]}), ("POST", "/x", {"a": 1, "b": ["é"]})]
    assert same not in {fingerprint(*each) for each in [*others, ("PUT", "/x", None)]}


@pytest.mark.parametrize("text", ["", " ", "a b", "é", "a\n", "\x7f", "k" * 256])
def test_a_key_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        checked_key(text)


@pytest.mark.parametrize("text", ["k", '"8e03978e-40d5"', "!~", "k" * 255])
def test_a_key_is_visible_ascii(text: str) -> None:
    assert checked_key(text) == text
