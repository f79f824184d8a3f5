"""Row security, tried by somebody who never writes a WHERE, and read from the catalogue.

Tables, columns and grants are what the database says they are, so a new table is covered the
moment it exists. For the storm, checks and foreign keys are dropped: what refuses a statement is
then row security or a missing grant, and nothing else by luck.
"""

import asyncio
import json
import random
import sys
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, LiteralString
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.errors import InsufficientPrivilege, UniqueViolation
from psycopg.rows import dict_row
from psycopg.sql import SQL, Composed, Identifier

from cadenza.db.pool import Conn, Database
from support import NewDatabase, TestDatabase

STATEMENTS = 3_000
USERS = [str(UUID(int=(0xA << 124) + number)) for number in range(6)]
ROLES = ("authenticated", "cadenza_worker", "cadenza_ops")
NOBODYS = {
    "schema_version": "Alembic's own: one word, no user's data, written by the migrating login",
}
SAME_FOR_ALL = {"flag_set": ["version"], "schema_version": ["version_num"]}
Row = dict[str, Any]

TABLES = """
SELECT c.relname AS name, c.relrowsecurity AS is_on, c.relforcerowsecurity AS is_forced,
  (SELECT count(*) FROM pg_policy p WHERE p.polrelid = c.oid) AS policies
FROM pg_class c WHERE c.relnamespace = 'cadenza'::regnamespace AND c.relkind IN ('r', 'p')
ORDER BY c.relname
"""
COLUMNS = """
SELECT c.relname AS table, a.attname AS name, format_type(a.atttypid, NULL) AS type,
  a.attidentity <> '' OR a.attgenerated <> '' AS is_made,
  coalesce(a.attnum = ANY(i.indkey), false) AS is_key,
  has_column_privilege('authenticated', c.oid, a.attnum, 'SELECT') AS may_select,
  has_column_privilege('authenticated', c.oid, a.attnum, 'INSERT') AS may_insert,
  has_column_privilege('authenticated', c.oid, a.attnum, 'UPDATE') AS may_update,
  has_table_privilege('authenticated', c.oid, 'DELETE, TRUNCATE, TRIGGER, REFERENCES') AS may_more
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN pg_index i ON i.indrelid = c.oid AND i.indisprimary
WHERE c.relnamespace = 'cadenza'::regnamespace AND c.relkind IN ('r', 'p')
ORDER BY c.relname, a.attnum
"""
LOOSEN = """
SELECT format('ALTER TABLE %s DROP CONSTRAINT %I CASCADE', conrelid::regclass, conname) AS it
FROM pg_constraint WHERE connamespace = 'cadenza'::regnamespace AND contype IN ('c', 'f')
"""
# Each row that a statement touches, with whose it was and whose it became.
LEDGER: LiteralString = """
CREATE TABLE public.touched (whose_was text, whose_is text, who text);
GRANT SELECT ON public.touched TO authenticated;
CREATE FUNCTION public.note_touched() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
  SET search_path = pg_catalog AS $$
BEGIN
  INSERT INTO public.touched VALUES (
    CASE WHEN TG_OP <> 'INSERT' THEN coalesce(to_jsonb(OLD) ->> 'user_id', 'nobody') END,
    CASE WHEN TG_OP <> 'DELETE' THEN coalesce(to_jsonb(NEW) ->> 'user_id', 'nobody') END,
    cadenza.uid()::text);
  RETURN NULL;
END $$
"""
WATCH: LiteralString = """
CREATE TRIGGER touched AFTER INSERT OR UPDATE OR DELETE ON {} FOR EACH ROW
EXECUTE FUNCTION public.note_touched()
"""
TOUCHED = """
SELECT count(*) AS touched, count(*) FILTER (WHERE whose_was <> who OR whose_is <> who) AS foreign
FROM public.touched
"""


@dataclass(frozen=True, slots=True)
class Table:
    name: str
    columns: list[Row]

    @property
    def ref(self) -> Identifier:
        return Identifier("cadenza", self.name)

    @property
    def keys(self) -> list[str]:
        return [column["name"] for column in self.columns if column["is_key"]]

    @property
    def has_owner(self) -> bool:
        return any(column["name"] == "user_id" for column in self.columns)

    def having(self, privilege: str) -> list[str]:
        return [column["name"] for column in self.columns if column[f"may_{privilege}"]]


