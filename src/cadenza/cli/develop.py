"""A development instance: brings its own database, simulator, tokens and operator."""

import json
import signal
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any, Final

from pydantic import SecretStr
from rich.console import Console

from cadenza.cli.greeting import greet
from cadenza.cli.home import ISSUER, Development, keep_development, write_private
from cadenza.cli.serve import serve
from cadenza.cli.server import listening, url_of
from cadenza.cli.simulated import MODEL, simulator
from cadenza.cli.token import DAY_S, development_token
from cadenza.db.embedded import embedded_postgres
from cadenza.db.migrate import allow_login, migrate
from cadenza.settings import Settings
from cadenza.web.operators import token_sha256

GREETED: Final = "alice"
_GREETED_TTL_S: Final = 30 * DAY_S
_LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")


def develop(settings: Settings, console: Console) -> None:
    """Start everything that a development instance needs, and serve until told to stop.

    Raises Unavailable with what to do when one of them cannot start.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # until the server takes over
    home = settings.home.absolute()
    with ExitStack() as stack:
        listener = stack.enter_context(listening(settings.host, settings.port))
        url = url_of(settings.host, settings.port)
        known = keep_development(home, url=url)
        brought = _identity(settings, known, home)
        brought |= _database(settings, known, stack, console)
        brought |= _ai(settings, home, stack, console)
        if settings.log_file is None:  # in the home, where `smoke` and people find it
            brought["log_file"] = home / "cadenza.log"
        complete = settings.model_copy(update=brought)
        if settings.host not in _LOOPBACK:
            told = f"Listening on {settings.host}: other machines can reach this"
            console.print(told, style="bold red", markup=False)
        serve(complete, listener, ready=lambda: _greet(complete, console, url))
    console.print("Stopped; everything is kept.", markup=False)


def _identity(settings: Settings, known: Development, home: Path) -> dict[str, Any]:
    brought: dict[str, Any] = {}
    if settings.jwt_secret is None:
        brought["jwt_secret"] = SecretStr(known.jwt_secret)
    if settings.jwt_issuer is None:
        brought["jwt_issuer"] = ISSUER
    if settings.operators_file is None:
        brought["operators_file"] = home / "operators.json"
        operator = {
            "name": "developer",
            "tokenSha256": token_sha256(known.operator_token),
            "role": "operator",
        }
        write_private(brought["operators_file"], json.dumps([operator], indent=2) + "\n")
    return brought


def _database(
    settings: Settings, known: Development, stack: ExitStack, console: Console
) -> dict[str, Any]:
    if settings.database_url is not None:
        owner = settings.migrate_database_url or settings.database_url
        with console.status("Migrating the given database"):
            revision = migrate(owner.get_secret_value())
        console.print(f"The given database is at revision {revision}")
        return {}
    began = monotonic()
    with console.status("Starting Postgres"):
        postgres = stack.enter_context(embedded_postgres(settings.home))
        revision = migrate(postgres.dsn)
        allow_login(postgres.dsn, known.database_password)
    took = monotonic() - began
    moved = " (there, because the user nobody may not enter the home)" if postgres.is_moved else ""
    console.print(
        f"Postgres on 127.0.0.1:{postgres.port} at revision {revision} in {took:.1f} s; "
        f"data in {postgres.data}{moved}",
        markup=False,
    )
    login = f"cadenza_app:{known.database_password}"
    return {"database_url": SecretStr(f"postgresql://{login}@127.0.0.1:{postgres.port}/postgres")}


def _ai(settings: Settings, home: Path, stack: ExitStack, console: Console) -> dict[str, Any]:
    if settings.ai_base_url is not None:
        console.print(f"AI provider: {settings.ai_base_url}", markup=False)
        return {}
    with console.status("Starting the simulated AI provider"):
        base_url = stack.enter_context(simulator(home))
    model = settings.ai_model or MODEL
    console.print(f"Simulated AI provider on {base_url}, model {model}", markup=False)
    return {"ai_base_url": base_url, "ai_model": model, "ai_api_key": SecretStr("simulated")}


def _greet(settings: Settings, console: Console, url: str) -> None:
    now = datetime.now(UTC)
    token = development_token(settings, GREETED, ttl_s=_GREETED_TTL_S, now=now)
    header = settings.home.absolute() / f"{GREETED}.header"
    write_private(header, f"Authorization: Bearer {token}\n")
    log = settings.log_file or settings.home / "cadenza.log"
    greet(console, url=url, token=token, header=header, log=log, today=now.date())
