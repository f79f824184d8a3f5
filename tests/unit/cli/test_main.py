from importlib import import_module

import pytest
import typer

from cadenza.cli.main import HIDDEN, VERBS, exit_code, run
from cadenza.cli.output import explain
from cadenza.errors import (
    CadenzaError,
    Conflict,
    DatabaseUnavailable,
    Invalid,
    Mistake,
    NotFound,
    Unavailable,
)
from cadenza.settings import SettingsRefused


@pytest.mark.parametrize("name", VERBS)
def test_every_verb_has_a_file_that_adds_it_under_its_own_name(name: str) -> None:
    cli = typer.Typer()
    import_module(f"cadenza.cli.{name}").add_to(cli)
    commands = [command.name for command in cli.registered_commands]
    assert [*commands, *(group.name for group in cli.registered_groups)] == [name]


@pytest.mark.parametrize("name", VERBS)
def test_every_verb_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run([name, "--help"])
    assert ended.value.code == 0
    assert f"cadenza {name}" in capsys.readouterr().out


def test_the_help_lists_the_verbs_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run(["--help"])
    assert ended.value.code == 0
    listed = capsys.readouterr().out.partition("Commands:")[2]
    assert [line.split()[0] for line in listed.splitlines() if line.strip()] == [
        name for name in VERBS if name not in HIDDEN
    ]


@pytest.mark.parametrize("given", [["nope"], ["version", "--nope"], ["token"], []])
def test_wrong_usage_ends_with_2(given: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run(given)
    assert ended.value.code == 2
    said = capsys.readouterr()
    assert "Usage: cadenza" in said.err + said.out


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SettingsRefused("x"), 2),
        (Invalid("x"), 2),
        (Unavailable("x"), 3),
        (DatabaseUnavailable(), 3),
        (Conflict("x"), 1),
        (NotFound("x"), 1),
        (CadenzaError("x"), 1),
    ],
)
def test_each_kind_of_error_has_its_exit_code(error: CadenzaError, code: int) -> None:
    assert exit_code(error) == code


def test_an_error_is_told_with_its_fixes_and_markup_is_text(
    capsys: pytest.CaptureFixture[str],
) -> None:
    mistake = Mistake(pointer="/end", code="BEFORE_START", fix="Use [a later] date")
    explain(Invalid("[red]wrong[/red]", mistakes=[mistake], extra={"requestId": "r1"}))
    said = capsys.readouterr().err
    assert said == "[red]wrong[/red]\n  /end: Use [a later] date\n  requestId: r1\n"
