"""Broken builds must be caught: each is a copy of the source with one promise taken out of it.

A test that stays green on its broken build proves nothing; neither does one that fails because
the broken build does not even start. So the named test must fail by an assertion, and must pass
on a copy that is not broken.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from mutants.listed import MUTANTS, Mutant

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src"
AT_ONCE = 2
TIMEOUT_S = 240
BY_ASSERTION = ("AssertionError", "assert ", "Failed: DID NOT RAISE")
PARAMETERS = [
    pytest.param(mutant, id=mutant.name, marks=() if mutant.is_quick else pytest.mark.verify)
    for mutant in MUTANTS
]


@dataclass(frozen=True, slots=True)
class Trial:
    """What became of a run of tests over a copy of the source."""

    code: int
    failures: list[str]
    output: str


class Trials:
    """Runs over copies of the source, a few at once, begun before their results are asked for."""

    def __init__(self, folder: Path, pool: ThreadPoolExecutor) -> None:
        self._folder, self._pool = folder, pool
        self._begun: dict[str, Future[Trial]] = {}

    def begin(self, name: str, mutant: Mutant | None, tests: Iterable[str]) -> None:
        """Start one, once."""
        if name not in self._begun:
            folder = self._folder / name
            self._begun[name] = self._pool.submit(tried, folder, mutant, sorted(set(tests)))

    def of(self, name: str) -> Trial:
        """Return what became of it."""
        return self._begun[name].result()


@pytest.fixture(scope="module")
def trials(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Generator[Trials]:
    """Every trial that this session's tests will ask for, under way."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        begun = Trials(tmp_path_factory.mktemp("mutants"), pool)
        for item in request.session.items:
            asked = getattr(item, "callspec", None)
            mutant = asked.params.get("mutant") if asked is not None else None
            if isinstance(mutant, Mutant) and item.name.startswith("test_a_broken_build"):
                begun.begin(mutant.name, mutant, [mutant.caught_by])
        yield begun


def tried(folder: Path, mutant: Mutant | None, tests: list[str]) -> Trial:
    """Copy the source, break it, run these tests over the copy, and return what became of it."""
    copy = folder / "src"
    shutil.copytree(SOURCE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    if mutant is not None:
        path = copy / "cadenza" / mutant.path
        path.write_text(path.read_text().replace(mutant.old, mutant.new))
    report = folder / "report.xml"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider"),
            *(f"--junitxml={report}", f"--basetemp={folder / 'temp'}", *tests),
        ],
        cwd=ROOT,
        env=environment(copy),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    found = ET.parse(report).iter("failure") if report.exists() else ()  # noqa: S314  # ours
    return Trial(done.returncode, [f.get("message", "") for f in found], done.stdout[-4000:])


def environment(copy: Path) -> dict[str, str]:
    """Return this test's own, with the copy found before anything that is installed."""
    inherited = {
        name: value
        for name, value in os.environ.items()  # noqa: TID251  # handed on to a program
        if not name.startswith(("CADENZA_", "PYTEST_", "FORBID_SKIPS"))
    }
    return {**inherited, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}


def test_names_are_unique() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_what_is_to_be_broken_is_there_exactly_once(mutant: Mutant) -> None:
    text = (SOURCE / "cadenza" / mutant.path).read_text()
    assert text.count(mutant.old) == 1, f"{mutant.path} has moved on: break it where it is now"
    assert mutant.old != mutant.new
    compile(text.replace(mutant.old, mutant.new), mutant.path, "exec")
    file, _, test = mutant.caught_by.partition("::")
    assert f"def {test.partition('[')[0]}(" in (ROOT / file).read_text()


def test_the_page_lists_every_broken_build_and_its_test() -> None:
    page = (Path(__file__).parent / "README.md").read_text().splitlines()
    listed = {line.split("`")[1]: line for line in page if line.count("|") == 6 and "`" in line}
    assert set(listed) == {mutant.name for mutant in MUTANTS}
    for mutant in MUTANTS:
        line, test = listed[mutant.name], mutant.caught_by.partition("::")[2]
        assert f"| {mutant.promise} |" in line
        assert f"`{test}`" in line


def test_a_copy_is_what_is_tested(tmp_path: Path) -> None:
    copy = tmp_path / "src"
    shutil.copytree(SOURCE / "cadenza", copy / "cadenza")
    where = [sys.executable, "-c", "import cadenza; print(cadenza.__file__)"]
    told = subprocess.run(
        where, env=environment(copy), cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert Path(told.stdout.strip()).is_relative_to(copy)


@pytest.mark.parametrize(
    "is_quick",
    [pytest.param(True, id="quick"), pytest.param(False, marks=pytest.mark.verify, id="all")],
)
def test_the_unbroken_copy_passes(trials: Trials, *, is_quick: bool) -> None:
    tests = [mutant.caught_by for mutant in MUTANTS if mutant.is_quick is is_quick]
    trials.begin(f"unbroken-{is_quick}", None, tests)
    trial = trials.of(f"unbroken-{is_quick}")
    assert trial.code == 0, trial.output


@pytest.mark.parametrize("mutant", PARAMETERS)
def test_a_broken_build_is_caught_by_an_assertion(trials: Trials, mutant: Mutant) -> None:
    trial = trials.of(mutant.name)
    assert trial.code == 1, f"{mutant.caught_by} did not notice:\n{trial.output}"
    assert any(message.startswith(BY_ASSERTION) for message in trial.failures), trial.output
