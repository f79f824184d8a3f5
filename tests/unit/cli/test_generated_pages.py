"""The pages made from the code are what the code says."""

from pathlib import Path

import pytest
import typer

from cadenza.cli.docs import PAGES, docs
from cadenza.errors import Reason
from cadenza.events import ANY_LINE, EVENTS, NOTES, REQUIRED
from cadenza.settings import PREFIX, Settings
from cadenza.web.middleware import QUIET

REFERENCE = Path(__file__).parents[3] / "docs" / "reference"


@pytest.mark.parametrize("name", PAGES)
def test_a_committed_page_is_what_the_code_says(name: str) -> None:
    assert (REFERENCE / name).read_text() == PAGES[name](), "run `cadenza docs`"


def test_the_page_of_log_fields_knows_every_key_event_status_and_reason() -> None:
    page = PAGES["log-fields.md"]()
    words = {*REQUIRED, *ANY_LINE, *NOTES, *Reason, *QUIET}
    for event in EVENTS:
        words |= {event.name, *event.extra, *event.statuses}
    assert [word for word in words if f"`{word}`" not in page] == []


def test_the_page_of_settings_knows_every_setting_by_the_name_people_write() -> None:
    page = PAGES["settings.md"]()
    names = [
        name.upper() if name.endswith("_service_enabled") else PREFIX + name.upper()
        for name in Settings.model_fields
    ]
    assert [name for name in names if f"| `{name}` |" not in page] == []


def test_a_stale_page_is_told_and_written_only_when_asked(tmp_path: Path) -> None:
    for name, make in PAGES.items():
        (tmp_path / name).write_text(make())
    (tmp_path / "settings.md").write_text("old")
    with pytest.raises(typer.Exit) as ended:
        docs(tmp_path, check=True)
    assert ended.value.exit_code == 1
    assert (tmp_path / "settings.md").read_text() == "old"
    docs(tmp_path)
    docs(tmp_path, check=True)
    assert (tmp_path / "settings.md").read_text() == PAGES["settings.md"]()
