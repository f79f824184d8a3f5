"""`cadenza up` as a person meets it: a process, its greeting, its endings, its refusals."""

import hashlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx
import psycopg
import psycopg.sql
import pytest

from cadenza.db.embedded import EmbeddedPostgres
from cadenza.db.embedded_place import erase_data
from cadenza.telemetry.verify import verify_lines

GREETED = "# publish it, as a dry run"
UP = (sys.executable, "-m", "cadenza", "up")
# What `make up` is: somebody who waits for it, and may be killed.
MAKE = (sys.executable, "-c", "import subprocess, sys; subprocess.run(sys.argv[1:])")
ENTRY = {
    "title": "Bread",
    "channel": "bluesky",
    "format": "post",
    "copy": "Fresh at seven.",
    "date": "2026-12-01",
    "time": "09:00",
    "timezone": "Europe/Madrid",
}


@dataclass(frozen=True, slots=True)
class Instance:
    """One started process, with everything it was told and everything it said."""

    process: subprocess.Popen[bytes]
    url: str
    environment: dict[str, str]
    out: Path
    err: Path

    @property
    def log(self) -> Path:
        return Path(self.environment["CADENZA_HOME"]) / "cadenza.log"

    def said(self) -> str:
        return self.err.read_text()

    def lines(self) -> list[str]:
        return [line for line in self.said().splitlines() if line.startswith("curl ")]

    def client(self) -> httpx.Client:
        found = re.search(r"token of alice +(\S+)", self.said())
        assert found, self.said()
        return httpx.Client(
            base_url=self.url, headers={"Authorization": f"Bearer {found[1]}"}, timeout=20
        )


Up = Callable[..., Instance]


@pytest.fixture
def home() -> Generator[Path]:
    """A home with a space in its name, under a folder that only we may enter."""
    folder = Path(tempfile.mkdtemp(prefix="cadenza test "))
    yield folder / "a home"
    if (folder / "a home").exists():
        erase_data(folder / "a home")
    shutil.rmtree(folder)


@pytest.fixture
def up(home: Path, tmp_path: Path, until: Callable[..., None]) -> Generator[Up]:
    started: list[Instance] = []

    def start(greeting: str = GREETED, command: Sequence[str] = UP, **settings: str) -> Instance:
        port = free_port()
        number = len(started)
        environment = clean_environment(home, CADENZA_PORT=str(port), **settings)
        out, err = tmp_path / f"{number}.out", tmp_path / f"{number}.err"
        with out.open("wb") as to_out, err.open("wb") as to_err:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=to_out,
                stderr=to_err,
                env=environment,
                cwd=tmp_path,
            )
        instance = Instance(process, f"http://127.0.0.1:{port}", environment, out, err)
        started.append(instance)
        until(
            lambda: greeting in instance.said() or process.poll() is not None,
            within_s=60,
            what="the greeting",
        )
        assert process.poll() is None, instance.said()
        return instance

    yield start
    for instance in started:
        instance.process.kill()
        instance.process.wait()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def clean_environment(home: Path, **settings: str) -> dict[str, str]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("CADENZA_")}  # noqa: TID251
    return {**inherited, "CADENZA_HOME": str(home), **settings}


def cadenza(*arguments: str, env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cadenza", *arguments],
        env=dict(env),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def children(parent: int) -> set[int]:
    """Return the living processes that this one started."""
    found: set[int] = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, ppid = path.read_text().rpartition(")")[2].split()[:2]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(ppid) == parent and state not in "ZX":
            found.add(int(path.parent.name))
    return found


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def all_gone(pids: set[int]) -> bool:
    return not any(is_running(pid) for pid in pids)


def save(client: httpx.Client, calendar: str) -> object:
    path = f"/v1/calendars/{calendar}/entries"
    saved = client.put(path, json={"entries": [ENTRY]}, headers={"If-None-Match": "*"})
    assert saved.status_code < 300, saved.text
    return client.get(f"/v1/calendars/{calendar}").json()["entries"]


@pytest.mark.tools
def test_the_three_lines_of_the_greeting_work_when_they_are_pasted(up: Up) -> None:
    if shutil.which("curl") is None:
        pytest.skip("no curl")
    instance = up()
    assert "DEVELOPMENT PROFILE" in instance.said()
    assert instance.url in instance.said()
    stream, edit, publish = (
        subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=True).stdout
        for line in instance.lines()
    )
    assert stream.count("event: entry") == 14
    assert '"status":"completed"' in stream
    assert json.loads(edit)["title"] == "In my own words"
    results = json.loads(publish)["results"]
    assert [result["state"] for result in results] == ["dry_run"] * 14
    instance.process.send_signal(signal.SIGTERM)
    assert instance.process.wait(30) == 0
    report = verify_lines(instance.log.read_bytes().splitlines())
    assert report.lines > 3
    assert report.violations == []


