"""Flags in the database: read whole, changed in one transaction, audited for good."""

import asyncio
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Final

from psycopg.types.json import Jsonb

from cadenza.db.gate import gate_of
from cadenza.db.pool import Conn, Database
from cadenza.errors import Conflict, NotFound, Unavailable
from cadenza.flags.change import (
    By,
    Change,
    Edit,
    Surroundings,
    changed_fields,
    grows,
    refuse_growth,
)
from cadenza.flags.compile import compile_set
from cadenza.flags.drill import Drill
from cadenza.flags.policy import KEYS, Policy, first_values, from_wire
from cadenza.flags.probe import prove
from cadenza.flags.provider import FlagSet, SetVersion, Source, flag_set

Compiler = Callable[..., str]

CHANGE_BUDGET_S: Final = 5.0  # what is under way behind the gate may take a second to end
_PEEK = "SELECT version, epoch FROM cadenza.flag_set"
_LOAD = """
SELECT s.version, s.epoch, coalesce(
    jsonb_agg(jsonb_build_object(
      'key', p.key, 'kill', p.kill, 'stopped', p.stopped, 'deny', p.deny, 'allow', p.allow,
      'percentBp', p.percent_bp, 'salt', p.salt, 'variants', p.variants, 'requires', p.requires,
      'owner', p.owner, 'expiresAt', p.expires_at, 'version', p.version
    )) FILTER (WHERE p.key IS NOT NULL), '[]') AS policies
  FROM cadenza.flag_set s LEFT JOIN cadenza.flag_policy p ON p.key = ANY(%s)
 GROUP BY s.version, s.epoch"""
_LOCK = "SELECT version FROM cadenza.flag_set FOR UPDATE"
_REVISION = "SELECT max(version_num) AS revision FROM cadenza.schema_version"
_FIRST_SET = """
INSERT INTO cadenza.flag_set (id, version, epoch) VALUES (1, 0, gen_random_uuid())
ON CONFLICT (id) DO NOTHING"""
_FIRST_POLICY = """
WITH p AS (
  INSERT INTO cadenza.flag_policy (key, kill, stopped, deny, allow, percent_bp, salt, variants,
                                   requires, owner, expires_at, version)
  VALUES (%(key)s, %(kill)s, %(stopped)s, %(deny)s, %(allow)s, %(percent_bp)s, %(salt)s,
          %(variants)s, %(requires)s, %(owner)s, %(expires_at)s, %(version)s)
  ON CONFLICT (key) DO NOTHING RETURNING key
), s AS (
  UPDATE cadenza.flag_set SET version = %(version)s, changed_at = now()
   WHERE EXISTS (SELECT FROM p)
)
INSERT INTO cadenza.flag_audit (set_version, key, actor, reason, cause, before, after)
SELECT %(version)s, key, %(actor)s, %(reason)s, %(cause)s, %(before)s, %(after)s FROM p
RETURNING seq"""
_CHANGE = """
WITH p AS (
  UPDATE cadenza.flag_policy
     SET kill = %(kill)s, stopped = %(stopped)s, deny = %(deny)s, allow = %(allow)s,
         percent_bp = %(percent_bp)s, salt = %(salt)s, variants = %(variants)s,
         requires = %(requires)s, owner = %(owner)s, expires_at = %(expires_at)s,
         version = %(version)s
   WHERE key = %(key)s RETURNING key
), s AS (
  UPDATE cadenza.flag_set SET version = %(version)s, changed_at = now()
   WHERE EXISTS (SELECT FROM p)
)
INSERT INTO cadenza.flag_audit (set_version, key, actor, reason, cause, before, after)
SELECT %(version)s, key, %(actor)s, %(reason)s, %(cause)s, %(before)s, %(after)s FROM p
RETURNING seq"""
_OPEN_DRILL = """
WITH d AS (
  INSERT INTO cadenza.drill_context (id, user_id, flags, expires_at, reason, actor)
  VALUES (%(id)s, %(user_id)s, %(flags)s, now() + make_interval(secs => %(ttl_s)s),
          %(reason)s, %(actor)s)
  RETURNING expires_at
)
INSERT INTO cadenza.flag_audit (set_version, key, actor, reason, cause, after)
SELECT s.version, 'drill', %(actor)s, %(reason)s, %(cause)s,
       jsonb_build_object('userId', %(user_id)s::text, 'flags', %(flags)s::jsonb,
                          'expiresAt', d.expires_at)
  FROM d, cadenza.flag_set s
RETURNING (after ->> 'expiresAt')::timestamptz AS expires_at"""
_FIND_DRILL = """
SELECT flags FROM cadenza.drill_context
 WHERE id = %(id)s AND user_id = %(user_id)s AND expires_at > now()"""
_EXPIRE_DRILLS = "DELETE FROM cadenza.drill_context WHERE expires_at < now()"


def source(database: Database) -> Source:
    """Return where this instance's flags come from: the database, as the worker."""

    async def read_version() -> SetVersion:
        return await database.as_worker(peek)

    async def read_all() -> FlagSet:
        return await database.as_worker(load)

    return Source(peek=read_version, load=read_all)


async def peek(conn: Conn) -> SetVersion:
    """Return the set's version; raise Unavailable before the first values are there."""
    row = await (await conn.execute(_PEEK)).fetchone()
    if row is None:
        raise Unavailable("The flags have no first values yet: run `cadenza migrate`")
    return SetVersion(version=row["version"], epoch=row["epoch"])


