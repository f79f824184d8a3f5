import json
from pathlib import Path

import pytest

from cadenza.cli.client import find_target, operate, refusal
from cadenza.cli.home import keep_development
from cadenza.errors import CadenzaError, Unavailable

PROBLEM = {
    "type": "urn:cadenza:problem:SCHEMA_BEHIND",
    "title": "Not now",
    "status": 409,
    "detail": "publish needs revision 0005",
    "code": "SCHEMA_BEHIND",
    "requestId": "01a2",
    "retryable": False,
    "playbook": None,
    "errors": [{"pointer": "/on", "code": "WRONG", "fix": "Say true or false"}],
}


def test_without_anything_it_asks_this_machine_as_nobody(tmp_path: Path) -> None:
    target = find_target({"CADENZA_HOME": str(tmp_path)})
    assert (target.url, target.operator_token) == ("http://127.0.0.1:8080", None)


def test_it_finds_the_development_instance_by_its_home(tmp_path: Path) -> None:
    kept = keep_development(tmp_path, url="http://127.0.0.1:9191")
    target = find_target({"CADENZA_HOME": str(tmp_path)})
    assert (target.url, target.operator_token) == (kept.url, kept.operator_token)
    assert kept.operator_token not in repr(target)


def test_what_the_environment_says_comes_first(tmp_path: Path) -> None:
    keep_development(tmp_path, url="http://127.0.0.1:9191")
    told = {
        "CADENZA_HOME": str(tmp_path),
        "CADENZA_URL": "https://cadenza.example/",
        "CADENZA_OPERATOR_TOKEN": "ana",
    }
    target = find_target(told)
    assert (target.url, target.operator_token) == ("https://cadenza.example", "ana")


def test_a_development_token_is_never_sent_anywhere_else(tmp_path: Path) -> None:
    keep_development(tmp_path, url="http://127.0.0.1:9191")
    told = {"CADENZA_HOME": str(tmp_path), "CADENZA_URL": "https://cadenza.example"}
    target = find_target(told)
    assert target.operator_token is None
    with pytest.raises(Unavailable, match="CADENZA_OPERATOR_TOKEN"):
        operate("GET", "/ops/flags", target=target)


def test_a_problem_becomes_a_sentence_with_its_fixes() -> None:
    error = refusal(409, json.dumps(PROBLEM).encode())
    assert error.detail == "Not now: publish needs revision 0005"
    assert error.code == "SCHEMA_BEHIND"
    assert [mistake.fix for mistake in error.mistakes] == ["Say true or false"]
    assert error.extra == {"code": "SCHEMA_BEHIND", "requestId": "01a2"}
    assert not isinstance(error, Unavailable)


@pytest.mark.parametrize("content", [b"", b"<html>", b"[]", b"null", b"{}"])
def test_an_answer_that_is_no_problem_document_is_still_told(content: bytes) -> None:
    error = refusal(502, content)
    assert isinstance(error, Unavailable)
    assert error.detail == "The service answered 502"
    assert isinstance(refusal(403, content), CadenzaError)
