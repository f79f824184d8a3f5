import io
import json
from pathlib import Path
from typing import Any

import pytest

from cadenza.cli.main import run
from cadenza.telemetry.log import Log


def good_line(message: str = "fine") -> bytes:
    stream = io.BytesIO()
    log = Log(stream, version="0.1.0", replica="web-1:7f3a")
    log.note("process.message.logged", message=message)
    return stream.getvalue()


def verify(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[object, dict[str, Any]]:
    with pytest.raises(SystemExit) as ended:
        run(["logs", "verify", "--json", *arguments])
    return ended.value.code, json.loads(capsys.readouterr().out)


def test_a_log_that_keeps_its_contract_passes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a").write_bytes(good_line() * 3)
    code, report = verify(capsys, str(tmp_path / "a"))
    assert code == 0
    assert report["lines"] == 3
    assert report["violations"] == []
    assert report["events"] == {"process.message.logged": 3}


def test_a_broken_line_is_found_in_its_own_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a").write_bytes(good_line() * 2)
    (tmp_path / "empty").touch()
    (tmp_path / "b").write_bytes(good_line() + b"Traceback (most recent call last):\n")
    code, report = verify(capsys, *(str(tmp_path / name) for name in ("a", "empty", "b")))
    assert code == 1
    assert [(v["file"], v["line"]) for v in report["violations"]] == [(str(tmp_path / "b"), 2)]


def test_a_secret_is_a_violation_and_is_not_repeated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = "postgresql://someone:" + "hunter2hunter2" + "@db.example/x"
    line = json.loads(good_line()) | {"message": secret}
    (tmp_path / "a").write_text(json.dumps(line) + "\n")
    with pytest.raises(SystemExit) as ended:
        run(["logs", "verify", str(tmp_path / "a")])
    assert ended.value.code == 1
    said = capsys.readouterr()
    assert "1 secrets" in said.err
    assert "hunter2" not in said.out + said.err


def test_a_file_that_is_not_there_ends_with_3(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        run(["logs", "verify", str(tmp_path / "none")])
    assert ended.value.code == 3
    assert "none cannot be read" in capsys.readouterr().err


def test_the_schema_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run(["logs", "schema"])
    assert ended.value.code == 0
    assert json.loads(capsys.readouterr().out)["$id"] == "urn:cadenza:log-line:1"
