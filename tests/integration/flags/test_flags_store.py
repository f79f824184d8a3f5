"""Policies in a real database: seeded once, changed whole or not at all, seen by the poll."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg.rows import dict_row

from cadenza.db.gate import GATES
from cadenza.db.pool import Conn, Database
from cadenza.errors import Conflict, Invalid, NotFound
from cadenza.flags import store
from cadenza.flags.change import By, Change, Edit, by_operator, killed, switched_off, switched_on
from cadenza.flags.compile import compile_set
from cadenza.flags.drill import new_drill
from cadenza.flags.live import open_flags
from cadenza.flags.policy import KEYS, Policy
from support import TestDatabase, eventually

ALICE = "9750dcc2-516e-5ea0-8a26-54fa6ff6986b"
BOB = "0aa3b1f2-6c55-5d2e-9b0b-2f5b8a6f7c10"
AI = frozenset({"ai"})
NOTHING: frozenset[str] = frozenset()


def run(database: TestDatabase, story: Callable[[Database], Awaitable[None]]) -> None:
    """Run a story against this test's database, which has its first values."""

    async def within() -> None:
        pool = Database(database.dsn, budget_s=10.0)
        await pool.open()
        try:
            await pool.as_ops(first_values)
            await story(pool)
        finally:
            await pool.close()

    asyncio.run(within())


async def first_values(conn: Conn) -> list[str]:
    return await store.ensure_first_values(conn, development=True)


def by(verb: str = "test") -> By:
    return by_operator(actor="ana", reason="because of a test", verb=verb, request_id="req-12345")


async def change(database: Database, key: str, edit: Edit, **given: Any) -> Change:
    asked: dict[str, Any] = {"settings": AI, "hard_kills": NOTHING} | given
    return await store.change(database, key=key, edit=edit, by=by(), **asked)


def audit(database: TestDatabase) -> list[dict[str, Any]]:
    with psycopg.connect(database.owner_dsn) as conn:
        cursor = conn.cursor(row_factory=dict_row)
        return cursor.execute("SELECT * FROM cadenza.flag_audit ORDER BY seq").fetchall()


def rows(database: TestDatabase) -> str:
    """Return everything the flags keep, for comparing before with after."""
    with psycopg.connect(database.owner_dsn) as conn:
        found = [
            conn.execute("SELECT version, epoch FROM cadenza.flag_set").fetchall(),
            conn.execute("SELECT * FROM cadenza.flag_policy ORDER BY key").fetchall(),
            conn.execute("SELECT * FROM cadenza.flag_audit ORDER BY seq").fetchall(),
        ]
    return repr(found)


def test_every_flag_has_a_gate_of_its_own() -> None:
    assert set(GATES) == set(KEYS)
    assert len(set(GATES.values())) == len(KEYS)


def test_first_values_are_stored_once_and_audited(database: TestDatabase) -> None:
    async def story(pool: Database) -> None:
        before = rows(database)
        assert await pool.as_ops(first_values) == []
        assert rows(database) == before
        flags = await pool.as_worker(store.load)
        words = {key: policy.summary() for key, policy in flags.policies.items()}
        assert words == {"calendar": "on", "publish": "off"}
        assert flags.version == 1

    run(database, story)
    assert [(r["key"], r["actor"], r["set_version"], r["before"]) for r in audit(database)] == [
        ("calendar", "cadenza", 1, None),
        ("publish", "cadenza", 1, None),
    ]


def test_first_values_never_overwrite_a_policy_that_exists(database: TestDatabase) -> None:
    async def story(pool: Database) -> None:
        await change(pool, "calendar", killed)
        before = rows(database)
        assert await pool.as_ops(first_values) == []
        assert rows(database) == before

    run(database, story)


