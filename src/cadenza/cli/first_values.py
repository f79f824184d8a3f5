"""The first values of the flags, for whoever migrates or starts an instance."""

from typing import Final

from pydantic import SecretStr

from cadenza.db.pool import Database
from cadenza.errors import DatabaseUnavailable
from cadenza.flags.store import ensure_first_values

_BUDGET_S: Final = 5.0


async def first_values(dsn: SecretStr | None, *, development: bool) -> list[str] | None:
    """Add the flags that the database does not have yet; None when it cannot be reached now."""
    if dsn is None:
        return None
    database = Database(dsn.get_secret_value())
    await database.open()
    try:
        return await database.as_ops(
            lambda conn: ensure_first_values(conn, development=development),
            budget_s=_BUDGET_S,
        )
    except DatabaseUnavailable:
        return None
    finally:
        await database.close()
