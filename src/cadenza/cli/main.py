"""The entry point: finds the verb, runs it, turns what went wrong into one clear end.

Exit codes: 0 ok, 1 a check failed, 2 usage, 3 cannot reach what it needs.
"""

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Final, Protocol, cast

import typer

from cadenza.cli.output import explain
from cadenza.errors import CadenzaError, Invalid, Unavailable
from cadenza.settings import SettingsRefused

FAILED: Final = 1
USAGE: Final = 2
UNREACHABLE: Final = 3

# In the order of the help. A verb's file is imported when that verb is asked for, so that
# neither it nor the help waits for the others.
VERBS: Final = {
    "up": "Serve; in development with everything that takes.",
    "migrate": "Bring the schema to the revision that this version ships.",
    "token": "Print a token of a development user.",
    "flags": "See and turn the flags; every change is audited.",
    "smoke": "Prove a running Cadenza by its own API.",
    "logs": "Check a log against its contract.",
    "version": "Print the version, and the schema revision it ships.",
    "docs": "Write the generated pages of the documentation.",
}
HIDDEN: Final = frozenset({"docs"})
_ABOUT = "A content calendar and publishing backend that an operator can turn on, watch, take back."


class Verb(Protocol):
    """What each file of a verb offers."""

    def add_to(self, cli: typer.Typer) -> None:
        """Add the verb to the command line."""
        ...


def run(arguments: Sequence[str] | None = None) -> None:
    """Run one verb and exit with its code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        _command_line(given)(args=given, prog_name="cadenza")
    except CadenzaError as error:
        explain(error)
        sys.exit(exit_code(error))


def exit_code(error: CadenzaError) -> int:
    """Return what the process ends with when this error ended it."""
    if isinstance(error, SettingsRefused | Invalid):
        return USAGE
    return UNREACHABLE if isinstance(error, Unavailable) else FAILED


def _command_line(given: Sequence[str]) -> typer.Typer:
    cli = typer.Typer(
        name="cadenza",
        help=_ABOUT,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    cli.callback()(_nothing)  # so that a single verb stays a verb
    asked = next((word for word in given if not word.startswith("-")), None)
    if asked in VERBS:
        cast("Verb", import_module(f"cadenza.cli.{asked}")).add_to(cli)
        return cli
    for name, about in VERBS.items():
        cli.command(name, help=about, hidden=name in HIDDEN)(_nothing)
    return cli


def _nothing() -> None:
    pass
