"""What the database itself refuses, whoever asks: a changed audit, a flag turned by a user."""

import asyncio
from collections.abc import Generator
from typing import LiteralString

import psycopg
import pytest
from psycopg import errors

from cadenza.db.pool import Conn, Database
from cadenza.flags.store import ensure_first_values
from support import TestDatabase

ROLES = ["postgres", "cadenza_owner", "cadenza_ops", "cadenza_worker", "authenticated"]
CHANGES: list[LiteralString] = [
    "UPDATE cadenza.flag_audit SET reason = 'nothing happened'",
    "UPDATE cadenza.flag_audit SET reason = 'nobody' WHERE false",
    "DELETE FROM cadenza.flag_audit",
    "TRUNCATE cadenza.flag_audit",
]
READS: list[LiteralString] = [
    "SELECT epoch FROM cadenza.flag_set",
    "SELECT key FROM cadenza.flag_policy",
    "SELECT key FROM cadenza.flag_audit",
    "SELECT id FROM cadenza.drill_context",
]
WRITES: list[LiteralString] = [
    "UPDATE cadenza.flag_set SET version = version + 1",
    "UPDATE cadenza.flag_policy SET percent_bp = 10000",
    "DELETE FROM cadenza.flag_policy",
    "INSERT INTO cadenza.flag_set (id, version, epoch) VALUES (1, 9, gen_random_uuid())",
    (
        "INSERT INTO cadenza.drill_context (id, user_id, flags, expires_at, reason, actor)"
        " VALUES ('mine', gen_random_uuid(), '{}', now(), 'because', 'me')"
    ),
    (
        "INSERT INTO cadenza.flag_audit (set_version, key, actor, reason, cause, after)"
        " VALUES (9, 'calendar', 'me', 'because', '{}', '{}')"
    ),
]


@pytest.fixture
def owner(database: TestDatabase) -> Generator[psycopg.Connection]:
    async def first_values(conn: Conn) -> list[str]:
        return await ensure_first_values(conn, development=True)

    async def seed() -> None:
        pool = Database(database.dsn, budget_s=10.0)
        await pool.open()
        await pool.as_ops(first_values)
        await pool.close()

    asyncio.run(seed())
    with psycopg.connect(database.owner_dsn, autocommit=True) as conn:
        yield conn


def become(conn: psycopg.Connection, role: str) -> None:
    conn.execute("SELECT set_config('role', %s, false)", [role])


@pytest.mark.parametrize("role", ROLES)
def test_nobody_changes_the_audit(owner: psycopg.Connection, role: str) -> None:
    before = owner.execute("SELECT * FROM cadenza.flag_audit ORDER BY seq").fetchall()
    assert len(before) == 2
    become(owner, role)
    for statement in CHANGES:
        with pytest.raises(errors.InsufficientPrivilege):
            owner.execute(statement)
    become(owner, "postgres")
    assert owner.execute("SELECT * FROM cadenza.flag_audit ORDER BY seq").fetchall() == before


def test_not_even_a_replication_session_changes_the_audit(owner: psycopg.Connection) -> None:
    owner.execute("SELECT set_config('session_replication_role', 'replica', false)")
    for statement in CHANGES:
        with pytest.raises(errors.InsufficientPrivilege, match="append-only"):
            owner.execute(statement)


def test_operators_add_to_the_audit_and_read_it(owner: psycopg.Connection) -> None:
    become(owner, "cadenza_ops")
    owner.execute(WRITES[-1])
    count = owner.execute("SELECT count(*) FROM cadenza.flag_audit").fetchone()
    assert count == (3,)


def test_an_act_without_actor_or_reason_is_no_audit(owner: psycopg.Connection) -> None:
    become(owner, "cadenza_ops")
    for actor, reason in (("", "because"), ("ana", "ok")):
        with pytest.raises(errors.CheckViolation):
            owner.execute(
                "INSERT INTO cadenza.flag_audit (set_version, key, actor, reason, cause, after)"
                " VALUES (9, 'calendar', %s, %s, '{}', '{}')",
                [actor, reason],
            )


def test_a_user_sees_the_version_and_nothing_else(owner: psycopg.Connection) -> None:
    become(owner, "authenticated")
    assert owner.execute("SELECT version FROM cadenza.flag_set").fetchone() == (1,)
    for statement in (*READS, *WRITES):
        with pytest.raises(errors.InsufficientPrivilege):
            owner.execute(statement)


def test_the_worker_reads_and_changes_nothing(owner: psycopg.Connection) -> None:
    become(owner, "cadenza_worker")
    assert len(owner.execute("SELECT key FROM cadenza.flag_policy").fetchall()) == 2
    for statement in WRITES:
        with pytest.raises(errors.InsufficientPrivilege):
            owner.execute(statement)


def test_every_table_of_the_flags_is_under_row_security(owner: psycopg.Connection) -> None:
    found = owner.execute(
        "SELECT relname FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace"
        " WHERE nspname = 'cadenza' AND relkind = 'r' AND relrowsecurity AND relforcerowsecurity"
        " AND (relname LIKE 'flag%' OR relname = 'drill_context') ORDER BY relname"
    ).fetchall()
    assert found == [("drill_context",), ("flag_audit",), ("flag_policy",), ("flag_set",)]


def test_a_drill_cannot_outlive_ten_minutes(owner: psycopg.Connection) -> None:
    become(owner, "cadenza_ops")
    with pytest.raises(errors.CheckViolation):
        owner.execute(
            "INSERT INTO cadenza.drill_context (id, user_id, flags, expires_at, reason, actor)"
            " VALUES ('long', gen_random_uuid(), '{}', now() + interval '601 seconds', 'because',"
            " 'ana')"
        )
