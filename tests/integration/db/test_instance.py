"""The name that a home keeps, and the row that says this boot lives."""

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.rows import dict_row
from uuid_utils.compat import uuid7

from cadenza.db import instance
from cadenza.db.pool import Conn, Database
from cadenza.errors import Conflict
from support import TestDatabase

HOLD_THE_NAME = """
import sys
from pathlib import Path
from cadenza.db.instance import claim_name
with claim_name(Path(sys.argv[1])) as name:
    print(name, flush=True)
    sys.stdin.read()
"""


def rows(database: TestDatabase) -> list[dict[str, Any]]:
    with psycopg.connect(database.owner_dsn) as conn, conn.cursor(row_factory=dict_row) as cursor:
        cursor.execute("SELECT * FROM cadenza.instance ORDER BY started_at, boot")
        return cursor.fetchall()


def lived(database: TestDatabase, boot: UUID, *flags_versions: int, stop: bool = False) -> None:
    """Beat once per version, through the service's own login and role."""

    async def main() -> None:
        opened = Database(database.dsn)
        await opened.open()
        try:
            for flags_version in flags_versions:

                async def work(conn: Conn, flags_version: int = flags_version) -> None:
                    await instance.beat(
                        conn, name="web-1", boot=boot, version="0.1.0", flags_version=flags_version
                    )

                await opened.as_worker(work, budget_s=10)
            if stop:
                await opened.as_worker(lambda conn: instance.stopped(conn, boot), budget_s=10)
        finally:
            await opened.close()

    asyncio.run(main())


def test_a_home_keeps_its_name_over_restarts(tmp_path: Path) -> None:
    home = tmp_path / "not there yet"
    with instance.claim_name(home) as first:
        pass
    with instance.claim_name(home) as second:
        assert second == first
    with instance.claim_name(tmp_path / "other") as other:
        assert other != first


def test_two_processes_cannot_share_a_home_and_a_killed_one_gives_it_back(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD_THE_NAME, tmp_path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        name = holder.stdout.readline().strip()
        with pytest.raises(Conflict) as refused, instance.claim_name(tmp_path):
            pass
        assert refused.value.code == "HOME_IN_USE"
        assert str(tmp_path) in refused.value.detail
        holder.kill()
    with instance.claim_name(tmp_path) as again:
        assert again == name


@pytest.mark.parametrize("left", ["", "web-", "two words\n", "\x00\x00", "x" * 300])
def test_a_name_that_a_crash_left_unreadable_is_replaced(tmp_path: Path, left: str) -> None:
    (tmp_path / "instance").write_text(left)
    with instance.claim_name(tmp_path) as name:
        assert (tmp_path / "instance").read_text() == f"{name}\n"
    assert name != left
    with instance.claim_name(tmp_path) as again:
        assert again == name


def test_the_replica_tells_two_boots_of_one_name_apart() -> None:
    labels = {instance.replica("web-1", uuid7()) for _ in range(20)}
    assert len(labels) > 15
    assert all(label.startswith("web-1:") and len(label) == 10 for label in labels)


def test_the_first_beat_adds_the_row_and_later_ones_move_it(database: TestDatabase) -> None:
    boot = uuid7()
    lived(database, boot, 3)
    (before,) = rows(database)
    assert (before["boot"], before["name"], before["flags_version"]) == (boot, "web-1", 3)
    lived(database, boot, 4, 5)
    (after,) = rows(database)
    assert after["flags_version"] == 5
    assert after["seen_at"] > before["seen_at"]
    assert (after["started_at"], after["stopped_at"]) == (before["started_at"], None)


def test_a_stop_is_written_once_and_for_its_own_boot_only(database: TestDatabase) -> None:
    gone, alive = uuid4(), uuid4()
    lived(database, alive, 1)
    lived(database, gone, 1, stop=True)
    before = {row["boot"]: row["stopped_at"] for row in rows(database)}
    assert before[gone] is not None
    assert before[alive] is None
    lived(database, gone, stop=True)
    assert {row["boot"]: row["stopped_at"] for row in rows(database)} == before
