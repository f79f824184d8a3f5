"""One effect per Idempotency-Key: the key's row is written in the effect's own transaction.

So a key is kept exactly when its effect is. A request that fails keeps nothing: it changed
nothing, and the same key may be tried again.
"""

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any

from psycopg.errors import LockNotAvailable

from cadenza.db.pool import Conn
from cadenza.errors import Conflict, Invalid, Mistake

KEPT_DAYS = 7
LOCK_WAIT_S = 1.0
_SYNTAX = re.compile(r"[\x21-\x7e]{1,255}")
_LIMIT_WAIT = """
SELECT current_setting('lock_timeout') AS usual, set_config('lock_timeout', %s, true)
"""
_WAIT_AS_USUAL = "SELECT set_config('lock_timeout', %s, true)"
_CLAIM = """
INSERT INTO cadenza.idempotency_key (user_id, route, key, fingerprint)
VALUES (%(user_id)s, %(route)s, %(key)s, %(fingerprint)s)
ON CONFLICT DO NOTHING RETURNING true AS is_new
"""
_KEPT = """
SELECT fingerprint, status, body FROM cadenza.idempotency_key
WHERE user_id = %(user_id)s AND route = %(route)s AND key = %(key)s
"""
_REMEMBER = """
UPDATE cadenza.idempotency_key SET status = %(status)s, body = %(body)s
WHERE user_id = %(user_id)s AND route = %(route)s AND key = %(key)s
"""
_PURGE = "DELETE FROM cadenza.idempotency_key WHERE created_at < now() - make_interval(days => %s)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One Idempotency-Key of one user on one route, and what was asked with it.

    `route` is the method and the route's template, `fingerprint` comes from `fingerprint()`.
    """

    user_id: str
    route: str
    key: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What the first request with a key was answered."""

    status: int
    body: bytes


def checked_key(text: str) -> str:
    """Return the header's value; raise Invalid unless it is 1 to 255 visible ASCII characters."""
    if _SYNTAX.fullmatch(text):
        return text
    fix = "Use 1 to 255 visible ASCII characters, such as a UUID"
    mistake = Mistake(pointer="/Idempotency-Key", code="KEY_SYNTAX", fix=fix)
    raise Invalid("The Idempotency-Key is not one", mistakes=[mistake])


def fingerprint(method: str, path: str, body: object) -> str:
    """Return the hex sha256 of what is asked: method, the path with its ids, the parsed body.

    Bodies that are the same JSON document have the same fingerprint, however they are written.
    """
    text = json.dumps([method, path, body], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


async def once(conn: Conn, key: Key, *, lock_wait_s: float = LOCK_WAIT_S) -> Answer | None:
    """Return the answer this key was given before, or None when the caller is to make it.

    After None the caller makes its effect and calls `remember`, in this same transaction. While
    another transaction does so this one waits, at most `lock_wait_s`; then it raises Conflict
    IDEMPOTENCY_RUNNING. Raises Invalid IDEMPOTENCY_KEY_REUSED where the key came with another
    request before.
    """
    limited = await conn.execute(_LIMIT_WAIT, [f"{max(1, int(lock_wait_s * 1000))}ms"])
    before = await limited.fetchone()
    try:
        claimed = await (await conn.execute(_CLAIM, _names(key))).fetchone()
    except LockNotAvailable:
        raise _running() from None
    await conn.execute(_WAIT_AS_USUAL, [before["usual"] if before else "0"])
    return None if claimed else await _kept(conn, key)


async def remember(conn: Conn, key: Key, status: int, body: bytes) -> None:
    """Keep what this key's request is answered; it is kept only if the transaction commits."""
    await conn.execute(_REMEMBER, {**_names(key), "status": status, "body": body})


async def purge(conn: Conn, *, days: int = KEPT_DAYS) -> int:
    """Forget keys older than `days`, as operators; return how many there were."""
    return (await conn.execute(_PURGE, [days])).rowcount


async def _kept(conn: Conn, key: Key) -> Answer:
    row = await (await conn.execute(_KEPT, _names(key))).fetchone()
    if row is None or row["status"] is None:  # purged this very moment, or never answered
        raise _running()
    if row["fingerprint"] != key.fingerprint:
        raise reused()
    return Answer(row["status"], bytes(row["body"]))


def reused() -> Invalid:
    """Return the refusal of a key that came with another request before."""
    fix = "Use a new key for a new request"
    return Invalid(
        "This Idempotency-Key came with another request before",
        code="IDEMPOTENCY_KEY_REUSED",
        mistakes=[Mistake(pointer="/Idempotency-Key", code="KEY_REUSED", fix=fix)],
    )


def _running() -> Conflict:
    return Conflict(
        "The first request with this Idempotency-Key is still running",
        code="IDEMPOTENCY_RUNNING",
        retry_after_s=1,
    )


def _names(key: Key) -> dict[str, Any]:
    return {
        "user_id": key.user_id,
        "route": key.route,
        "key": key.key,
        "fingerprint": key.fingerprint,
    }
