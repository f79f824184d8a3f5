"""What a person sees when a development instance is up."""

import json
import shlex
from datetime import date, timedelta
from pathlib import Path
from uuid import uuid4

from rich.console import Console
from rich.panel import Panel

_NOTICE = (
    "[bold]DEVELOPMENT PROFILE[/]: its own database, a simulated AI provider, simulated accounts, "
    "and tokens for whoever can read its home. Not for real users: see CADENZA_ENV."
)


def greet(console: Console, *, url: str, token: str, header: Path, log: Path, today: date) -> None:
    """Print the URL, a token, and three lines that work when they are pasted."""
    console.print()
    console.print(
        Panel(_NOTICE, border_style="yellow", width=min(96, console.width)), soft_wrap=False
    )
    told = [
        ("API", url),
        ("docs", f"{url}/openapi.json"),
        ("log", str(log)),
        ("stop", "Ctrl-C; everything is kept for the next start"),
        ("token of alice", token),
    ]
    for name, value in told:
        console.print(f"[bold]{name:>15}[/]  ", end="")
        console.print(value, markup=False)
    for title, line in curl_lines(url, header, today):
        console.print(f"\n[dim]# {title}[/]")
        console.print(line, markup=False, style="cyan")
    console.print()


def curl_lines(url: str, header: Path, today: date) -> list[tuple[str, str]]:
    """Return what each of three curl lines shows, and the line; in this order they work.

    The token comes from a file, so that the lines stay short and it shows in no process list.
    """
    calendar = f"{url}/v1/calendars/{uuid4()}"
    who = f"-H {shlex.quote(f'@{header}')}"
    who_sends = f"{who} -H 'Content-Type: application/json'"
    wish = {
        "channels": ["bluesky", "webhook"],
        "cadence": "daily",
        "start": (today + timedelta(days=1)).isoformat(),
        "end": (today + timedelta(days=7)).isoformat(),
        "brief": "A week of a small bakery",
    }
    first_entry = (
        rf"""$(curl -s {calendar} {who} | sed 's/.*"entries":\[{{"id":"\([^"]*\).*/\1/')"""
    )
    stream = f"{who_sends} -H 'Accept: text/event-stream' -d '{_json(wish)}'"
    edit = f"""{who_sends} -H 'If-Match: "1"' -d '{_json({"title": "In my own words"})}'"""
    publish = f"{who_sends} -H 'Idempotency-Key: {uuid4()}' -d '{_json({'dryRun': True})}'"
    return [
        ("stream a calendar, entry by entry", f"curl -N {calendar}/runs {stream}"),
        ("edit its first entry", f"curl -X PATCH {calendar}/entries/{first_entry} {edit}"),
        ("publish it, as a dry run", f"curl {calendar}/publish {publish}"),
    ]


def _json(document: object) -> str:
    return json.dumps(document, separators=(",", ":"))
