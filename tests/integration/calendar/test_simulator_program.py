"""The simulator as a program of its own, over HTTP."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

PROMPT = json.dumps(
    {
        "brief": "a secret plan",
        "slots": [{"date": "2026-12-01", "time": "09:00", "channel": "bluesky"}],
    }
)
PROGRAM = [sys.executable, "-m", "cadenza.simulator"]


def ready_line(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    return json.loads(process.stdout.readline())


@contextmanager
def program(*arguments: str) -> Generator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    with subprocess.Popen([*PROGRAM, *arguments], stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process, ready_line(process)
        finally:
            process.kill()


@pytest.fixture(scope="module")
def simulator() -> Generator[httpx.Client]:
    """A running simulator, by HTTP."""
    with program() as (_, ready), httpx.Client(base_url=ready["url"]) as client:
        yield client


def ask(simulator: httpx.Client, model: str, **more: object) -> httpx.Response:
    messages = [{"role": "system", "content": "x"}, {"role": "user", "content": PROMPT}]
    body = {"model": model, "messages": messages, **more}
    return simulator.post("/v1/chat/completions", json=body)


def test_it_says_where_it_listens_and_ends_when_told() -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        with program("--port", "0") as (process, ready):
            assert ready["event"] == "ready"
            assert ready["baseUrl"] == ready["url"] + "/v1"
            assert ready["pid"] == process.pid
            process.send_signal(number)
            assert process.wait(timeout=20) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's help is Linux's")
def test_it_dies_with_its_parent(until: Callable[..., None]) -> None:
    parent = (
        f"import subprocess, sys\nsubprocess.Popen({[*PROGRAM, '--die-with-parent']!r}).wait()\n"
    )
    command = [sys.executable, "-c", parent]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        child = ready_line(process)["pid"]
        process.kill()
    until(lambda: has_ended(child), what="the simulator ended")


def has_ended(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state == "Z"


def test_it_refuses_a_port_that_is_taken() -> None:
    with program() as (_, ready):
        port = ready["url"].rpartition(":")[2]
        again = subprocess.run(
            [*PROGRAM, "--port", port], capture_output=True, text=True, check=False, timeout=60
        )
        assert again.returncode != 0
        assert "in use" in again.stderr


def test_it_lists_its_models(simulator: httpx.Client) -> None:
    listed = simulator.get("/v1/models").json()
    assert {"sim-ok", "sim-429", "sim-comment-stall"} <= {one["id"] for one in listed["data"]}


def test_it_streams_as_the_provider_does(simulator: httpx.Client) -> None:
    answer = ask(simulator, "sim-ok@0", stream=True)
    assert answer.headers["content-type"].startswith("text/event-stream")
    *frames, done = answer.text.strip().split("\n\n")
    chunks = [json.loads(frame.removeprefix("data: ")) for frame in frames]
    assert done == "data: [DONE]"
    assert chunks[-1]["usage"]["total_tokens"] > 0
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"
    said = "".join(c["choices"][0]["delta"].get("content", "") for c in chunks[:-1])
    assert json.loads(said)["channel"] == "bluesky"


def test_it_answers_in_one_piece_when_no_stream_is_asked_for(simulator: httpx.Client) -> None:
    body = ask(simulator, "sim-fenced").json()
    assert body["choices"][0]["message"]["content"].startswith("Sure!")
    assert body["choices"][0]["finish_reason"] == "stop"
    assert ask(simulator, "sim-429").headers["retry-after"] == "1"
    with pytest.raises(httpx.ReadError):
        ask(simulator, "sim-cut")


def test_a_cut_is_a_reset_and_no_orderly_end(simulator: httpx.Client) -> None:
    with pytest.raises(httpx.ReadError) as caught:
        ask(simulator, "sim-cut@0", stream=True)
    cause: BaseException | None = caught.value
    while cause is not None and not isinstance(cause, ConnectionResetError):
        cause = cause.__cause__ or cause.__context__
    assert isinstance(cause, ConnectionResetError)


def test_it_shows_what_it_saw_and_never_the_prompt(simulator: httpx.Client) -> None:
    before = simulator.get("/_sim/ai").json()["requests"]
    ask(simulator, "sim-ok@0", stream=True)
    shown = simulator.get("/_sim/ai")
    assert shown.json()["requests"] == before + 1
    assert shown.json()["last"][-1] == {
        "model": "sim-ok@0",
        "scenario": "ok",
        "ended": "finished",
        "slots": ["2026-12-01 09:00 bluesky"],
    }
    assert "secret" not in shown.text


def test_a_control_call_overrides_the_model_until_it_is_cleared(simulator: httpx.Client) -> None:
    told = simulator.put("/_sim/ai", json={"scenario": "500", "times": None})
    assert told.json()["override"]["scenario"] == "500"
    assert ask(simulator, "sim-ok").status_code == 500
    assert simulator.delete("/_sim/ai").json()["override"] is None
    assert ask(simulator, "sim-ok").status_code == 200


@pytest.mark.parametrize(
    "body", [b"", b"{}", b'{"scenario":"nonsense"}', b'{"scenario":"ok","x":1}']
)
def test_a_control_call_with_a_mistake_changes_nothing(
    simulator: httpx.Client, body: bytes
) -> None:
    assert simulator.put("/_sim/ai", content=body).status_code == 422
    assert simulator.get("/_sim/ai").json()["override"] is None


def test_what_is_no_completion_request_is_refused_as_the_provider_does(
    simulator: httpx.Client,
) -> None:
    assert simulator.post("/v1/chat/completions", content=b"nonsense").status_code == 400
    unknown = ask(simulator, "gpt-nobody")
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "model_not_found")
