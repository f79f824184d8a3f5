"""Whoever reads the stream reads the same: curl, a library, thirty at once, those who left."""

import json
import subprocess
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from uuid import uuid4

import pytest

from served import RUN, Frames, Json, Person, Serve, Served, Simulator, wait_until

PEOPLE = 30


@pytest.fixture
def user(shared: Served) -> Person:
    """Somebody new."""
    return shared.user()


def curl(served: Served, user: Person, *arguments: str) -> bytes:
    """Return what curl prints, unmodified."""
    command = ["curl", "-sSN", "--noproxy", "*", "-H", f"Authorization: Bearer {user.token}"]
    done = subprocess.run([*command, *arguments], capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, b""), done.stderr
    assert served.url in arguments[-1]
    return done.stdout


def plainly(stream: bytes) -> list[Json]:
    """Read a stream line by line, as a shell script would."""
    frames: list[Json] = []
    for block in stream.decode().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if line[0] != ":")
        if fields:
            frames.append(fields)
    return frames


def test_curl_reads_the_stream_unmodified(shared: Served, user: Person) -> None:
    url = f"{shared.url}/v1/calendars/{uuid4()}/runs"
    told = ("-H", "Content-Type: application/json", "-d", json.dumps(RUN))
    raw = curl(shared, user, "-H", "Accept: text/event-stream", *told, url)
    assert raw.startswith(b"retry: 2000\nid: 1.0\nevent: run\ndata: {")
    assert raw.endswith(b"}\n\n")
    frames = plainly(raw)
    assert [frame["event"] for frame in frames] == ["run", *["entry"] * 8, "done"]
    run_id = json.loads(frames[0]["data"])["runId"]
    events = f"{shared.url}/v1/runs/{run_id}/events"
    assert curl(shared, user, events) == raw
    rest = curl(shared, user, "-H", "Last-Event-ID: 1.7", events)
    assert rest == raw[raw.index(b"id: 1.8\n") :]
    by_library = user.stream("GET", events)
    assert [frame.data for frame in by_library] == [frame["data"] for frame in frames]
    assert [frame.id for frame in by_library] == [frame["id"] for frame in frames]


def test_curl_is_told_by_its_exit_code_when_a_request_is_refused(
    shared: Served, user: Person
) -> None:
    code = curl(shared, user, "-o", "/dev/null", "-w", "%{http_code}", f"{shared.url}/v1/runs/x")
    assert code == b"422"


def test_curl_posts_too_much_and_is_told_so_not_cut_off(shared: Served, user: Person) -> None:
    url = f"{shared.url}/v1/calendars/{uuid4()}/runs"
    body = json.dumps({**RUN, "brief": "a" * 2_000_000})
    for more in ((), ("-H", "Transfer-Encoding: chunked"), ("-H", "Expect:")):
        command = [*("curl", "-sS", "--noproxy", "*"), *more]
        command += ["-H", f"Authorization: Bearer {user.token}"]
        command += ["-H", "Content-Type: application/json", "--data-binary", "@-", url]
        done = subprocess.run(command, input=body.encode(), capture_output=True, check=False)
        assert json.loads(done.stdout)["code"] == "BODY_TOO_LARGE", done.stderr


def test_thirty_people_stream_at_once_and_each_gets_their_own(shared: Served) -> None:
    people = [shared.user() for _ in range(PEOPLE)]
    calendars = [str(uuid4()) for _ in people]

    def one(number: int) -> Frames:
        return people[number].run(calendars[number], brief=f"Number {number}")

    with ThreadPoolExecutor(PEOPLE) as pool:
        streams = list(pool.map(one, range(PEOPLE)))
    for person, calendar_id, frames in zip(people, calendars, streams, strict=True):
        assert frames.ids == [f"1.{place}" for place in range(10)]
        assert frames.of("run")[0]["calendarId"] == calendar_id
        saved = {entry["id"] for entry in person.calendar(calendar_id)["entries"]}
        assert saved == {entry["id"] for entry in frames.entries}
        assert len(saved) == 8
        assert frames.done["status"] == "completed"
    assert len({entry["id"] for frames in streams for entry in frames.entries}) == 8 * PEOPLE