@dataclass(slots=True)
class Figures:
    statements: Counter[str] = field(default_factory=Counter[str])
    refused: int = 0
    own_seen: int = 0
    own_changed: int = 0
    foreign: list[str] = field(default_factory=list[str])

    def __str__(self) -> str:
        return (
            f"{self.statements.total()} statements {dict(self.statements)}: {self.refused} refused,"
            f" {self.own_seen} own rows seen, {self.own_changed} changed,"
            f" {len(self.foreign)} times foreign rows"
        )


class Undone(Exception):  # an end that rolls back, not an error
    def __init__(self, rows: Sequence[Row], touched: int, foreign: int) -> None:
        self.rows, self.touched, self.foreign = rows, touched, foreign


@pytest.fixture(scope="module")
def untouched(new_database: NewDatabase) -> Generator[TestDatabase]:
    """A database that these tests only look at."""
    with new_database() as made:
        yield made


@pytest.fixture
def catalogue(untouched: TestDatabase) -> Callable[..., list[Row]]:
    def ask(statement: str, *values: object) -> list[Row]:
        return asked(untouched, statement, *values)

    return ask


def asked(database: TestDatabase, statement: str, *values: object) -> list[Row]:
    with (
        psycopg.connect(database.owner_dsn) as conn,
        conn.cursor(row_factory=dict_row) as cursor,
    ):
        return cursor.execute(statement.encode(), values or None).fetchall()


def tables_of(database: TestDatabase) -> list[Table]:
    columns = asked(database, COLUMNS)
    names = sorted({column["table"] for column in columns})
    return [Table(name, [c for c in columns if c["table"] == name]) for name in names]


def some_value(type_name: str, dice: random.Random) -> object:
    """Return any value of a column's type; a type nobody has used yet must be added here."""
    number = dice.randrange(1, 2**31 - 1)
    return {
        "uuid": lambda: str(UUID(int=dice.getrandbits(128))),
        "text": lambda: f"text-{number}",
        "character varying": lambda: f"word-{number}",
        "bigint": lambda: number,
        "integer": lambda: number,
        "boolean": lambda: bool(number % 2),
        "jsonb": lambda: json.dumps({"n": number}),
        "bytea": lambda: str(number).encode(),
        "date": lambda: datetime.fromtimestamp(number, UTC).date(),
        "time without time zone": lambda: datetime.fromtimestamp(number, UTC).time(),
        "timestamp with time zone": lambda: datetime.fromtimestamp(number, UTC),
    }[type_name]()


def some_row(table: Table, user_id: str, dice: random.Random) -> dict[str, object]:
    row = {c["name"]: some_value(c["type"], dice) for c in table.columns if not c["is_made"]}
    return {**row, "user_id": user_id} if table.has_owner else row


def inserting(table: Table, row: dict[str, object]) -> Composed:
    names = [Identifier(name) for name in row]
    return SQL("INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE VALUES ({})").format(
        table.ref, SQL(", ").join(names), SQL(", ").join([SQL("%s")] * len(row))
    )


def prepare(database: TestDatabase, tables: list[Table], dice: random.Random) -> None:
    """Give every user rows in every table, and leave nothing but row security to protect them."""
    with psycopg.connect(database.owner_dsn, autocommit=True) as conn:
        for loosened in conn.execute(LOOSEN).fetchall():
            conn.execute(loosened[0])
        for table in tables:
            for user_id in USERS * 3:
                row = some_row(table, user_id, dice)
                conn.execute(inserting(table, row), list(row.values()))
        conn.execute(LEDGER)
        for table in tables:
            conn.execute(SQL(WATCH).format(table.ref))


