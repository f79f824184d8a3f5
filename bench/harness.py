"""What every benchmark shares: a server in a process of its own, its CPU time, fair rounds.

A figure is a ratio to a baseline that is measured in the same run, in alternating rounds, by the
server's own CPU time: neighbours on the machine slow the clock, hardly the CPU time. A benchmark
reports; it never asserts.
"""

import os
import resource
import signal
import socket
import statistics
import subprocess
import sys
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

ROOT = Path(__file__).resolve().parents[1]
Measured = TypeVar("Measured")
_CORES = sorted(os.sched_getaffinity(0))
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One measured figure, beside its baseline and the goal of the design."""

    benchmark: str
    what: str
    value: float
    unit: str
    ratio: float | None = None
    baseline: str = ""
    goal: str = ""
    is_met: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How long to measure, and whom to tell what is going on."""

    rounds: int
    round_s: float
    is_long: bool
    say: Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Server:
    """A running server process: where it listens, and what it has used so far."""

    pid: int
    address: tuple[str, int]

    def cpu_s(self) -> float:
        """Return the CPU seconds of all its threads."""
        try:
            threads = Path(f"/proc/{self.pid}/task").iterdir()
            return sum(int((at / "schedstat").read_text().split()[0]) for at in threads) / 1e9
        except OSError:  # a kernel without schedstat: hundredths of a second
            fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
            return (int(fields[11]) + int(fields[12])) * _TICK_S

    def resident_kb(self) -> int:
        """Return its resident memory, in kB."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0])


@contextmanager
def server(app: str, environment: Mapping[str, str] | None = None) -> Generator[Server]:
    """Serve `module:attribute` on a free loopback port, on the first core when there are two."""
    with socket.create_server(("127.0.0.1", 0), backlog=8192) as listening:
        process = subprocess.Popen(
            [sys.executable, "-m", "bench.serve", app, str(listening.fileno())],
            cwd=ROOT,
            env={**os.environ, **(environment or {})},  # noqa: TID251  handed on, not read
            pass_fds=[listening.fileno()],
        )
        address: tuple[str, int] = listening.getsockname()
    try:
        pin(process.pid, 0)
        yield Server(process.pid, address)
    finally:
        process.send_signal(signal.SIGKILL)  # it keeps nothing
        process.wait()


def pin(pid: int, core: int) -> None:
    """Keep a process on one of our cores, when there are at least two."""
    if len(_CORES) > 1:
        os.sched_setaffinity(pid, {_CORES[core]})


def allow_many_files() -> None:
    """Let this process open as many files as the system allows."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def alternate(
    subjects: Mapping[str, Callable[[], Measured]], options: Options
) -> dict[str, list[Measured]]:
    """Measure every subject once a round, each round beginning with another one."""
    names = list(subjects)
    measured: dict[str, list[Measured]] = {name: [] for name in names}
    for turn in range(options.rounds):
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            options.say(f"round {turn + 1} of {options.rounds}: {name}")
            measured[name].append(subjects[name]())
    return measured


def median(values: list[float]) -> float:
    """Return the middle value."""
    return statistics.median(values)


def median_ratio(values: list[float], baseline: list[float]) -> float:
    """Return the middle of the ratios round by round: a noisy round is noisy for both."""
    return median([value / base for value, base in zip(values, baseline, strict=True)])
