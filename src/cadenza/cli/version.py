"""`cadenza version`: what runs here."""

import platform

import typer

from cadenza import __version__
from cadenza.cli.output import AsJson, print_json, print_line
from cadenza.db.migrate import head


def add_to(cli: typer.Typer) -> None:
    """Add the verb to the command line."""
    cli.command("version")(version)


def version(*, as_json: AsJson = False) -> None:
    """Print the version, and the schema revision it ships."""
    found = {"version": __version__, "schema": head(), "python": platform.python_version()}
    if as_json:
        print_json(found)
    else:
        print_line(f"cadenza {__version__} (schema {found['schema']}, Python {found['python']})")
