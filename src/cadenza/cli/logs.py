"""`cadenza logs`: does a log keep its contract, and what is that contract."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from cadenza.cli.main import FAILED
from cadenza.cli.output import AsJson, person, print_json, print_table
from cadenza.errors import Unavailable
from cadenza.telemetry.log_schema import log_line_schema
from cadenza.telemetry.verify import Report, verify_lines

STDIN = Path("-")
Files = Annotated[
    list[Path], typer.Argument(help="Log files; - is stdin.", metavar="FILE...|-", allow_dash=True)
]
Requests = Annotated[
    bool,
    typer.Option(
        "--requests", help="Also ask that requests about calendars name user and calendar."
    ),
]


def add_to(cli: typer.Typer) -> None:
    """Add the verb to the command line."""
    logs = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
    logs.command("verify")(verify)
    logs.command("schema")(schema)
    cli.add_typer(logs, name="logs", help="Check a log against its contract.")


def verify(files: Files, *, requests: Requests = False, as_json: AsJson = False) -> None:
    """Check every line against the contract, and that nothing in it looks like a credential.

    Exits with 1 when a line breaks it, and with 0 on an empty log.
    """
    with ExitStack() as stack:
        names: list[tuple[str, int]] = []
        report = verify_lines(_lines(files, stack, names), requests=requests)
    if as_json:
        print_json(_document(report, names))
    else:
        _tell(report, names)
    if report.broken:
        raise typer.Exit(FAILED)


def schema() -> None:
    """Print the JSON Schema of one line."""
    print_json(log_line_schema())


def _lines(
    files: Iterable[Path], stack: ExitStack, begun: list[tuple[str, int]]
) -> Iterator[bytes]:
    """Give every line of every file; `begun` learns which file began after how many lines."""
    count = 0
    for path in files:
        begun.append((str(path), count))
        try:
            stream = sys.stdin.buffer if path == STDIN else stack.enter_context(path.open("rb"))
            for line in stream:
                count += 1
                yield line
        except OSError as error:
            raise Unavailable(f"{path} cannot be read: {error.strerror}") from None


def _place(line_no: int, begun: list[tuple[str, int]]) -> tuple[str, int]:
    name, before = next(found for found in reversed(begun) if found[1] < line_no)
    return name, line_no - before


def _document(report: Report, begun: list[tuple[str, int]]) -> dict[str, object]:
    violations = [
        {"file": name, "line": line, "what": what}
        for line_no, what in report.violations
        for name, line in (_place(line_no, begun),)
    ]
    return {
        "lines": report.lines,
        "broken": report.broken,
        "secretsFound": report.secrets_found,
        "events": dict(report.events.most_common()),
        "violations": violations,
    }


def _tell(report: Report, begun: list[tuple[str, int]]) -> None:
    if report.violations:
        rows = [(*_place(line_no, begun), what) for line_no, what in report.violations]
        print_table(("file", "line", "what is wrong"), rows)
    print_table(("event", "lines"), report.events.most_common())
    told = f"{report.lines} lines, {report.broken} violations, {report.secrets_found} secrets"
    style = "bold red" if report.broken else "green"
    person().print(told, style=style, markup=False)
