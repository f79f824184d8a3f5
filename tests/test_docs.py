"""The docs are true: links lead somewhere, and every word the code uses is explained."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cadenza import errors, events
from cadenza.channels.adapter import IssueCode
from cadenza.errors import CadenzaError, Reason
from cadenza.settings import PREFIX, Settings

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
DECISIONS = sorted((DOCS / "decisions").glob("*.md"))
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^(`{3,}).*?^\1", re.MULTILINE | re.DOTALL)
DECISION_LINES = 60


def committed(pattern: str) -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", pattern],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


PAGES = committed("*.md")


def prose(page: Path) -> str:
    return FENCE.sub("", page.read_text())


def anchors(page: Path) -> set[str]:
    """Spell the headings of a page as links to them do."""
    headings = re.findall(r"^#+ (.*)$", prose(page), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def table(page: Path) -> list[list[str]]:
    """Read the cells of every table row of a page, headers and rulers left out."""
    rows = [line for line in prose(page).splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    return [row for row in cells if not set("".join(row)) <= set("-: ")]


def broken_links(page: Path) -> Iterator[str]:
    for link in LINK.findall(prose(page)):
        target, _, anchor = link.partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        found = (page.parent / target).resolve() if target else page
        if not found.exists() or (anchor and anchor not in anchors(found)):
            yield link


def test_there_are_pages_to_look_at() -> None:
    assert {ROOT / "CONTRIBUTING.md", DOCS / "story.md"} <= set(PAGES)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    assert list(broken_links(page)) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_make_target_that_is_named_exists(page: Path) -> None:
    known = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    named = re.findall(r"(?:`|^\s*\$? ?)make ([a-z-]+)", page.read_text(), flags=re.MULTILINE)
    assert set(named) <= set(known)


def test_every_make_target_is_described_to_contributors() -> None:
    targets = re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    page = (ROOT / "CONTRIBUTING.md").read_text()
    assert [t for t in targets if t != "help" and f"`make {t}`" not in page] == []


def test_the_glossary_explains_every_reason_and_no_other() -> None:
    section = (DOCS / "glossary.md").read_text().partition("## Reasons")[2]
    explained = re.findall(r"^\| `(\w+)` \| \S.*\|$", section, flags=re.MULTILINE)
    assert explained == [reason.value for reason in Reason]


def test_no_word_is_explained_twice() -> None:
    words = [row[0] for row in table(DOCS / "glossary.md") if row[0] not in {"Word", "Reason"}]
    assert len(words) == len(set(words))


def test_the_log_page_lists_every_event_and_every_key() -> None:
    page = (DOCS / "reference" / "log-fields.md").read_text()
    named = [*(kind.name for kind in events.EVENTS), *events.NOTES, *events.REQUIRED]
    named += [*events.ANY_LINE, *(key for kind in events.EVENTS for key in kind.extra)]
    assert [name for name in named if f"`{name}`" not in page] == []


def test_the_settings_page_lists_every_setting() -> None:
    page = (DOCS / "reference" / "settings.md").read_text()
    names = [n.upper() if "service" in n else PREFIX + n.upper() for n in Settings.model_fields]
    assert [name for name in names if f"`{name}`" not in page] == []


def codes_raised() -> set[str]:
    """Every code that a refusal can carry: of its class, or given where it is raised."""
    kinds = {
        name: kind
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, CadenzaError)
    }
    given = {
        keyword.value.value
        for path in (ROOT / "src").rglob("*.py")
        for call in ast.walk(ast.parse(path.read_text()))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in kinds
        for keyword in call.keywords
        if keyword.arg == "code" and isinstance(keyword.value, ast.Constant)
    }
    return {kind.code for kind in kinds.values()} | {str(code) for code in given}


def test_the_contract_names_every_code_that_a_refusal_can_carry() -> None:
    page = (DOCS / "reference" / "contracts.md").read_text()
    assert sorted(code for code in codes_raised() if f"`{code}`" not in page) == []


def test_the_contract_names_every_code_of_a_refused_entry() -> None:
    page = (DOCS / "reference" / "contracts.md").read_text()
    assert [code.value for code in IssueCode if f"`{code.value}`" not in page] == []


@pytest.mark.parametrize("page", DECISIONS, ids=lambda page: page.name)
def test_a_decision_is_one_page_and_says_what_was_seen(page: Path) -> None:
    text = page.read_text()
    assert len(text.splitlines()) <= DECISION_LINES
    assert re.match(rf"# {page.name[:4]}\. \S", text)
    assert re.search(
        r"^\*\*Status:\*\* (accepted|superseded by \d{4}), \d{4}-\d\d-\d\d$", text, re.MULTILINE
    )
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == ["Context", "Decision", "Consequences"]


def test_decisions_are_numbered_without_gaps() -> None:
    assert [int(page.name[:4]) for page in DECISIONS] == list(range(1, len(DECISIONS) + 1))


def test_no_promise_claims_a_figure_without_date_test_and_mutant() -> None:
    _, *rows = table(DOCS / "promises.md")
    assert [row[0] for row in rows] == [f"P{number}" for number in range(1, 21)]
    for number, promise, goal, reached, date, test, mutant in rows:
        assert promise, number
        assert goal, number
        assert reached, number
        if reached != "not yet":
            assert re.fullmatch(r"\d{4}-\d\d-\d\d", date), number
            assert LINK.search(test), number
            assert mutant, number


def test_every_requirement_shows_its_proof_or_says_what_is_missing() -> None:
    rows = [row for row in table(DOCS / "requirements.md") if row[-2] != "State"]
    asked = {row[0] for row in rows if len(row) == 4}
    assert asked == {*("AC1", "AC2", "AC3", "AC4", "IV1", "IV2", "IV3", "T")}
    for *_, what, state, proof in rows:
        assert state in {"proved", "partly", "pending"}, what
        assert state == "pending" or LINK.search(proof), what
        assert state != "partly" or "Missing:" in proof, what
        assert state != "pending" or proof, what
