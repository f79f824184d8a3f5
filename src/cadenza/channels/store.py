"""Accounts in the database."""

from collections.abc import Sequence
from uuid import UUID

import orjson

from cadenza.channels.adapter import Account, AccountState
from cadenza.db.pool import Conn

_LIST = """
SELECT id, channel, handle, time_zone, state FROM cadenza.account ORDER BY channel, handle, id
"""

_ADD = """
INSERT INTO cadenza.account (id, user_id, channel, handle, time_zone, state)
SELECT id, %(user)s, channel, handle, time_zone, state
FROM jsonb_to_recordset(%(accounts)s::jsonb)
  AS given (id uuid, channel text, handle text, time_zone text, state text)
WHERE NOT EXISTS (
  SELECT FROM cadenza.account AS there
  WHERE there.user_id = %(user)s AND there.channel = given.channel
)
ON CONFLICT (user_id, channel, handle) DO NOTHING
"""


async def list_accounts(conn: Conn) -> list[Account]:
    """Return the accounts this transaction's user may see: their own."""
    rows = await (await conn.execute(_LIST)).fetchall()
    return [
        Account(
            id=row["id"],
            channel=row["channel"],
            handle=row["handle"],
            time_zone=row["time_zone"],
            state=AccountState(row["state"]),
        )
        for row in rows
    ]


async def add_missing_accounts(conn: Conn, user_id: UUID, accounts: Sequence[Account]) -> int:
    """Add each account whose channel the user has none on yet, as the worker; return how many."""
    given = [
        {
            "id": str(account.id),
            "channel": account.channel,
            "handle": account.handle,
            "time_zone": account.time_zone,
            "state": account.state.value,
        }
        for account in accounts
    ]
    added = await conn.execute(_ADD, {"user": user_id, "accounts": orjson.dumps(given).decode()})
    return added.rowcount
