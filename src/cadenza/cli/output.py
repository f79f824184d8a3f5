"""How the command line speaks: results on stdout, everything for people around them on stderr."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from cadenza.errors import CadenzaError

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def person() -> Console:
    """Return where sentences for a person go: stderr, in colour if that is a terminal."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def print_json(document: object) -> None:
    """Print one JSON document."""
    sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False, default=str) + "\n")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table; None is an empty cell, and a cell is never read as markup."""
    table = Table(*columns, box=SIMPLE_HEAD, pad_edge=False)
    for row in rows:
        table.add_row(*("" if cell is None else _literal(cell) for cell in row))
    Console(highlight=False).print(table)


def print_line(text: str) -> None:
    """Print one line, as it is."""
    sys.stdout.write(text + "\n")


def explain(error: CadenzaError) -> None:
    """Tell a person what went wrong, and for each mistake how to mend it."""
    console = person()
    console.print(error.detail, style="bold red", markup=False)
    for mistake in error.mistakes:
        console.print(f"  {mistake.pointer}: {mistake.fix}", markup=False)
    for key, value in _worth_telling(error.extra).items():
        console.print(f"  {key}: {value}", style="dim", markup=False)


def _worth_telling(extra: Mapping[str, object]) -> Mapping[str, object]:
    return {key: value for key, value in extra.items() if isinstance(value, str | int)}


def _literal(cell: object) -> str:
    return str(cell).replace("[", "\\[")
