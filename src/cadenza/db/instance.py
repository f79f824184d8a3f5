"""Who this process is: a name that outlives it, a boot that does not, a row that says it lives."""

import fcntl
import os
import re
import secrets
import socket
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

from cadenza.db.pool import Conn
from cadenza.errors import Conflict

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_BEAT = """
INSERT INTO cadenza.instance (boot, name, version, flags_version, advertise_url)
VALUES (%(boot)s, %(name)s, %(version)s, %(flags_version)s, %(advertise_url)s)
ON CONFLICT (boot) DO UPDATE SET flags_version = EXCLUDED.flags_version, seen_at = now()
"""
_STOPPED = "UPDATE cadenza.instance SET stopped_at = now() WHERE boot = %s AND stopped_at IS NULL"


@contextmanager
def claim_name(home: Path) -> Generator[str]:
    """Hold the durable name of this home for as long as the block lasts, or the process lives.

    The same home gives the same name after every restart, so a process knows its predecessor's
    leftovers as its own. Raises Conflict `HOME_IN_USE` while another process holds it: the two
    would reap each other's runs.
    """
    home.mkdir(parents=True, exist_ok=True)
    # Not inherited by child processes, which would otherwise keep the lock when we are gone.
    fd = os.open(home / "instance", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        yield _locked_name(fd, home)
    finally:
        os.close(fd)


def replica(name: str, boot: UUID) -> str:
    """Return the log's word for this boot of this instance.

    The last digits: the first ones of a time-ordered id are the same for weeks.
    """
    return f"{name}:{boot.hex[-4:]}"


async def beat(
    conn: Conn,
    *,
    name: str,
    boot: UUID,
    version: str,
    flags_version: int,
    advertise_url: str | None = None,
) -> None:
    """Write that this boot lives and which version of the flags it holds; the first adds its row.

    Every beat may be the first: the database may be away at the start, or restored later.
    """
    row = {
        "boot": boot,
        "name": name,
        "version": version,
        "flags_version": flags_version,
        "advertise_url": advertise_url,
    }
    await conn.execute(_BEAT, row)


async def stopped(conn: Conn, boot: UUID) -> None:
    """Write that this boot ended in good order; a second time changes nothing."""
    await conn.execute(_STOPPED, [boot])


def _locked_name(fd: int, home: Path) -> str:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise Conflict(
            f"Another Cadenza is running in {home}: stop it, or give this one a CADENZA_HOME "
            "of its own",
            code="HOME_IN_USE",
        ) from None
    name = os.pread(fd, 256, 0).decode(errors="replace").strip()
    if not _NAME.fullmatch(name):  # new, or cut short by a crash
        name = _new_name()
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{name}\n".encode(), 0)
        os.fsync(fd)
    return name


def _new_name() -> str:
    host = re.sub(r"[^a-z0-9]+", "-", socket.gethostname().lower()).strip("-")[:32] or "host"
    return f"{host}-{secrets.token_hex(2)}"
