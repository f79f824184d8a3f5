"""The served product: one instance that tests share, and instances of a test's own."""

from collections.abc import Generator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from served import Serve, Served, Simulator, serving, simulating
from support import NewDatabase, TestDatabase


@pytest.fixture(scope="session")
def simulator() -> Generator[Simulator]:
    """The simulated AI provider, one program for the whole session."""
    with simulating() as running:
        yield running


@pytest.fixture(scope="session")
def shared(
    new_database: NewDatabase, simulator: Simulator, tmp_path_factory: pytest.TempPathFactory
) -> Generator[Served]:
    """One instance for tests that change nothing but their own users' things."""
    with (
        new_database() as database,
        serving(database, tmp_path_factory.mktemp("shared"), simulator) as served,
    ):
        yield served


@pytest.fixture
def serve(database: TestDatabase, simulator: Simulator, tmp_path: Path) -> Serve:
    """Serve over the test's own database, with settings of its own."""

    def start(name: str = "web-1", **settings: str) -> AbstractContextManager[Served]:
        return serving(database, tmp_path / name, simulator, **settings)

    return start


@pytest.fixture
def served(serve: Serve) -> Generator[Served]:
    """An instance over the test's own database."""
    with serve() as served:
        yield served
