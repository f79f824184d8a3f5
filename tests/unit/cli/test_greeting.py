import datetime as dt
import io
import json
import shlex
from pathlib import Path

from rich.console import Console

from cadenza.cli.greeting import curl_lines, greet

URL = "http://127.0.0.1:8080"
HEADER = Path("/a home/it's mine/alice.header")
TODAY = dt.date(2026, 12, 31)


def test_the_lines_are_about_one_calendar_and_survive_any_path() -> None:
    told = dict(curl_lines(URL, HEADER, TODAY))
    stream, edit, publish = (shlex.split(line) for line in told.values())
    for words in (stream, publish):
        assert f"@{HEADER}" in words
    calendar = stream[2].removesuffix("/runs")
    assert calendar.startswith(f"{URL}/v1/calendars/")
    assert publish[1] == f"{calendar}/publish"
    assert edit[3].startswith(f"{calendar}/entries/$(curl")
    wish = json.loads(stream[-1])
    assert (wish["start"], wish["end"]) == ("2027-01-01", "2027-01-07")
    assert json.loads(publish[-1]) == {"dryRun": True}


def test_every_start_has_a_calendar_of_its_own() -> None:
    assert curl_lines(URL, HEADER, TODAY) != curl_lines(URL, HEADER, TODAY)


def test_a_narrow_terminal_breaks_no_line_that_will_be_pasted() -> None:
    said = io.StringIO()
    console = Console(file=said, width=40, soft_wrap=True, highlight=False)
    token = "t" * 200
    greet(console, url=URL, token=token, header=HEADER, log=Path("cadenza.log"), today=TODAY)
    lines = said.getvalue().splitlines()
    assert len([line for line in lines if line.startswith("curl ")]) == 3
    assert any(line.endswith(token) for line in lines)
    notice = " ".join(line.strip("│ ") for line in lines if line.startswith("│"))
    assert "Not for real users" in notice


def test_a_log_file_is_named() -> None:
    said = io.StringIO()
    console = Console(file=said, width=120, soft_wrap=True)
    log = Path("/a home/cadenza.log")
    greet(console, url=URL, token="t" * 9, header=HEADER, log=log, today=TODAY)
    assert str(log) in said.getvalue()
