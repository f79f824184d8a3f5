"""`cadenza flags` against a service that answers as the operators' routes do."""

import json
import subprocess
import sys
import threading
from collections.abc import Generator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from cadenza.flags.change import killed, switched_on
from cadenza.flags.policy import first_values

CALENDAR, PUBLISH = first_values(development=False, version=3)
Asked = tuple[str, str, Any]


@dataclass
class Service:
    """What it was asked, and what it answers."""

    environment: dict[str, str] = field(default_factory=dict[str, str])
    asked: list[Asked] = field(default_factory=list[Asked])
    status: int = 200
    answer: object = None


@pytest.fixture
def service(tmp_path: Path) -> Generator[Service]:
    made = Service()

    class Answering(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body: object = json.loads(self.rfile.read(length)) if length else None
            made.asked.append((self.command, self.path, body))
            content = json.dumps(made.answer).encode()
            self.send_response(made.status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_PUT = do_POST = do_GET  # noqa: N815  # the names that http.server calls

        def log_message(self, *_args: object, **_named: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    made.environment = {
        "CADENZA_URL": f"http://127.0.0.1:{server.server_address[1]}",
        "CADENZA_OPERATOR_TOKEN": "operator-token",
        "CADENZA_HOME": str(tmp_path),
    }
    yield made
    server.shutdown()
    thread.join()
    server.server_close()


def flags(service: Service, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from cadenza.cli.main import run; run()", "flags"]
    return subprocess.run(
        [*command, *arguments],
        env={"COLUMNS": "120", **service.environment},
        check=False,
        capture_output=True,
        text=True,
    )


def changed(before: Any, after: Any, *, happened: bool = True) -> dict[str, object]:
    return {
        "changed": happened,
        "setVersion": after.version,
        "before": before.as_wire(),
        "policy": after.as_wire(),
        "state": after.summary(),
    }


def test_list_shows_every_flag_and_what_it_rests_on(service: Service) -> None:
    items = [p.as_wire() | {"state": p.summary(), "override": None} for p in (CALENDAR, PUBLISH)]
    service.answer = {"setVersion": 3, "source": "database", "staleS": 0.2, "items": items}
    shown = flags(service, "list")
    assert (shown.returncode, "live / dry_run" in shown.stdout) == (0, True)
    assert "flag set 3 from database" in shown.stderr
    assert json.loads(flags(service, "list", "--json").stdout) == service.answer


def test_set_asks_for_the_switch_and_says_what_became_of_it(service: Service) -> None:
    service.answer = changed(killed(CALENDAR), switched_on(CALENDAR))
    shown = flags(service, "set", "calendar", "on", "--reason", "a trial", "--if-version", "3")
    body = {"on": True, "reason": "a trial", "ifVersion": 3}
    assert service.asked == [("PUT", "/ops/flags/calendar", body)]
    assert (shown.returncode, shown.stdout) == (0, "calendar is on, as version 3\n")
    assert "cleared: kill" in shown.stderr


def test_kill_asks_for_the_kill(service: Service) -> None:
    service.answer = changed(CALENDAR, killed(CALENDAR))
    shown = flags(service, "kill", "calendar", "--reason", "it burns", "--json")
    assert service.asked == [("POST", "/ops/flags/calendar/kill", {"reason": "it burns"})]
    assert json.loads(shown.stdout)["state"] == "killed"


def test_what_is_already_so_is_said_to_be(service: Service) -> None:
    service.answer = changed(CALENDAR, CALENDAR, happened=False)
    shown = flags(service, "set", "calendar", "off", "--reason", "a trial")
    assert shown.stdout == "calendar is off already, since version 3\n"


def test_a_refusal_ends_with_1_and_its_own_words_and_a_name_stays_one_name(
    service: Service,
) -> None:
    service.status, service.answer = 404, {"title": "Not found", "detail": "There is no flag"}
    shown = flags(service, "kill", "../drills", "--reason", "a trial")
    assert (shown.returncode, shown.stderr) == (1, "Not found: There is no flag\n")
    assert [path for _, path, _ in service.asked] == ["/ops/flags/..%2Fdrills/kill"]


@pytest.mark.parametrize(
    "arguments",
    [("set", "calendar", "on"), ("set", "calendar", "maybe", "--reason", "a trial"), ("kill",)],
)
def test_a_command_that_is_none_ends_with_2(service: Service, arguments: tuple[str, ...]) -> None:
    assert flags(service, *arguments).returncode == 2
    assert service.asked == []


def test_a_service_that_is_away_ends_with_3(service: Service) -> None:
    service.status, service.answer = 503, {"title": "Not available right now"}
    assert flags(service, "list").returncode == 3