def test_the_other_verbs_find_the_instance_by_its_home(up: Up) -> None:
    instance = up()
    env = {k: v for k, v in instance.environment.items() if k != "CADENZA_PORT"}
    flags = cadenza("flags", "list", "--json", env=env)
    assert {item["key"]: item["state"] for item in json.loads(flags.stdout)["items"]} == {
        "calendar": "on",
        "publish": "off",
    }
    token = json.loads(cadenza("token", "--user", "bob", "--json", env=env).stdout)
    answer = httpx.get(
        f"{instance.url}/v1/calendars", headers={"Authorization": f"Bearer {token['token']}"}
    )
    assert answer.json() == {"items": [], "nextCursor": None}
    checked = cadenza("migrate", "--check", "--json", env=env)
    assert checked.returncode == 0
    assert json.loads(checked.stdout)["revision"] == json.loads(checked.stdout)["needed"]
    second = cadenza("up", env={**env, "CADENZA_PORT": str(free_port())})
    assert second.returncode == 3
    assert "another cadenza already runs on" in second.stderr
    secrets = [
        path.name
        for path in Path(env["CADENZA_HOME"]).iterdir()
        if path.is_file() and path.stat().st_mode & 0o077 and "token" in path.read_text().lower()
    ]
    assert secrets == []


def test_whatever_ends_it_the_data_stays_and_nothing_is_left_running(
    up: Up, until: Callable[..., None]
) -> None:
    calendar = str(uuid.uuid4())
    kept: object = None
    for ending in (signal.SIGKILL, signal.SIGINT, signal.SIGTERM):
        instance = up()
        with instance.client() as client:
            if kept is None:
                kept = save(client, calendar)
            assert client.get(f"/v1/calendars/{calendar}").json()["entries"] == kept
        left = children(instance.process.pid)
        assert len(left) == 2  # Postgres and the simulator
        instance.process.send_signal(ending)
        code = instance.process.wait(30)
        assert code == (-signal.SIGKILL if ending is signal.SIGKILL else 0), instance.said()
        until(partial(all_gone, left), what="its children gone")


def test_a_killed_make_leaves_nothing_running(up: Up, until: Callable[..., None]) -> None:
    instance = up(command=(*MAKE, *UP, "--with-parent"))
    (cadenza_pid,) = children(instance.process.pid)
    left = {cadenza_pid, *children(cadenza_pid)}
    assert len(left) == 3
    instance.process.kill()
    until(partial(all_gone, left), within_s=30, what="everything gone")
    assert "Stopped; everything is kept." in instance.said()


@pytest.mark.parametrize("signals", [1, 2])
def test_a_stop_ends_open_streams_politely(up: Up, signals: int) -> None:
    instance = up(CADENZA_AI_MODEL="sim-slow", CADENZA_DRAIN_S="4")
    calendar = str(uuid.uuid4())
    wish = {"channels": ["bluesky"], "cadence": "daily", "start": "2026-12-01", "end": "2026-12-31"}
    with (
        instance.client() as client,
        client.stream(
            "POST",
            f"/v1/calendars/{calendar}/runs",
            json=wish,
            headers={"Accept": "text/event-stream"},
        ) as stream,
    ):
        lines = stream.iter_lines()
        assert any(line == "event: run" for line in lines)
        for _ in range(signals):
            instance.process.send_signal(signal.SIGTERM)
        rest = list(lines)  # ends without an error: the stream was closed, not cut
    assert any(line.startswith("retry: ") for line in rest)
    assert instance.process.wait(30) == 0
    logged = [json.loads(line) for line in instance.log.read_text().splitlines()]
    assert [line["message"] for line in logged if line["level"] == "error"] == []


