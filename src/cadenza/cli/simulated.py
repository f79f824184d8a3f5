"""The simulator as a child process of a development instance."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from cadenza.db.embedded_process import dying_with
from cadenza.errors import Unavailable

MODEL: Final = "sim-ok"
_STOP_S: Final = 5


@contextmanager
def simulator(home: Path) -> Generator[str]:
    """Run a simulator while the block runs, and give its OpenAI-compatible base URL.

    It ends with this process, however that ends. Call it from the main thread.
    """
    log = home / "simulator.log"
    with log.open("ab") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "cadenza.simulator", "--die-with-parent"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,  # Ctrl-C in a terminal is for us; it is needed while we drain
            preexec_fn=dying_with(os.getpid(), signal.SIGTERM),  # noqa: PLW1509  # system calls
        )
    try:
        yield _base_url(process, log)
    finally:
        process.terminate()
        try:
            process.communicate(timeout=_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def _base_url(process: subprocess.Popen[bytes], log: Path) -> str:
    first = process.stdout.readline() if process.stdout else b""
    if not first:
        raise Unavailable(f"The simulator did not start: see the end of {log}")
    return str(json.loads(first)["baseUrl"])
