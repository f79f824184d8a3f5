"""`cadenza up`: serve; in development with everything it needs, in production with nothing."""

import os
import signal
from typing import Annotated

import typer
from rich.console import Console

from cadenza.cli.develop import develop
from cadenza.cli.output import person
from cadenza.cli.serve import serve
from cadenza.cli.server import listening
from cadenza.db.embedded_process import dying_with
from cadenza.db.migrate import current, head
from cadenza.errors import Conflict, DatabaseUnavailable
from cadenza.settings import Profile, Settings, read_settings


def add_to(cli: typer.Typer) -> None:
    """Add the verb to the command line."""
    cli.command("up")(up)


def up(
    *,
    with_parent: Annotated[
        bool, typer.Option("--with-parent", help="Drain and end when the parent ends.", hidden=True)
    ] = False,
) -> None:
    """Serve until Ctrl-C or SIGTERM, which drain first; again: stop at once.

    Without configuration this is a development instance with its own database, simulator and
    tokens. In production it brings nothing and never migrates.
    """
    if with_parent and (ask := dying_with(os.getppid(), signal.SIGTERM)):
        ask()  # so that a killed `make up` leaves nothing behind
    settings = read_settings(to_serve=True)
    console = person()
    try:
        if settings.env is Profile.PRODUCTION:
            _produce(settings, console)
        else:
            develop(settings, console)
    except KeyboardInterrupt:
        console.print("Stopped while starting.")


def _produce(settings: Settings, console: Console) -> None:
    _require_schema(settings, console)
    with listening(settings.host, settings.port) as listener:
        where = f"{settings.host}:{settings.port}"
        serve(settings, listener, ready=lambda: console.print(f"Cadenza answers on {where}"))


def _require_schema(settings: Settings, console: Console) -> None:
    """Refuse a database that this code is too new for; one that is away may come back."""
    if settings.database_url is None:
        return
    try:
        found = current(settings.database_url.get_secret_value())
    except DatabaseUnavailable as error:
        console.print(f"{error.detail}: starting without it", style="yellow", markup=False)
        return
    if found is None or found < head():
        raise Conflict(
            f"The database is at revision {found or 'none'}, this version needs {head()}: "
            "run `cadenza migrate` first",
            code="SCHEMA_BEHIND",
        )
