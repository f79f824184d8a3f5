"""Postgres as our own child: the wheel's programs, a data folder in a home, gone when we are gone.

One home holds `postgres/` (the data), `postgres.port`, `postgres.password`, `postgres.log` and
`postgres.lock`. Postgres refuses to run as root, so for root it runs as `nobody`; where `nobody`
cannot enter the home or the programs, both live in a folder of their own (`embedded_place.py`) and
the home only points there, by `postgres.place`. Nobody's folder is ever opened up for it.
"""

import os
import secrets
import shutil
import subprocess
import threading
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cadenza.db.embedded_place import ENVIRONMENT, Place, find_place, locked
from cadenza.db.embedded_process import see_off_the_previous, started, stop
from cadenza.errors import DatabaseUnavailable

_SUPERUSER = "postgres"


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddedPostgres:
    """A running Postgres: where it listens on 127.0.0.1, and where it keeps what.

    `dsn` is the superuser's and holds the password, so it is left out of `repr`.
    `is_moved` says that the data is outside the home, in `data.parent`.
    """

    port: int
    dsn: str = field(repr=False)
    data: Path
    log: Path
    pid: int
    is_moved: bool


@contextmanager
def embedded_postgres(
    home: Path,
    *,
    max_connections: int = 100,
    start_timeout_s: float = 60,
    stop_timeout_s: float = 20,
    fast: bool = False,
) -> Generator[EmbeddedPostgres]:
    """Run the Postgres of this home while the block runs; make its data folder the first time.

    It is durable, speaks TCP on loopback only, asks for a password, and dies with this process
    (on Linux, however this process ends). Call it from the main thread: the kernel counts the
    thread that starts Postgres as its parent.

    `fast=True` is for tests only: commits do not wait for the disk. They survive the end of any
    process, but a crash of the machine may destroy the data folder.

    Raises DatabaseUnavailable when another process runs this home, or Postgres does not start.
    """
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("start the embedded Postgres from the main thread")
    home = Path(os.path.realpath(home))
    home.mkdir(parents=True, exist_ok=True)
    until = time.monotonic() + start_timeout_s
    with ExitStack() as stack:
        stack.enter_context(locked(home))
        place = find_place(home)
        if place.folder != home:
            stack.enter_context(locked(place.folder))
        password = _password(home, place.data)
        _make_data_folder(place, password, fast=fast)
        see_off_the_previous(place, until)
        process, port = started(home, place, _options(max_connections, fast=fast), until)
        try:
            yield EmbeddedPostgres(
                port=port,
                dsn=_dsn(password, port),
                data=place.data,
                log=home / "postgres.log",
                pid=process.pid,
                is_moved=place.folder != home,
            )
        finally:
            stop(process, stop_timeout_s)


def embedded_dsn(home: Path) -> str | None:
    """Return the superuser's DSN of this home's Postgres, running or not; None before its first."""
    try:
        password = (home / "postgres.password").read_text()
        return _dsn(password, int((home / "postgres.port").read_text()))
    except (FileNotFoundError, ValueError):
        return None


def _dsn(password: str, port: int) -> str:
    return f"postgresql://{_SUPERUSER}:{password}@127.0.0.1:{port}/postgres"


def _options(max_connections: int, *, fast: bool) -> list[str]:
    options = {
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": "",
        "max_connections": str(max_connections),
        "timezone": "UTC",
        "log_timezone": "UTC",
    }
    if fast:
        options |= {"fsync": "off", "full_page_writes": "off"}
    return [part for key, value in options.items() for part in ("-c", f"{key}={value}")]


def _password(home: Path, data: Path) -> str:
    """Return the superuser's password; a new one until the data folder is whole."""
    path = home / "postgres.password"
    if not data.exists():
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        with os.fdopen(os.open(path, flags, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(24))
            file.flush()
            os.fsync(file.fileno())
    try:
        return path.read_text()
    except FileNotFoundError:
        raise DatabaseUnavailable(
            f"{path} is missing, and {data} cannot be opened without it"
        ) from None


def _make_data_folder(place: Place, password: str, *, fast: bool) -> None:
    """Make it beside its name and rename it when whole: a kill in between leaves nothing half."""
    if place.data.exists():
        return
    unfinished = place.folder / "postgres.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(mode=0o700)
    given = unfinished.with_suffix(".given")
    given.unlink(missing_ok=True)
    with os.fdopen(os.open(given, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(password)
    if place.identity.user is not None:
        for path in (unfinished, given):
            os.chown(path, place.identity.user, place.identity.group or -1)
    try:
        _initialise(place, unfinished, given, fast=fast)
    finally:
        given.unlink()
    unfinished.rename(place.data)
    _sync(place.folder)


def _initialise(place: Place, folder: Path, password_file: Path, *, fast: bool) -> None:
    made = _run(
        place,
        "initdb",
        *("-D", str(folder), "-U", _SUPERUSER, "--pwfile", str(password_file)),
        *("--auth=scram-sha-256", "--encoding=utf8", "--locale=C"),
        *(("--no-sync",) if fast else ()),
    )
    if made.returncode:
        raise DatabaseUnavailable(f"a data folder could not be made in {folder}:\n{made.stdout}")


def _run(place: Place, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(  # noqa: S603 - a program of the wheel, arguments of ours
            [place.programs / program, *arguments],
            user=place.identity.user,
            group=place.identity.group,
            extra_groups=place.identity.extra_groups,
            cwd="/",
            env=ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
    except OSError as error:
        raise DatabaseUnavailable(f"{program} does not run: {error}") from error


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
