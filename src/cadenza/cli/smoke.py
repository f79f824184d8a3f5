"""`cadenza smoke`: proves a running Cadenza by its own API, in less than a minute."""

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import httpx2
import typer

from cadenza.cli.client import find_target
from cadenza.cli.main import FAILED
from cadenza.cli.output import AsJson, person, print_json, print_table
from cadenza.cli.token import development_token
from cadenza.drills.evidence import Line, reader_of
from cadenza.drills.smoke import Check, as_document, run_smoke
from cadenza.drills.visit import Visit
from cadenza.errors import Unavailable
from cadenza.settings import Profile, Settings, read_settings

TIMEOUT_S = 40.0
CANARY = "canary"
TOKEN_TTL_S = 600
Token = Annotated[
    str | None, typer.Option(help="The canary user's token. Development: made for you.")
]
OperatorToken = Annotated[
    str | None, typer.Option(help="The operator's token. Default: CADENZA_OPERATOR_TOKEN.")
]
LogFile = Annotated[
    Path | None, typer.Option("--log", help="The service's log file. Development: known.")
]
Flip = Annotated[bool, typer.Option("--flip", help="Flip the real flag for everybody, and back.")]


def add_to(cli: typer.Typer) -> None:
    """Add the verb to the command line."""
    cli.command("smoke")(smoke)


def smoke(
    *,
    token: Token = None,
    operator_token: OperatorToken = None,
    log: LogFile = None,
    flip: Flip = False,
    as_json: AsJson = False,
) -> None:
    """Prove that the calendar flag can be taken back without loss, and that the log shows it.

    Uses calendars of its own and, without --flip, a drill: nobody else is touched.
    """
    settings, target, console = read_settings(), find_target(), person()
    operator_token = operator_token or target.operator_token
    if not operator_token:
        raise Unavailable("The smoke test needs an operator: use --operator-token")
    token = token or _canary(settings)
    with httpx2.Client(base_url=target.url, timeout=TIMEOUT_S) as client, console.status("") as on:
        visit = Visit(client=client, token=token, operator_token=operator_token)
        checks = run_smoke(visit, log=_reader(settings, log), flip=flip, progress=on.update)
    if as_json:
        print_json(as_document(checks))
    else:
        _print(checks)
    if not all(check.passed for check in checks):
        raise typer.Exit(FAILED)


def _canary(settings: Settings) -> str:
    if settings.env is Profile.PRODUCTION:
        raise Unavailable("Production issues no tokens: give the canary user's with --token")
    return development_token(settings, CANARY, ttl_s=TOKEN_TTL_S, now=datetime.now(UTC))


def _reader(settings: Settings, log: Path | None) -> Callable[[], list[Line]] | None:
    """Return what reads the log: the file named, else the one this home's instance writes."""
    path = log or settings.log_file or settings.home / "cadenza.log"
    if log is None and not path.exists():
        return None
    if not os.access(path, os.R_OK):
        raise Unavailable(f"{path} cannot be read")
    return reader_of(path)


def _print(checks: list[Check]) -> None:
    print_table(
        ("proves", "what", "", "evidence"),
        [(c.proves, c.what, "ok" if c.passed else "FAILED", c.evidence) for c in checks],
    )
    failed = sum(not check.passed for check in checks)
    style = "bold red" if failed else "bold green"
    person().print(f"{len(checks) - failed} passed, {failed} failed", style=style)