def forgetful(
    verb: str, table: Table, user_id: str, keys: list[Row], dice: random.Random
) -> tuple[Composed, list[object]]:
    """Return a statement of this user that forgets its WHERE, or reaches for somebody else."""
    other = dice.choice([one for one in USERS if one != user_id])
    column = dice.choice(
        table.having("update") or [c["name"] for c in table.columns if not c["is_made"]]
    )
    kind = next(c["type"] for c in table.columns if c["name"] == column)
    shown = [Identifier(name) for name in table.having("select")] or [SQL("*")]
    seen = SQL(", ").join(shown)
    match verb:
        case "select":
            return SQL("SELECT {} FROM {}").format(seen, table.ref), []
        case "delete":
            return SQL("DELETE FROM {} RETURNING {}").format(table.ref, seen), []
        case "give away" | "take":
            to = other if verb == "give away" else user_id
            return SQL("UPDATE {} SET user_id = %s RETURNING {}").format(table.ref, seen), [to]
        case "update":
            text = "UPDATE {} SET {} = %s RETURNING {}"
            value = user_id if column == "user_id" else some_value(kind, dice)
            return SQL(text).format(table.ref, Identifier(column), seen), [value]
        case _:
            row = some_row(table, other if verb == "insert" else user_id, dice)
            allowed = set(table.having("insert")) or set(row)
            row = {name: value for name, value in row.items() if name in allowed}
            if verb == "insert":
                return inserting(table, row), list(row.values())
            return upserting(table, row | dice.choice(keys), column)


def upserting(table: Table, row: dict[str, object], column: str) -> tuple[Composed, list[object]]:
    text = SQL("{} ON CONFLICT ({}) DO UPDATE SET {} = EXCLUDED.{}")
    keys = SQL(", ").join(Identifier(name) for name in table.keys)
    name = Identifier(column)
    return text.format(inserting(table, row), keys, name, name), list(row.values())


def storm(database: TestDatabase, count: int, *, seed: int) -> Figures:
    """Send that many statements as random users, each undone; return what came of them."""
    dice = random.Random(seed)  # noqa: S311  # which statement is next, no secret
    tables = tables_of(database)
    prepare(database, tables, dice)
    keys = {table.name: keys_of(database, table) for table in tables}
    figures = Figures()
    verbs = ["select", "insert", "update", "delete", "upsert", "give away", "take"]

    async def one(opened: Database) -> None:
        user_id, table, verb = dice.choice(USERS), dice.choice(tables), dice.choice(verbs)
        if verb in {"give away", "take"} and not table.has_owner:
            verb = "delete"
        figures.statements[verb] += 1
        statement, values = forgetful(verb, table, user_id, keys[table.name], dice)
        try:
            await opened.as_user(user_id, undone(statement, values))
        except (InsufficientPrivilege, UniqueViolation):
            figures.refused += 1
        except Undone as end:
            _count(figures, f"{verb} {table.name}", table, user_id, end)

    async def main() -> None:
        opened = Database(database.dsn, budget_s=30)
        await opened.open()
        try:
            for _ in range(0, count, 4):
                await asyncio.gather(*(one(opened) for _ in range(4)))
        finally:
            await opened.close()

    asyncio.run(main())
    return figures


def undone(statement: Composed, values: list[object]) -> Callable[[Conn], Any]:
    async def work(conn: Conn) -> None:
        cursor = await conn.execute(statement, values)
        rows = await cursor.fetchall() if cursor.description else []
        ledger = await (await conn.execute(TOUCHED)).fetchone()
        assert ledger is not None
        raise Undone(rows, ledger["touched"], ledger["foreign"])

    return work


def keys_of(database: TestDatabase, table: Table) -> list[Row]:
    names = ", ".join(table.keys)
    return asked(database, f"SELECT {names} FROM cadenza.{table.name}")  # noqa: S608  # the catalogue's names


def _count(figures: Figures, what: str, table: Table, user_id: str, end: Undone) -> None:
    strangers = [
        row
        for row in end.rows
        if (str(row["user_id"]) != user_id if "user_id" in row else not _is_for_all(table, row))
    ]
    if strangers or end.foreign:
        figures.foreign.append(f"{what}: {len(strangers)} seen, {end.foreign} changed")
    figures.own_seen += len(end.rows) if table.has_owner else 0
    figures.own_changed += end.touched


