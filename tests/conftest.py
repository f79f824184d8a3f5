"""What every test may ask for: a real Postgres, a database of its own, a deadline."""

import os
import secrets
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import psycopg
import psycopg.sql
import pytest
from hypothesis import settings

from cadenza.db.embedded import EmbeddedPostgres, embedded_postgres
from cadenza.db.embedded_place import erase_data
from cadenza.db.migrate import allow_login, migrate
from support import NewDatabase, TestDatabase

APP_PASSWORD = "app-" + secrets.token_hex(8)
settings.register_profile("cadenza", deadline=None)  # tests assert nothing about time
settings.load_profile("cadenza")

FORBID_SKIPS = os.environ.get("FORBID_SKIPS") == "1"  # noqa: TID251  # the test run's own knob


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Generator[EmbeddedPostgres]:
    """One Postgres for the whole session, with a migrated template database."""
    home = tmp_path_factory.mktemp("postgres")
    with embedded_postgres(home, fast=True, max_connections=200) as server:
        _execute(server.dsn, "CREATE DATABASE cadenza_template")
        migrate(_with_database(server.dsn, "cadenza_template"))
        allow_login(server.dsn, APP_PASSWORD)
        yield server
    erase_data(home)  # which may be outside the test's folder


@pytest.fixture(scope="session")
def new_database(postgres: EmbeddedPostgres) -> NewDatabase:
    """Make a fresh copy of the migrated template for a block, dropped afterwards."""

    @contextmanager
    def made() -> Generator[TestDatabase]:
        name = "t_" + secrets.token_hex(6)
        _execute(postgres.dsn, f"CREATE DATABASE {name} TEMPLATE cadenza_template")
        owner = _with_database(postgres.dsn, name)
        yield TestDatabase(name=name, owner_dsn=owner, dsn=_as_app(owner))
        _execute(postgres.dsn, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    return made


@pytest.fixture
def database(new_database: NewDatabase) -> Generator[TestDatabase]:
    """A database of the test's own."""
    with new_database() as made:
        yield made


@pytest.fixture
def until() -> Callable[..., None]:
    """Wait for a condition with a deadline, instead of sleeping."""

    def wait(condition: Callable[[], object], *, within_s: float = 20.0, what: str = "") -> None:
        limit = time.monotonic() + within_s
        pause = 0.002
        while not condition():
            assert time.monotonic() < limit, f"not within {within_s} s: {what or condition}"
            _pause(pause)
            pause = min(pause * 1.5, 0.1)

    return wait


def _pause(seconds: float) -> None:
    """Give other processes the time between two looks; the only pause in the tests."""
    time.sleep(seconds)


def _execute(dsn: str, statement: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute(psycopg.sql.SQL(statement))  # pyright: ignore[reportArgumentType]


def _with_database(dsn: str, name: str) -> str:
    return dsn.rpartition("/")[0] + "/" + name


def _as_app(dsn: str) -> str:
    _, _, address = dsn.rpartition("@")
    return f"postgresql://cadenza_app:{APP_PASSWORD}@{address}"


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say it when skips are forbidden and some happened."""
    if FORBID_SKIPS and terminalreporter.stats.get("skipped"):
        terminalreporter.write_line("skips are forbidden in this run", red=True)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a run in which skips are forbidden and some happened."""
    reporter: Any = session.config.pluginmanager.get_plugin("terminalreporter")
    if FORBID_SKIPS and reporter is not None and reporter.stats.get("skipped"):
        session.exitstatus = 1