def test_a_change_is_one_version_one_policy_and_one_line_of_audit(database: TestDatabase) -> None:
    async def story(pool: Database) -> None:
        done = await change(pool, "calendar", killed)
        assert (done.happened, done.set_version, done.after.version) == (True, 2, 2)
        flags = await pool.as_worker(store.load)
        assert flags.policies["calendar"] == done.after
        assert (flags.version, flags.policies["publish"].version) == (2, 1)
        assert await pool.as_worker(store.peek) == await pool.as_worker(store.peek)

    run(database, story)
    line = audit(database)[-1]
    assert (line["set_version"], line["key"], line["actor"]) == (2, "calendar", "ana")
    assert line["reason"] == "because of a test"
    assert line["cause"] == {"kind": "operator", "verb": "test", "requestId": "req-12345"}
    assert (line["before"]["kill"], line["after"]["kill"]) == (False, True)


def test_what_is_already_so_changes_nothing(database: TestDatabase) -> None:
    async def story(pool: Database) -> None:
        await change(pool, "calendar", killed)
        before = rows(database)
        again = await change(pool, "calendar", killed)
        assert (again.happened, again.set_version) == (False, 2)
        assert rows(database) == before

    run(database, story)


def test_publish_cannot_be_turned_on_before_its_revision_is_shipped(
    database: TestDatabase,
) -> None:
    async def story(pool: Database) -> None:
        before = rows(database)
        with pytest.raises(Conflict) as refused:
            await change(pool, "publish", switched_on)
        assert refused.value.code == "SCHEMA_BEHIND"
        assert refused.value.extra["missing"] == "0005"
        assert refused.value.extra["present"] == await pool.as_ops(store.schema_revision)
        assert rows(database) == before

    run(database, story)


def test_exposure_grows_only_with_its_settings_and_without_a_hard_kill(
    database: TestDatabase,
) -> None:
    async def story(pool: Database) -> None:
        await change(pool, "calendar", switched_off, settings=NOTHING)
        for given, code in (
            ({"settings": NOTHING}, "SETTING_MISSING"),
            ({"hard_kills": frozenset({"calendar"})}, "ENV_HARD_KILL"),
        ):
            with pytest.raises(Conflict) as refused:
                await change(pool, "calendar", switched_on, **given)
            assert refused.value.code == code
        await change(pool, "calendar", killed, hard_kills=frozenset({"calendar"}))
        on = await change(pool, "calendar", switched_on)
        assert on.after.summary() == "on"

    run(database, story)


def test_a_change_made_for_another_version_is_refused_with_what_is_there(
    database: TestDatabase,
) -> None:
    async def story(pool: Database) -> None:
        await change(pool, "calendar", killed, if_version=1)
        with pytest.raises(Conflict) as refused:
            await change(pool, "calendar", switched_off, if_version=1)
        assert refused.value.code == "STALE_VERSION"
        current: Any = refused.value.extra["current"]
        assert (refused.value.extra["expected"], current["version"]) == (1, 2)

    run(database, story)


def miscompiled(policies: Any, *, set_version: int) -> str:
    document = json.loads(compile_set(policies, set_version=set_version))
    document["flags"]["publish"]["variants"]["safe"] = "live"
    return json.dumps(document)


def test_a_policy_that_compiles_wrongly_never_commits(database: TestDatabase) -> None:
    async def story(pool: Database) -> None:
        before = rows(database)
        with pytest.raises(Invalid) as refused:
            await change(pool, "calendar", killed, compiler=miscompiled)
        assert refused.value.code == "FLAGS_NOT_PROVEN"
        assert rows(database) == before
        assert (await change(pool, "calendar", killed)).happened

    run(database, story)


def test_a_policy_that_is_no_policy_never_commits(database: TestDatabase) -> None:
    def broken(policy: Policy) -> Policy:
        return replace(policy, percent_bp=10_001, deny=("bob",))

    async def story(pool: Database) -> None:
        before = rows(database)
        with pytest.raises(Invalid) as refused:
            await change(pool, "calendar", broken)
        assert {m.pointer for m in refused.value.mistakes} == {"/percentBp", "/deny/0"}
        assert rows(database) == before

    run(database, story)


def test_an_unknown_flag_is_not_found(database: TestDatabase) -> None:
    async def story(pool: Database) -> None:
        with pytest.raises(NotFound):
            await change(pool, "export", killed)

    run(database, story)