async def load(conn: Conn) -> FlagSet:
    """Return every policy and the set's version, as of one instant.

    A flag that only a newer release knows is left out, and one that this release adds but the
    database has not yet is packaged-safe: old and new code read the same rows.
    """
    row = await (await conn.execute(_LOAD, [list(KEYS)])).fetchone()
    if row is None:
        raise Unavailable("The flags have no first values yet: run `cadenza migrate`")
    absent = first_values(development=False, version=0)
    stored = [from_wire(document) for document in row["policies"]]
    return flag_set([*absent, *stored], version=row["version"], epoch=row["epoch"])


async def schema_revision(conn: Conn) -> str | None:
    """Return the revision the database has, None before the first."""
    row = await (await conn.execute(_REVISION)).fetchone()
    return None if row is None else row["revision"]


async def ensure_first_values(conn: Conn, *, development: bool) -> list[str]:
    """Add the policies that are not there yet, audited; return their keys. As the operators.

    Changes nothing twice, and never a policy that exists.
    """
    await conn.execute(_FIRST_SET)
    row = await (await conn.execute(_LOCK)).fetchone()
    version = 1 + (row["version"] if row else 0)
    by = By(actor="cadenza", reason="first values", cause={"kind": "packaged", "verb": "migrate"})
    wanted = first_values(development=development, version=version)
    await _prove(wanted, version, compile_set)
    added: list[str] = []
    for policy in wanted:
        cursor = await conn.execute(_FIRST_POLICY, _parameters(None, policy, by))
        if await cursor.fetchone():
            added.append(policy.key)
    return added


async def change(
    database: Database,
    *,
    key: str,
    edit: Edit,
    by: By,
    settings: frozenset[str],
    hard_kills: frozenset[str],
    if_version: int | None = None,
    compiler: Compiler = compile_set,
) -> Change:
    """Change one policy behind its closed gate; return it before and after, committed.

    When this returns, every write decided on the old version is in the database, and none
    comes later. Raises NotFound for an unknown flag, Conflict when `if_version` is not the
    policy's version or when exposure would grow and something is missing, Invalid when the
    compiled set does not answer as its policies say. Nothing is stored then.
    """

    async def work(conn: Conn) -> Change:
        await conn.execute(_LOCK)  # one change at a time: the order of versions is of commits
        flags = await load(conn)
        before = flags.policies[key]
        _refuse_stale(before, if_version)
        after = edit(before)
        if not changed_fields(before, after):
            return Change(before=before, after=before, set_version=flags.version, by=by)
        version = flags.version + 1
        after = from_wire({**after.as_wire(), "version": version})
        if grows(before, after):
            revision = await schema_revision(conn)
            around = Surroundings(
                schema_revision=revision, settings=settings, hard_kills=hard_kills
            )
            refuse_growth(after, flags.policies, around)
        await _prove({**flags.policies, key: after}.values(), version, compiler)
        if await (await conn.execute(_CHANGE, _parameters(before, after, by))).fetchone() is None:
            raise NotFound(f"The database has no policy for {key}: run `cadenza migrate`")
        return Change(before=before, after=after, set_version=version, by=by)

    return await database.as_ops(work, closing=gate_of(key), budget_s=CHANGE_BUDGET_S)


async def open_drill(conn: Conn, drill: Drill, *, ttl_s: int, by: By) -> datetime:
    """Store a drill, audited, and drop the expired ones; return when it ends. As the operators."""
    await conn.execute(_EXPIRE_DRILLS)
    cursor = await conn.execute(
        _OPEN_DRILL,
        {
            "id": drill.id,
            "user_id": drill.user_id,
            "flags": Jsonb(dict(drill.flags)),
            "ttl_s": ttl_s,
            "reason": by.reason,
            "actor": by.actor,
            "cause": Jsonb(dict(by.cause)),
        },
    )
    row = await cursor.fetchone()
    if row is None:
        raise Unavailable("The flags have no first values yet: run `cadenza migrate`")
    return row["expires_at"]


async def find_drill(conn: Conn, *, drill_id: str, user_id: str) -> Drill:
    """Return this user's open drill; raise NotFound for any other. As the worker.

    An unknown id is refused, never ignored: whoever sent it believes this is a drill.
    """
    asked = {"id": drill_id, "user_id": user_id}
    row = await (await conn.execute(_FIND_DRILL, asked)).fetchone()
    if row is None:
        raise NotFound(
            "There is no such drill for this user, or it is over", code="DRILL_NOT_FOUND"
        )
    return Drill(id=drill_id, user_id=user_id, flags=row["flags"])


def _refuse_stale(found: Policy, if_version: int | None) -> None:
    if if_version is not None and if_version != found.version:
        raise Conflict(
            f"{found.key} was changed: it has version {found.version}, not {if_version}",
            code="STALE_VERSION",
            extra={"expected": if_version, "current": found.as_wire()},
        )


async def _prove(policies: Iterable[Policy], version: int, compiler: Compiler) -> None:
    """Raise Invalid unless the compiled policies answer as they say; off the event loop."""
    proven = tuple(policies)
    await asyncio.to_thread(prove, proven, compiler(proven, set_version=version))


def _parameters(before: Policy | None, after: Policy, by: By) -> dict[str, object]:
    wire = after.as_wire()
    return {
        "key": after.key,
        "kill": after.kill,
        "stopped": after.stopped,
        "deny": Jsonb(wire["deny"]),
        "allow": Jsonb(wire["allow"]),
        "percent_bp": after.percent_bp,
        "salt": after.salt,
        "variants": Jsonb(wire["variants"]),
        "requires": Jsonb(wire["requires"]),
        "owner": after.owner,
        "expires_at": after.expires_at,
        "version": after.version,
        "actor": by.actor,
        "reason": by.reason,
        "cause": Jsonb(dict(by.cause)),
        "before": None if before is None else Jsonb(before.as_wire()),
        "after": Jsonb(wire),
    }
