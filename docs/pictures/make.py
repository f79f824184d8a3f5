"""The pictures of the README: what a terminal shows, from a real run of this checkout.

`.venv/bin/python docs/pictures/make.py`, on any Linux. It starts an instance with a home of its own, types the
commands, and draws what came back. Two things are changed: the folder of that home is written
`~/cadenza`, and a line longer than the window ends in an ellipsis.
"""

import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
BIN = ROOT / ".venv" / "bin"
WIDTH = 108
START_S, ANSWER_S = 120.0, 60.0
FONT = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"
PLAIN_SVG = re.sub(r"@font-face \{\{.*?\}\}", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL).replace(
    "Fira Code, monospace", FONT
)


class Terminal:
    """A command in a terminal of its own, and everything it has printed."""

    def __init__(self, command: str, environment: dict[str, str]) -> None:
        self.command, self.printed = command, ""
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            os.execvpe("/bin/sh", ["sh", "-c", f"stty cols {WIDTH} && exec {command}"], environment)

    def read_until(self, seen: Callable[[str], object], within_s: float) -> None:
        """Read on until `seen` is true of what was printed, or the command has ended."""
        limit = time.monotonic() + within_s
        while not seen(self.printed):
            if time.monotonic() > limit:
                sys.exit(f"{self.command}: not within {within_s} s\n{self.printed}")
            if not select.select([self._fd], [], [], 0.2)[0]:
                continue
            try:
                self.printed += os.read(self._fd, 65536).decode()
            except OSError:  # the command has ended
                return

    def press_ctrl_c(self) -> None:
        os.write(self._fd, b"\x03")


def screen(printed: str) -> list[str]:
    """What stands on the screen in the end: lines that were written over are gone."""
    lines: list[str] = []
    for line in printed.replace("\r\n", "\n").split("\n"):
        if "\x1b[1A" in line and lines:
            lines.pop()
        shown = re.split(r"\x1b\[2K|\r", line)[-1]
        lines.append(re.sub(r"\x1b\[\?25[hl]", "", shown))
    while lines and not lines[-1]:
        lines.pop()
    return lines


def draw(name: str, title: str, lines: list[str]) -> None:
    console = Console(record=True, width=WIDTH, file=open(os.devnull, "w"), force_terminal=True)
    for line in lines:
        text = Text.from_ansi(line)
        text.truncate(WIDTH, overflow="ellipsis")
        console.print(text, no_wrap=True, crop=True, highlight=False)
    svg = console.export_svg(title=title, code_format=PLAIN_SVG, unique_id=name)
    (HERE / f"{name}.svg").write_text("\n".join(l.rstrip() for l in svg.splitlines()) + "\n")


def typed(command: str) -> str:
    return f"\x1b[1;32m$\x1b[0m \x1b[1m{command}\x1b[0m"


def shortened(stream: str, shown: int) -> list[str]:
    """A stream with its first entries and its end, wrapped; what is left out is counted."""
    frames = [frame for frame in stream.strip().split("\n\n") if frame]
    entries = [frame for frame in frames if "event: entry" in frame]
    kept = [frames[0], *entries[:shown]]
    left_out = f"\x1b[2m  (and {len(entries) - shown} more entries)\x1b[0m"
    lines = "\n\n".join([*kept, left_out, frames[-1]]).split("\n")
    return [line[at : at + WIDTH] for line in lines for at in range(0, max(1, len(line)), WIDTH)]


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="cadenza-pictures-", dir="/var/tmp"))
    folder.chmod(0o755)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = {
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "HOME": str(Path.home()),
        "TERM": "xterm-256color",
        "LANG": "C.UTF-8",
        "CADENZA_HOME": str(folder / ".cadenza"),
        "CADENZA_PORT": str(port),
    }

    def tidy(lines: list[str]) -> list[str]:
        return [
            line.replace(str(folder), "~/cadenza").replace(f":{port}", ":8080") for line in lines
        ]

    def shell(command: str) -> str:
        done = subprocess.run(
            ["/bin/bash", "-c", command], env=environment, cwd=ROOT, capture_output=True, text=True
        )
        return done.stdout + (done.stderr if done.returncode else "")

    up = Terminal(f"make --no-print-directory -C {str(ROOT)!r} up", environment)
    up.read_until(lambda text: re.search(r"Idempotency-Key.*\n.*\n", text), START_S)
    begun = screen(up.printed)
    try:
        lines = [re.sub(r"\x1b\[\d*m", "", line) for line in begun]
        stream = next(line for line in lines if line.startswith("curl -N"))
        first = shell(stream)
        off = "cadenza flags set calendar off --reason 'AI is slow today'"
        flipped = shell(off).strip()
        again = re.sub(r"calendars/[0-9a-f-]+", f"calendars/{os.urandom(16).hex()}", stream)
        second = shell(again)
        shell("cadenza flags set calendar on --reason 'AI is well again'")
        smoke = Terminal(f"make --no-print-directory -C {str(ROOT)!r} smoke", environment)
        smoke.read_until(lambda text: re.search(r"\d+ passed.*\n", text), ANSWER_S)
    finally:
        up.press_ctrl_c()
        up.read_until(lambda text: "Stopped" in text, ANSWER_S)
        os.waitpid(up.pid, 0)
    json.loads(first.strip().split("data: ")[-1])  # the terminal frame came, and is JSON
    draw("up", "make up", tidy([typed("make up"), *begun]))
    told = [typed(stream), *shortened(first, 1), "", typed(off), flipped, ""]
    draw("stream", "a calendar, streamed", tidy([*told, typed(again), *shortened(second, 1)]))
    draw("smoke", "make smoke", [typed("make smoke"), *screen(smoke.printed)])
    subprocess.run(["rm", "-rf", str(folder)], check=True)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    main()
