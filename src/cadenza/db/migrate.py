"""Bring the schema to the newest revision: additive plain SQL, never waiting long for a lock.

There is no downgrade. Going back means older code on the newer schema, which every revision
must allow.
"""

import io
import random
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import psycopg.sql

from cadenza.errors import DatabaseUnavailable, Unavailable

if TYPE_CHECKING:
    from alembic.config import Config

MIGRATIONS = Path(__file__).parent / "migrations"
RETRY_S = 30.0


def head() -> str:
    """Return the newest revision this code ships."""
    return max(revision.stem for revision in (MIGRATIONS / "versions").glob("[0-9]*.py"))


def migrate(dsn: str, *, retry_s: float = RETRY_S) -> str:
    """Bring the database at `dsn` (direct, as a login that may create roles) to `head()`.

    A lock that is not had within 100 ms is given up and tried again for `retry_s`, so that a
    migration never queues readers behind itself. Raises Unavailable when that was not enough.
    """
    # Imported here: 29 MB that only a migration needs.
    from alembic import command  # noqa: PLC0415
    from sqlalchemy.exc import OperationalError  # noqa: PLC0415

    config = _config()
    config.attributes["dsn"] = re.sub("^postgres(ql)?://", "postgresql+psycopg://", dsn)
    config.attributes["bootstrap"] = (MIGRATIONS / "bootstrap.sql").read_text()
    until = time.monotonic() + retry_s
    while True:
        try:
            command.upgrade(config, "head")
        except OperationalError as error:
            if not isinstance(error.orig, psycopg.errors.LockNotAvailable):
                raise Unavailable(f"The database cannot be reached: {error.orig}") from error
            if time.monotonic() > until:
                raise Unavailable("Another session holds a lock the migration needs") from error
            time.sleep(random.uniform(0.2, 0.8))  # noqa: S311  # jitter, not a secret
        else:
            return head()


def offline_sql() -> str:
    """Return the SQL of every revision, for a reviewer or a linter."""
    from alembic import command  # noqa: PLC0415

    config = _config()
    command.upgrade(config, "head", sql=True)
    output = config.output_buffer
    return output.getvalue() if isinstance(output, io.StringIO) else ""


def current(dsn: str) -> str | None:
    """Return the revision of the database at `dsn`, None before the first; read only.

    For the owner's login and the service's alike. Raises DatabaseUnavailable when it cannot be
    reached.
    """
    try:
        with psycopg.connect(dsn, connect_timeout=5, prepare_threshold=None) as conn:
            return _revision(conn)
    except psycopg.OperationalError as error:
        told = str(error).partition("\n")[0]
        raise DatabaseUnavailable(f"The database cannot be reached: {told}") from error


def _revision(conn: "psycopg.Connection") -> str | None:
    found = conn.execute("SELECT to_regnamespace('cadenza')::text").fetchone()
    if found is None or found[0] is None:
        return None
    conn.execute(  # the service's login may look only as one of its roles
        "SELECT set_config('role', 'cadenza_ops', true) "
        "WHERE pg_has_role(current_user, 'cadenza_ops', "
        "CASE WHEN current_setting('server_version_num')::int < 160000 "
        "THEN 'MEMBER' ELSE 'SET' END)"
    )
    found = conn.execute("SELECT to_regclass('cadenza.schema_version')::text").fetchone()
    if found is None or found[0] is None:
        return None
    row = conn.execute("SELECT max(version_num) FROM cadenza.schema_version").fetchone()
    return None if row is None or row[0] is None else str(row[0])


def allow_login(dsn: str, password: str) -> None:
    """Let `cadenza_app` log in with this password; for the embedded database and for tests."""
    with psycopg.connect(dsn, connect_timeout=5, autocommit=True, prepare_threshold=None) as conn:
        conn.execute(
            psycopg.sql.SQL("ALTER ROLE cadenza_app LOGIN PASSWORD {}").format(
                psycopg.sql.Literal(password)
            )
        )


def _config() -> "Config":
    from alembic.config import Config  # noqa: PLC0415

    output = io.StringIO()
    config = Config(stdout=output, output_buffer=output)
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    return config
