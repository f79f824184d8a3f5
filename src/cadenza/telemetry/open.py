"""Open this process's log: to a file or stdout, libraries included, user ids plain or keyed."""

import os
import sys
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from secrets import token_bytes
from typing import BinaryIO

from cadenza.telemetry.log import Log, UserId, catch_libraries, keyed_user_id


@contextmanager
def open_log(
    file: Path | None,
    *,
    version: str,
    replica: str,
    level: str,
    user_key: Path | None,
    dropped: Callable[[str], None],
) -> Generator[Log]:
    """Yield the log, appending to `file`, or to stdout where that is None.

    With `user_key` users are written as a hash under the key in that file, made the first time.
    """
    with ExitStack() as stack:
        stream: BinaryIO = sys.stdout.buffer
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            stream = stack.enter_context(file.open("ab"))
        log = Log(
            stream,
            version=version,
            replica=replica,
            level=level,
            user_id=_plain if user_key is None else _keyed(user_key),
            dropped=dropped,
        )
        catch_libraries(log, stream, level=level)
        yield log


def _plain(user_id: str) -> str:
    return user_id


def _keyed(path: Path) -> UserId:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file:
            file.write(token_bytes(32))
    return keyed_user_id(path.read_bytes())
