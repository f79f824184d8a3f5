"""`cadenza docs`: the pages of the reference that are made from the code."""

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Final

import typer
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from cadenza import events
from cadenza.cli.main import FAILED
from cadenza.cli.output import AsJson, print_json, print_line
from cadenza.errors import Reason
from cadenza.settings import PREFIX, Settings
from cadenza.telemetry.log_schema import log_line_schema

_MADE: Final = "<!-- made by `cadenza docs` from {source}: change that, then run it again -->"
_OWN_NAMES: Final = ("calendar_service_enabled", "publish_service_enabled")
_CLIENT: Final = {
    "CADENZA_URL": "Which instance the command line asks. Unset: what `cadenza up` left in "
    "the home, else `http://127.0.0.1:8080`.",
    "CADENZA_OPERATOR_TOKEN": "The operator's token that the command line sends. Unset: the "
    "development instance's own.",
}


def add_to(cli: typer.Typer) -> None:
    """Add the verb to the command line."""
    cli.command("docs", hidden=True)(docs)


def docs(
    folder: Annotated[Path, typer.Argument(help="The folder of the pages.")] = Path(
        "docs/reference"
    ),
    *,
    check: Annotated[bool, typer.Option("--check", help="Only say; exit 1 when stale.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write the generated pages, or say which are not what the code says."""
    stale = [name for name, make in PAGES.items() if _read(folder / name) != make()]
    if not check:
        for name in stale:
            (folder / name).write_text(PAGES[name]())
    if as_json:
        print_json({"pages": list(PAGES), "stale": stale, "written": not check})
    else:
        print_line(", ".join(stale) or "every page is what the code says")
    if check and stale:
        raise typer.Exit(FAILED)


def settings_page() -> str:
    """Return the page of every setting."""
    rows = [
        (f"`{_variable(name)}`", _default(field), field.description or "")
        for name, field in Settings.model_fields.items()
    ]
    client = [(f"`{name}`", "", about) for name, about in _CLIENT.items()]
    return _page(
        "Settings",
        "src/cadenza/settings.py",
        "Environment variables, read once at the start. A name that begins with `CADENZA_` and is "
        "not here is refused, with the nearest one.",
        _table(("Name", "Default", "What it is"), rows),
        "## Of the command line",
        _table(("Name", "Default", "What it is"), client),
    )


def log_page() -> str:
    """Return the page of every event and every key of a log line."""
    return _page(
        "Log lines",
        "src/cadenza/events.py",
        "One JSON object per line. `cadenza logs verify FILE` checks a log; the same contract as "
        "[JSON Schema](log-line.schema.json).",
        "## Keys of every line",
        "Always there, null where they do not apply.",
        _table(("Key", "What it is"), _keys(events.REQUIRED)),
        "## Keys that any line may add",
        _table(("Key", "What it is"), _keys(events.ANY_LINE)),
        "## Events",
        *(part for kind in events.EVENTS for part in _event(kind)),
        "## Notes",
        "Lines that are no unit of work and count nothing.",
        _table(("Event", "What it says"), _keys(events.NOTES)),
        "## Reasons",
        "The closed set of `reason`; the [glossary](../glossary.md#reasons) explains each: "
        + " ".join(f"`{reason.value}`" for reason in Reason)
        + ".",
    )


def schema_file() -> str:
    """Return the JSON Schema of one line."""
    return json.dumps(log_line_schema(), indent=2) + "\n"


PAGES: Final[Mapping[str, Callable[[], str]]] = {
    "settings.md": settings_page,
    "log-fields.md": log_page,
    "log-line.schema.json": schema_file,
}


def _event(kind: type[events.Event]) -> Iterable[str]:
    about = (kind.__doc__ or "").partition("\n")[0]
    yield f"### `{kind.name}`"
    yield about
    if kind.extra:
        yield _table(("Key it adds", "What it is"), _keys(kind.extra))
    if kind.statuses:
        yield _table(("Status", "When"), _keys(kind.statuses))
    if kind.never_null:
        yield "Never null: " + " ".join(f"`{key}`" for key in kind.never_null) + "."


def _keys(described: Mapping[str, str]) -> list[tuple[str, str]]:
    return [(f"`{key}`", about) for key, about in described.items()]


def _table(columns: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    rule = ("---",) * len(columns)
    return "\n".join(f"| {' | '.join(row)} |" for row in (columns, rule, *rows))


def _page(title: str, source: str, *parts: str) -> str:
    return "\n\n".join((f"# {title}", _MADE.format(source=source), *parts)) + "\n"


def _variable(name: str) -> str:
    return name.upper() if name in _OWN_NAMES else PREFIX + name.upper()


def _default(field: FieldInfo) -> str:
    if field.default in {None, PydanticUndefined}:
        return ""
    return f"`{getattr(field.default, 'value', field.default)}`"


def _read(path: Path) -> str | None:
    try:
        return path.read_text()
    except FileNotFoundError:
        return None
