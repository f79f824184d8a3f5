"""`cadenza migrate`: bring the schema to the revision that this version ships."""

import asyncio
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from typing import Annotated

import typer
from pydantic import SecretStr

from cadenza.cli.first_values import first_values
from cadenza.cli.output import AsJson, person, print_json, print_line
from cadenza.db import migrate as schema
from cadenza.db.embedded import embedded_dsn, embedded_postgres
from cadenza.errors import DatabaseUnavailable
from cadenza.settings import Profile, Settings, read_settings


def add_to(cli: typer.Typer) -> None:
    """Add the verb to the command line."""
    cli.command("migrate")(migrate)


def migrate(
    *,
    sql: Annotated[bool, typer.Option("--sql", help="Print the SQL; touch no database.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Only say; exit 1 when behind.")] = False,
    as_json: AsJson = False,
) -> None:
    """Migrate the database of CADENZA_MIGRATE_DATABASE_URL, else CADENZA_DATABASE_URL.

    Additive only, never waiting long for a lock. In development without either: the embedded one.
    """
    if sql:
        print_line(schema.offline_sql())
        return
    settings = read_settings()
    with _owner_dsn(settings) as dsn:
        before = schema.current(dsn)
        after = before if check else schema.migrate(dsn)
        added = None if check else _first_values(settings, dsn)
    found = {"before": before, "revision": after, "needed": schema.head(), "flagsAdded": added}
    if as_json:
        print_json(found)
    else:
        print_line(
            f"revision {after or 'none'} (before {before or 'none'}, needed {found['needed']})"
        )
    if check and (after is None or after < schema.head()):
        raise typer.Exit(1)


def _first_values(settings: Settings, dsn: str) -> list[str] | None:
    login = settings.database_url or SecretStr(dsn)
    development = settings.env is Profile.DEVELOPMENT
    added = asyncio.run(first_values(login, development=development))
    if added is None:
        person().print(
            "The flags are not there yet, because CADENZA_DATABASE_URL cannot log in: let "
            "cadenza_app log in (ALTER ROLE cadenza_app LOGIN PASSWORD ...), then run this again",
            style="yellow",
            markup=False,
        )
    return added


@contextmanager
def _owner_dsn(settings: Settings) -> Generator[str]:
    """Give the owner's DSN; the embedded database is started when no `up` runs it."""
    given = settings.migrate_database_url or settings.database_url
    if given is not None:
        yield given.get_secret_value()
        return
    with ExitStack() as stack:
        try:
            dsn = stack.enter_context(embedded_postgres(settings.home)).dsn
        except DatabaseUnavailable:
            running = embedded_dsn(settings.home)
            if running is None:
                raise
            dsn = running
        yield dsn
