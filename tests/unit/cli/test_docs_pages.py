from pathlib import Path

import pytest

from cadenza.cli.docs import PAGES
from cadenza.cli.main import run

REFERENCE = Path(__file__).parents[3] / "docs" / "reference"


@pytest.mark.parametrize("name", PAGES)
def test_the_committed_page_is_what_the_code_says(name: str) -> None:
    assert (REFERENCE / name).read_text() == PAGES[name](), "run `python -m cadenza docs`"


def test_a_stale_page_fails_the_check_and_is_mended_by_writing(tmp_path: Path) -> None:
    (tmp_path / "settings.md").write_text("old")
    assert ended_with(["docs", str(tmp_path), "--check"]) == 1
    assert (tmp_path / "settings.md").read_text() == "old"
    assert ended_with(["docs", str(tmp_path)]) == 0
    assert ended_with(["docs", str(tmp_path), "--check"]) == 0


def test_tables_hold_every_row_in_one_line() -> None:
    for name in ("settings.md", "log-fields.md"):
        rows = [line for line in PAGES[name]().splitlines() if line.startswith("|")]
        assert rows
        assert [row for row in rows if not row.endswith("|")] == []


def ended_with(arguments: list[str]) -> object:
    with pytest.raises(SystemExit) as ended:
        run(arguments)
    return ended.value.code
