"""The README tells the truth: its lines work when they are pasted, in the order they stand."""

import os
import re
import subprocess
import sys
from pathlib import Path

from product import product

README = Path(__file__).parents[2] / "README.md"
# As a reader's shell, but for this: it stops at a line that fails, and curl fails on a refusal.
STRICT = 'set -eu\ncurl() { command curl --fail-with-body --silent --show-error "$@"; }\n'


def pasted(url: str) -> str:
    """Every block that is meant for pasting, for the instance at `url`."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)
    assert blocks
    return "".join(blocks).replace("http://127.0.0.1:8080", url).replace("make ", "cadenza ")


def test_every_line_of_the_readme_works_when_it_is_pasted(tmp_path: Path) -> None:
    home = tmp_path / ".cadenza"
    with product(home, LOG_FILE=str(home / "cadenza.log")) as instance:
        environment = {
            "PATH": f"{Path(sys.executable).parent}:{os.defpath}",
            "CADENZA_HOME": str(home),
            "LANG": "C.UTF-8",
        }
        done = subprocess.run(
            ["bash", "-c", STRICT + pasted(instance.url)],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert re.findall(r'"variant":"(\w+)"', done.stdout) == ["ai", "template"]
    assert done.stdout.count("event: done") == 2
    assert done.stdout.count("In my own words") == 3  # the edit, and the exports before and after
    assert '"state":"dry_run"' in done.stdout
    assert "SCHEMA_BEHIND" in done.stderr
    assert "0 failed" in done.stderr
    assert "0 violations" in done.stderr
