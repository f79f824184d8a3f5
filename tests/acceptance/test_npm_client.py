"""The stream as the web's own library reads it: eventsource-parser, from npm."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from served import Served

READ_IN_SMALL_PIECES = """
import { readFileSync } from 'node:fs'
import { createParser } from 'eventsource-parser'
const seen = [], retries = []
const parser = createParser({
  onEvent: ({ id, event, data }) => seen.push([id, event, data]),
  onRetry: (ms) => retries.push(ms),
  onError: (error) => { throw error },
})
const text = readFileSync(process.argv[2], 'utf8')
for (let at = 0; at < text.length; at += 7) parser.feed(text.slice(at, at + 7))
console.log(JSON.stringify({ seen, retries }))
"""


@pytest.mark.verify
def test_the_npm_package_reads_the_stream_unmodified(shared: Served, tmp_path: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not installed")
    told = [npm, "install", "--silent", "--no-save", "--prefix", str(tmp_path)]
    subprocess.run([*told, "eventsource-parser@3"], check=True, timeout=300, cwd=tmp_path)
    user = shared.user()
    frames = user.run()
    answer = user.get(f"/v1/runs/{frames.run_id}/events")
    stream, script = tmp_path / "stream.txt", tmp_path / "read.mjs"
    stream.write_bytes(answer.content)
    script.write_text(READ_IN_SMALL_PIECES)
    done = subprocess.run(
        ["node", str(script), str(stream)], capture_output=True, check=True, timeout=60
    )
    read = json.loads(done.stdout)
    assert [tuple(frame) for frame in read["seen"]] == frames.texts
    assert read["retries"] == [2000]