@pytest.mark.parametrize(
    ("settings", "code", "told"),
    [
        ({"CADENZA_HOEM": "x"}, 2, "CADENZA_HOEM is not a setting of Cadenza: did you mean"),
        ({"CADENZA_PORT": "many"}, 2, "CADENZA_PORT"),
        ({"CADENZA_DATABASE_URL": "postgresql://x"}, 2, "without CADENZA_ENV"),
        ({"CADENZA_ENV": "production"}, 2, "production needs CADENZA_DATABASE_URL"),
        ({"CALENDAR_SERVICE_ENABLED": "maybe"}, 2, "use true or false"),
        ({"CADENZA_HOST": "no.such.host.invalid"}, 3, "CADENZA_HOST"),
    ],
)
def test_what_cannot_start_says_why_in_one_clear_line(
    home: Path, settings: dict[str, str], code: int, told: str
) -> None:
    refused = cadenza("up", env=clean_environment(home, **settings))
    assert refused.returncode == code
    assert told in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not (home / "postgres").exists()


def test_a_port_that_is_taken_is_named_before_anything_starts(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = cadenza("up", env=clean_environment(home, CADENZA_PORT=str(port)))
    assert refused.returncode == 3
    assert f"127.0.0.1:{port}" in refused.stderr
    assert "CADENZA_PORT" in refused.stderr
    assert not home.exists()


@pytest.fixture
def empty_database(postgres: EmbeddedPostgres) -> Generator[str]:
    name = psycopg.sql.Identifier("t_" + uuid.uuid4().hex)
    with psycopg.connect(postgres.dsn, autocommit=True) as conn:
        conn.execute(psycopg.sql.SQL("CREATE DATABASE {}").format(name))
        yield postgres.dsn.rpartition("/")[0] + "/" + name.as_string().strip('"')
        conn.execute(psycopg.sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


def test_production_is_never_migrated_by_up(up: Up, home: Path, empty_database: str) -> None:
    home.mkdir()
    operators = home / "operators.json"
    digest = hashlib.sha256(b"a-token-of-ana").hexdigest()
    operators.write_text(json.dumps([{"name": "ana", "tokenSha256": digest, "role": "operator"}]))
    production = {
        "CADENZA_ENV": "production",
        "CADENZA_DATABASE_URL": empty_database,
        "CADENZA_JWT_SECRET": "s" * 40,
        "CADENZA_JWT_ISSUER": "https://example.supabase.co/auth/v1",
        "CADENZA_OPERATORS_FILE": str(operators),
    }
    env = clean_environment(home, **production)
    refused = cadenza("up", env=env)
    assert refused.returncode == 1
    assert "cadenza migrate" in refused.stderr
    behind = cadenza("migrate", "--check", env=env)
    assert behind.returncode == 1
    migrated = cadenza("migrate", "--json", env=env)
    assert migrated.returncode == 0, migrated.stderr
    assert json.loads(migrated.stdout)["flagsAdded"] == ["calendar", "publish"]
    assert cadenza("token", "--user", "alice", env=env).returncode == 1
    instance = up(greeting="answers on", **production)
    assert children(instance.process.pid) == set()
    asked = {**env, "CADENZA_URL": instance.url, "CADENZA_OPERATOR_TOKEN": "a-token-of-ana"}
    flags = json.loads(cadenza("flags", "list", "--json", env=asked).stdout)
    assert {item["state"] for item in flags["items"]} == {"off"}
    assert not (home / "development.json").exists()
    instance.process.send_signal(signal.SIGTERM)
    assert instance.process.wait(30) == 0