def test_changes_at_once_each_get_their_own_version_and_none_is_lost(
    database: TestDatabase,
) -> None:
    def deny(user_id: str) -> Edit:
        return lambda policy: replace(policy, deny=(*policy.deny, user_id))

    async def story(pool: Database) -> None:
        users = [str(uuid4()) for _ in range(12)]
        made = await asyncio.gather(
            *(change(pool, key, deny(user)) for user in users for key in KEYS)
        )
        assert sorted(m.set_version for m in made) == list(range(2, 26))
        flags = await pool.as_worker(store.load)
        assert all(set(policy.deny) == set(users) for policy in flags.policies.values())
        assert flags.version == 25

    run(database, story)
    assert [line["set_version"] for line in audit(database)] == [1, *range(1, 26)]


def test_a_flag_of_a_newer_release_is_left_out_and_one_of_this_release_is_safe(
    database: TestDatabase,
) -> None:
    async def story(pool: Database) -> None:
        with psycopg.connect(database.owner_dsn) as conn:
            conn.execute("UPDATE cadenza.flag_policy SET key = 'journal' WHERE key = 'calendar'")
        flags = await pool.as_worker(store.load)
        assert set(flags.policies) == set(KEYS)
        assert (flags.policies["calendar"].summary(), flags.policies["calendar"].version) == (
            "off",
            0,
        )
        assert await pool.as_ops(first_values) == ["calendar"]
        assert (await pool.as_worker(store.peek)).version == 2

    run(database, story)


def test_a_drill_is_found_by_its_own_user_only_until_it_is_over(database: TestDatabase) -> None:
    async def story(pool: Database) -> None:
        drill = new_drill(user_id=ALICE, flags={"publish": "live"}, ttl_s=60)
        await pool.as_ops(lambda conn: store.open_drill(conn, drill, ttl_s=60, by=by("drill")))
        found = await pool.as_worker(
            lambda conn: store.find_drill(conn, drill_id=drill.id, user_id=ALICE)
        )
        assert found == drill
        for drill_id, user_id in ((drill.id, BOB), ("guessed", ALICE)):
            with pytest.raises(NotFound) as refused:
                await pool.as_worker(
                    lambda conn, drill_id=drill_id, user_id=user_id: store.find_drill(
                        conn, drill_id=drill_id, user_id=user_id
                    )
                )
            assert refused.value.code == "DRILL_NOT_FOUND"
        with psycopg.connect(database.owner_dsn) as conn:
            conn.execute("UPDATE cadenza.drill_context SET expires_at = now()")
        with pytest.raises(NotFound):
            await pool.as_worker(
                lambda conn: store.find_drill(conn, drill_id=drill.id, user_id=ALICE)
            )

    run(database, story)
    line = audit(database)[-1]
    assert (line["key"], line["actor"], line["after"]["userId"]) == ("drill", "ana", ALICE)
    assert line["after"]["flags"] == {"publish": "live"}


def note(_name: str, *, level: str = "info", **_fields: object) -> None:
    assert level


def test_a_change_is_seen_by_every_instance_that_polls(database: TestDatabase) -> None:
    async def story(pool: Database) -> None:
        def instance() -> Any:
            where = store.source(pool)
            return open_flags(where, domain=f"test-{uuid4()}", note=note, poll_s=0.01)

        async with instance() as one, instance() as two:
            assert one.evaluate("calendar", ALICE).label == "ai@1"
            await change(pool, "calendar", killed)

            async def both() -> bool:
                return {f.evaluate("calendar", ALICE).label for f in (one, two)} == {"template@2"}

            await eventually(both)

    run(database, story)


def test_the_last_values_are_kept_when_the_database_goes(database: TestDatabase) -> None:
    async def story(pool: Database) -> None:
        other = Database(database.dsn, budget_s=10.0)
        await other.open()
        where = store.source(other)
        async with open_flags(where, domain=f"test-{uuid4()}", note=note, poll_s=60) as flags:
            assert flags.set_version == 1
            await other.close()
            await change(pool, "calendar", killed)
            assert not await flags.try_refresh()
            assert flags.evaluate("calendar", ALICE).label == "ai@1"
            assert flags.held.source == "database"

    run(database, story)
