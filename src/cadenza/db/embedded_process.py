"""The Postgres process itself: seeing off its predecessor, start, wait, stop."""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from cadenza.db.embedded_place import ENVIRONMENT, Place
from cadenza.errors import DatabaseUnavailable

_PR_SET_PDEATHSIG = 1
_POLL_S = 0.02
_AT_ONCE_S = 10
_PORTS_TRIED = 3
_TAIL_LINES = 8
_STATUS_LINE = 7  # of postmaster.pid
_PROCESSES = Path("/proc")


def see_off_the_previous(place: Place, until: float) -> None:
    """Wait for a Postgres whose parent was killed; our lock says that nobody else owns it."""
    pid_file = place.data / "postmaster.pid"
    asked = None
    while (pid := _first_number(pid_file)) is not None and _PROCESSES.is_dir():
        if not _is_postmaster(pid, place.data):
            pid_file.unlink(missing_ok=True)
            return
        if asked != pid:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGINT)
            asked = pid
        if time.monotonic() > until:
            raise DatabaseUnavailable(f"an earlier Postgres (process {pid}) does not stop")
        time.sleep(_POLL_S)


def _first_number(pid_file: Path) -> int | None:
    try:
        return int(pid_file.read_text().split()[0])
    except (FileNotFoundError, IndexError, ValueError):
        return None


def _is_postmaster(pid: int, data: Path) -> bool:
    """Say whether this is a living Postgres on this data: not a zombie, not a number used again.

    Where the first process of a container does not collect the dead, a killed Postgres stays as a
    zombie, which Postgres itself takes for a living one.
    """
    process = _PROCESSES / str(pid)
    try:
        state = (process / "stat").read_text().rpartition(")")[2].split()[0]
        command = (process / "cmdline").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return (
        state not in "ZX"
        and Path(os.fsdecode(command[0])).name == "postgres"
        and (os.fsencode(data) in command)
    )


def started(
    home: Path, place: Place, options: list[str], until: float
) -> tuple[subprocess.Popen[bytes], int]:
    """Start on the home's port, or on a new one when something else has taken it meanwhile."""
    log = home / "postgres.log"
    for _ in range(_PORTS_TRIED):
        port = _port(home)
        process = _spawned(place, log, ["-p", str(port), *options])
        try:
            _wait_until_ready(process, place, log, until)
        except BaseException:
            stop(process, 0)
            if _is_free(port):
                raise
        else:
            return process, port
    raise DatabaseUnavailable("no free port was found on 127.0.0.1")


def _port(home: Path) -> int:
    path = home / "postgres.port"
    with suppress(FileNotFoundError, ValueError):
        kept = int(path.read_text())
        if _is_free(kept):
            return kept
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = int(server.getsockname()[1])
    path.write_text(f"{port}\n")
    return port


def _is_free(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def _spawned(place: Place, log: Path, arguments: list[str]) -> subprocess.Popen[bytes]:
    try:
        with os.fdopen(os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "ab") as output:
            return subprocess.Popen(  # noqa: S603 - a program of the wheel, arguments of ours
                [place.programs / "postgres", "-D", place.data, *arguments],
                user=place.identity.user,
                group=place.identity.group,
                extra_groups=place.identity.extra_groups,
                cwd="/",
                env=ENVIRONMENT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # SIGINT is Postgres' fast, clean shutdown.
                start_new_session=True,  # Ctrl-C in a terminal is for us; we stop Postgres last
                preexec_fn=dying_with(os.getpid(), signal.SIGINT),  # noqa: PLW1509  # system calls
            )
    except OSError as error:
        raise DatabaseUnavailable(f"Postgres does not run: {error}") from error


def dying_with(parent: int, number: signal.Signals) -> Callable[[], None] | None:
    """Return what a child does before its program starts: ask for this signal at our death.

    For the main thread's children only: the kernel sends it when the thread that forked ends.
    """
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, number)
        if os.getppid() != parent:  # we died before the request was in
            os._exit(1)

    return ask


def _wait_until_ready(
    process: subprocess.Popen[bytes], place: Place, log: Path, until: float
) -> None:
    """Wait for the word that Postgres writes into its pid file, the one `pg_ctl` waits for."""
    while not _says_ready(place.data / "postmaster.pid", process.pid):
        if process.poll() is not None or time.monotonic() > until:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-_TAIL_LINES:])
            raise DatabaseUnavailable(f"Postgres did not start; the end of {log}:\n{tail}")
        time.sleep(_POLL_S)


def _says_ready(pid_file: Path, pid: int) -> bool:
    try:
        lines = pid_file.read_text().splitlines()
    except FileNotFoundError:
        return False
    return (
        len(lines) > _STATUS_LINE
        and lines[0] == str(pid)
        and lines[_STATUS_LINE].strip() == "ready"
    )


def stop(process: subprocess.Popen[bytes], timeout_s: float) -> None:
    """Stop cleanly; after the timeout at once, which the next start recovers from."""
    process.send_signal(signal.SIGINT)
    try:
        process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGQUIT)
        process.wait(_AT_ONCE_S)