def test_ten_readers_of_one_run_see_the_same(shared: Served, user: Person) -> None:
    answer = user.ask("POST", f"/v1/calendars/{uuid4()}/runs", RUN)
    path = f"/v1/runs/{answer.json()['runId']}/events"
    readers = [shared.user(user.id) for _ in range(10)]
    with ThreadPoolExecutor(10) as pool:
        asks = [pool.submit(reader.stream, "GET", path) for reader in readers]
        streams = [ask.result() for ask in asks]
    assert len(streams[0]) == 10
    assert all(frames.texts == streams[0].texts for frames in streams)


@contextmanager
def paced(simulator: Simulator) -> Generator[None]:
    with simulator.plays("ok", entryGapMs=40):
        yield


@pytest.mark.parametrize("seen", [1, 2, 5, 9])
def test_who_left_resumes_where_they_were_and_the_run_went_on(
    shared: Served, user: Person, simulator: Simulator, seen: int
) -> None:
    calendar_id = str(uuid4())
    with paced(simulator):
        with user.streaming("POST", f"/v1/calendars/{calendar_id}/runs", RUN) as frames:
            before = Frames(next(frames) for _ in range(seen))
        path = f"/v1/runs/{before.run_id}/events"
        after = user.stream("GET", path, Last_Event_ID=before[-1].id)
    assert before.texts + after.texts == user.stream("GET", path).texts
    assert after.done["status"] == "completed"
    shown = [entry["id"] for entry in before.entries + after.entries]
    assert sorted(shown) == sorted(e["id"] for e in user.calendar(calendar_id)["entries"])
    line = shared.log.one("calendar.run.finished", runId=before.run_id)
    assert (line["verdict"], line["reason"]) == ("good", None)
    streams = "calendar.stream.finished"
    wait_until(lambda: len(shared.log.lines(streams, runId=before.run_id)) == 3)
    left, *rest = shared.log.lines(streams, runId=before.run_id)
    if left["status"] == "client_left":
        assert (left["verdict"], left["reason"]) == ("ignored", "client_left")
    assert [line["resumed"] for line in rest] == [True, False]


def test_a_client_that_leaves_at_once_loses_nothing(shared: Served, user: Person) -> None:
    calendar_id = str(uuid4())
    with user.streaming("POST", f"/v1/calendars/{calendar_id}/runs", RUN) as frames:
        run_id = next(frames).json()["runId"]
    line = shared.log.one("calendar.run.finished", runId=run_id)
    assert (line["status"], line["verdict"]) == ("completed", "good")
    assert len(user.calendar(calendar_id)["entries"]) == 8


def test_an_idle_stream_is_kept_open_by_comments(serve: Serve, simulator: Simulator) -> None:
    with serve(HEARTBEAT_S="0.05") as served:
        check_comments(served.user(), simulator)


def check_comments(user: Person, simulator: Simulator) -> None:
    headers = {"Accept": "text/event-stream"}
    path = f"/v1/calendars/{uuid4()}/runs"
    with (
        simulator.plays("first-stall"),
        user.http.stream("POST", path, json=RUN, headers=headers) as answer,
    ):
        chunks = answer.iter_bytes()
        heard = b""
        while heard.count(b": hb\n\n") < 3:
            heard += next(chunks)
        assert heard.startswith(b"retry: 2000\nid: 1.0\n")
        run_id = json.loads(heard.split(b"data: ", 1)[1].split(b"\n", 1)[0])["runId"]
        user.ask("POST", f"/v1/runs/{run_id}/cancel")
        heard += b"".join(chunks)
    assert [frame["event"] for frame in plainly(heard)] == ["run", "done"]