def _is_for_all(table: Table, row: Row) -> bool:
    return list(row) == SAME_FOR_ALL.get(table.name)


def test_of_3000_statements_without_a_where_none_sees_or_changes_a_foreign_row(
    database: TestDatabase,
) -> None:
    """Users get every grant on what has an owner, so that row security alone stands in between."""
    with psycopg.connect(database.owner_dsn, autocommit=True) as conn:
        for table in tables_of(database):
            if table.has_owner:
                conn.execute(SQL("GRANT ALL ON {} TO authenticated").format(table.ref))
    figures = told_storm(database, STATEMENTS)
    assert figures.own_seen > STATEMENTS // 3
    assert figures.own_changed > STATEMENTS // 5


def test_with_the_grants_there_are_most_statements_do_not_even_get_that_far(
    database: TestDatabase,
) -> None:
    figures = told_storm(database, STATEMENTS // 3)
    assert figures.own_seen > 0
    assert figures.refused > STATEMENTS // 6


def told_storm(database: TestDatabase, count: int) -> Figures:
    seed = random.SystemRandom().randrange(2**32)
    figures = storm(database, count, seed=seed)
    sys.stdout.write(f"seed {seed}: {figures}\n")
    assert figures.foreign == [], f"seed {seed}"
    assert figures.statements.total() == count
    return figures


@pytest.mark.parametrize("name", ["calendar_entry", "idempotency_key", "run_event"])
def test_the_storm_finds_one_table_without_row_security(database: TestDatabase, name: str) -> None:
    with psycopg.connect(database.owner_dsn, autocommit=True) as conn:
        conn.execute(
            SQL("ALTER TABLE {} DISABLE ROW LEVEL SECURITY").format(Identifier("cadenza", name))
        )
    figures = storm(database, 600, seed=1)
    assert figures.foreign
    assert {found.partition(":")[0].rpartition(" ")[2] for found in figures.foreign} == {name}


def test_every_table_is_under_row_security_that_binds_its_owner_too(
    catalogue: Callable[..., list[Row]],
) -> None:
    tables = catalogue(TABLES)
    assert len(tables) > 10
    open_ones = {t["name"] for t in tables if not (t["is_on"] and t["is_forced"])}
    assert open_ones == set(NOBODYS)


def test_every_table_says_by_policy_who_may_do_what(catalogue: Callable[..., list[Row]]) -> None:
    without = {table["name"] for table in catalogue(TABLES) if not table["policies"]}
    assert without == set(NOBODYS)


def test_a_policy_for_users_compares_the_rows_owner(catalogue: Callable[..., list[Row]]) -> None:
    policies = catalogue(
        "SELECT tablename, qual, with_check, cmd FROM pg_policies"
        " WHERE schemaname = 'cadenza' AND roles && ARRAY['authenticated', 'public']::name[]"
    )
    own = "(user_id = ( SELECT cadenza.uid() AS uid))"
    loose = {
        policy["tablename"]
        for policy in policies
        if policy["qual"] != own or policy["with_check"] not in {own, None}
    }
    assert policies
    assert loose == set(SAME_FOR_ALL) - set(NOBODYS)


def test_users_have_no_grant_where_rows_have_no_owner_or_the_product_decides(
    untouched: TestDatabase,
) -> None:
    closed = {"outcome", "intent_transition", "flag_policy", "flag_audit", "drill_context"}
    tables = {table.name: table for table in tables_of(untouched)}
    assert closed <= set(tables)
    for name, table in tables.items():
        shown = table.having("select")
        changed = table.having("insert") + table.having("update") + table.having("more")
        if name in closed:
            assert (shown, changed) == ([], []), name
        elif not table.has_owner:
            assert (shown, changed) == (SAME_FOR_ALL.get(name, []), []), name


def test_of_a_run_users_may_change_their_wish_to_cancel_and_not_see_its_lease(
    untouched: TestDatabase,
) -> None:
    (run,) = (table for table in tables_of(untouched) if table.name == "run")
    assert run.having("update") == ["cancel_requested_at"]
    assert run.having("insert") == run.having("more") == []
    lease = {"lease_token", "lease_until", "owner_name", "owner_boot"}
    assert lease <= {column["name"] for column in run.columns}
    assert lease & set(run.having("select")) == set()


def test_no_function_runs_as_its_owner_on_a_path_of_the_callers_choice(
    catalogue: Callable[..., list[Row]],
) -> None:
    open_path = catalogue(
        "SELECT proname FROM pg_proc WHERE pronamespace = 'cadenza'::regnamespace AND prosecdef"
        " AND NOT coalesce(array_to_string(proconfig, ' ') LIKE '%search_path=%', false)"
    )
    assert open_path == []


def test_no_view_looks_with_its_owners_eyes(catalogue: Callable[..., list[Row]]) -> None:
    borrowed = catalogue(
        "SELECT relname FROM pg_class WHERE relnamespace = 'cadenza'::regnamespace AND ("
        " relkind = 'm' OR"
        " relkind = 'v' AND NOT coalesce('security_invoker=true' = ANY(reloptions), false))"
    )
    assert borrowed == []


def test_the_services_login_owns_nothing_and_inherits_nothing(
    catalogue: Callable[..., list[Row]],
) -> None:
    (login,) = catalogue("SELECT * FROM pg_roles WHERE rolname = 'cadenza_app'")
    powers = ("rolsuper", "rolinherit", "rolcreaterole", "rolcreatedb", "rolbypassrls")
    assert [power for power in powers if login[power]] == []
    its_own = catalogue(
        "SELECT classid::regclass::text, objid FROM pg_shdepend"
        " WHERE refobjid = 'cadenza_app'::regrole AND deptype IN ('o', 'a', 'r')"
    )
    assert its_own == []
    member = catalogue(
        "SELECT roleid::regrole::text AS role, inherit_option, admin_option FROM pg_auth_members"
        " WHERE member = 'cadenza_app'::regrole ORDER BY 1"
    )
    assert [row["role"] for row in member] == sorted(ROLES)
    assert not any(row["inherit_option"] or row["admin_option"] for row in member)


def test_no_role_of_the_product_stands_above_row_security(
    catalogue: Callable[..., list[Row]],
) -> None:
    roles = [*ROLES, "cadenza_owner"]
    mighty = catalogue(
        "SELECT rolname FROM pg_roles"
        " WHERE rolname = ANY(%s) AND (rolsuper OR rolbypassrls OR rolcreaterole)",
        roles,
    )
    assert mighty == []
    members = catalogue(
        "SELECT roleid::regrole::text FROM pg_auth_members WHERE member::regrole::text = ANY(%s)",
        roles,
    )
    assert members == []


@pytest.mark.parametrize("role", [*ROLES, "cadenza_owner", "cadenza_app"])
def test_the_audit_is_never_changed_by_any_role(untouched: TestDatabase, role: str) -> None:
    tables = tables_of(untouched)
    audits = [table for table in tables if table.name.endswith("_audit")]
    assert audits
    for table in audits:
        column = Identifier(table.columns[-1]["name"])
        for text in ("UPDATE {0} SET {1} = {1}", "DELETE FROM {0}", "TRUNCATE {0}"):
            with psycopg.connect(untouched.owner_dsn) as conn:
                conn.execute("SELECT set_config('role', %s, true)", [role])
                with pytest.raises(InsufficientPrivilege):
                    conn.execute(SQL(text).format(table.ref, column))


def test_a_session_without_claims_sees_nothing(database: TestDatabase) -> None:
    tables = tables_of(database)
    prepare(database, tables, random.Random(str(uuid4())))  # noqa: S311  # as above
    with psycopg.connect(database.owner_dsn) as conn:
        conn.execute("SELECT set_config('role', 'authenticated', true)")
        for table in tables:
            if table.has_owner and table.having("select"):
                names = SQL(", ").join(Identifier(name) for name in table.having("select"))
                found = conn.execute(SQL("SELECT {} FROM {}").format(names, table.ref))
                assert found.fetchall() == [], table.name
