"""`cadenza flags`: what is on for whom, and the switches; as a client of the operators' routes."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any
from urllib.parse import quote

import typer

from cadenza.cli.client import operate
from cadenza.cli.output import AsJson, person, print_json, print_line, print_table

Key = Annotated[str, typer.Argument(help="The flag: calendar or publish.", metavar="FLAG")]
Reason = Annotated[str, typer.Option(help="Why, for the audit; 3 characters or more.")]
IfVersion = Annotated[
    int | None, typer.Option(help="Only if the policy still has this version.", min=0)
]


class Switch(StrEnum):
    """The two positions of a switch that is for everybody."""

    ON = "on"
    OFF = "off"


def add_to(cli: typer.Typer) -> None:
    """Add the verb to the command line."""
    flags = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
    flags.command("list")(listing)
    flags.command("set")(switch)
    flags.command("kill")(kill)
    cli.add_typer(flags, name="flags", help="See and turn the flags; every change is audited.")


def listing(*, as_json: AsJson = False) -> None:
    """Show every flag: its state, its policy, and what that rests on."""
    found = operate("GET", "/ops/flags")
    if as_json:
        print_json(found)
        return
    columns = ("flag", "state", "on / safe", "share", "allowed", "denied", "version", "owner")
    print_table(columns, [_row(item) for item in found["items"]])
    told = f"flag set {found['setVersion']} from {found['source']}"
    person().print(f"{told}, confirmed {found['staleS']} s ago", style="dim", markup=False)


def switch(
    flag: Key,
    to: Annotated[Switch, typer.Argument(help="For everybody.", metavar="on|off")],
    *,
    reason: Reason,
    if_version: IfVersion = None,
    as_json: AsJson = False,
) -> None:
    """Turn a flag on or off for everybody. On clears a kill and a stop; off leaves them."""
    body = _guarded({"on": to is Switch.ON, "reason": reason}, if_version)
    _tell(operate("PUT", _path(flag), body=body), as_json=as_json)


def kill(
    flag: Key, *, reason: Reason, if_version: IfVersion = None, as_json: AsJson = False
) -> None:
    """Give everybody the safe variant now; share and lists are kept for later."""
    body = _guarded({"reason": reason}, if_version)
    _tell(operate("POST", f"{_path(flag)}/kill", body=body), as_json=as_json)


def _path(flag: str) -> str:
    return f"/ops/flags/{quote(flag, safe='')}"


def _guarded(body: dict[str, object], if_version: int | None) -> dict[str, object]:
    return body if if_version is None else body | {"ifVersion": if_version}


def _tell(done: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(done)
        return
    policy, before = done["policy"], done["before"]
    if not done["changed"]:
        print_line(f"{policy['key']} is {done['state']} already, since version {before['version']}")
        return
    print_line(f"{policy['key']} is {done['state']}, as version {policy['version']}")
    cleared = [name for name in ("kill", "stopped") if before[name] and not policy[name]]
    if cleared:
        person().print(f"cleared: {', '.join(cleared)}", style="dim", markup=False)


def _row(item: Mapping[str, Any]) -> tuple[object, ...]:
    words = item["variants"]
    return (
        item["key"],
        item["state"],
        f"{words['on']} / {words['safe']}",
        f"{item['percentBp'] / 100:g} %",
        len(item["allow"]),
        len(item["deny"]),
        item["version"],
        item["owner"],
    )
