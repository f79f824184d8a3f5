"""A run's life over HTTP: started once, streamed whole, resumed anywhere, cancelled."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID, uuid4

import pytest

from served import ENTRY, RUN, Person, Served, Simulator, check_refused, wait_until


@pytest.fixture
def user(shared: Served) -> Person:
    """Somebody new."""
    return shared.user()


@pytest.fixture
def stalled(simulator: Simulator) -> Iterator[None]:
    """A model that says three entries and then nothing for a long while."""
    with simulator.plays("mid-stall"):
        yield


def events_of(run_id: str) -> str:
    return f"/v1/runs/{run_id}/events"


def start(user: Person, calendar_id: str | None = None, **headers: str) -> str:
    path = f"/v1/calendars/{calendar_id or uuid4()}/runs"
    answer = user.ask("POST", path, RUN, **headers)
    assert answer.status_code == 202, answer.text
    return answer.json()["runId"]


def test_the_stream_is_the_run_from_its_first_frame_to_its_end(
    shared: Served, user: Person
) -> None:
    calendar_id = str(uuid4())
    frames = user.run(calendar_id)
    assert frames.ids == [f"1.{place}" for place in range(10)]
    assert frames[0].retry == 2000
    first = frames.of("run")[0]
    assert first["calendarId"] == calendar_id
    assert first["variant"] == "ai"
    line = shared.log.one("http.request.finished", requestId=first["requestId"])
    assert line["runId"] == first["runId"]
    assert line["channel"] == "bluesky,instagram"
    assert line["flags"] == {"calendar": f"ai@{first['flagVersion']}"}
    assert [data["index"] for data in frames.of("entry")] == list(range(1, 9))
    assert frames.done == {
        "status": "completed",
        "reason": None,
        "entries": 8,
        "rejected": 0,
        "usage": frames.done["usage"],
        "usageEstimated": False,
        "revision": 1,
        "needsReview": False,
        "diff": None,
    }
    saved = user.calendar(calendar_id)
    assert saved["revision"] == 1
    assert {entry["id"] for entry in saved["entries"]} == {e["id"] for e in frames.entries}
    stream = shared.log.one("calendar.stream.finished", runId=first["runId"])
    assert (stream["status"], stream["frames"], stream["resumed"]) == ("terminal", 10, False)


def test_the_streams_headers_keep_proxies_from_holding_it_back(user: Person) -> None:
    path = f"/v1/calendars/{uuid4()}/runs"
    headers = {"Accept": "text/event-stream"}
    with user.http.stream("POST", path, json=RUN, headers=headers) as answer:
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert answer.headers["cache-control"] == "no-store, no-transform"
        assert answer.headers["x-accel-buffering"] == "no"
        assert "content-length" not in answer.headers
        answer.read()


def test_without_asking_for_a_stream_it_is_202_and_where_to_look(
    shared: Served, user: Person
) -> None:
    answer = user.ask("POST", f"/v1/calendars/{uuid4()}/runs", RUN)
    assert answer.status_code == 202
    run_id = answer.json()["runId"]
    assert answer.headers["location"] == f"/v1/runs/{run_id}"
    assert shared.line_of(answer)["status"] == "ok"
    frames = user.stream("GET", events_of(run_id))
    assert frames.done["status"] == "completed"
    shown = user.get(f"/v1/runs/{run_id}").json()
    assert shown["status"] == "completed"
    assert shown["requestId"] == answer.headers["x-request-id"]
    assert shown["request"]["channels"] == ["bluesky", "instagram"]


def test_every_place_resumes_with_exactly_the_rest(user: Person) -> None:
    whole = user.run()
    path = events_of(whole.run_id)
    assert user.stream("GET", path).texts == whole.texts
    for place in range(len(whole) - 1):
        rest = user.stream("GET", path, Last_Event_ID=f"1.{place}")
        assert rest.texts == whole.texts[place + 1 :]
    assert user.stream("GET", f"{path}?lastEventId=1.8").ids == ["1.9"]


def test_after_the_terminal_id_there_is_nothing_more(shared: Served, user: Person) -> None:
    whole = user.run()
    answer = user.ask("GET", events_of(whole.run_id), Last_Event_ID=whole.ids[-1])
    assert (answer.status_code, answer.content) == (204, b"")
    assert shared.line_of(answer)["httpStatus"] == 204


@pytest.mark.parametrize(
    "unknown", ["x", "1.10", "1.99999999", "2.1", "0.0", "1.", ".1", "-1.2", "1.1.1", "9" * 400]
)
def test_an_id_this_run_never_had_resets_and_replays(user: Person, unknown: str) -> None:
    whole = user.run(end="2027-03-01", channels=["bluesky", "tiktok", "instagram"])
    again = user.stream("GET", events_of(whole.run_id), Last_Event_ID=unknown)
    if unknown == "1.10":  # of a run of five frames
        assert len(whole) == 5
    assert again[0].event == "reset"
    assert again[0].json() == {"reason": "unknown_event_id"}
    assert again[0].id == ""
    assert again.texts[1:] == whole.texts


def test_a_head_request_has_the_headers_and_no_body(shared: Served, user: Person) -> None:
    whole = user.run()
    answer = user.ask("HEAD", events_of(whole.run_id))
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert shared.line_of(answer)["method"] == "HEAD"
    answer = user.ask("HEAD", events_of(whole.run_id), Last_Event_ID=whole.ids[-1])
    assert answer.status_code == 204


def test_frames_that_are_kept_no_longer_are_gone_and_the_entries_stay(
    shared: Served, user: Person
) -> None:
    calendar_id = str(uuid4())
    key = str(uuid4())
    path = f"/v1/calendars/{calendar_id}/runs"
    whole = user.stream("POST", path, RUN, Idempotency_Key=key)
    shared.execute("DELETE FROM cadenza.run_event WHERE run_id = %s", whole.run_id)
    for answer in (
        user.get(events_of(whole.run_id)),
        user.ask("GET", events_of(whole.run_id), Last_Event_ID="1.3"),
        user.ask("POST", path, RUN, Idempotency_Key=key),
        user.ask("POST", path, RUN, Idempotency_Key=key, Accept="text/event-stream"),
    ):
        document = check_refused(shared, answer, 410, "GONE")
        assert document["run"] == f"/v1/runs/{whole.run_id}"
    assert user.get(document["run"]).json()["status"] == "completed"
    assert len(user.calendar(calendar_id)["entries"]) == 8


def test_one_key_is_one_run_and_another_body_is_refused(shared: Served, user: Person) -> None:
    calendar_id, key = str(uuid4()), str(uuid4())
    path = f"/v1/calendars/{calendar_id}/runs"
    whole = user.stream("POST", path, RUN, Idempotency_Key=key)
    kept = shared.kept_of(user.id)
    assert user.stream("POST", path, RUN, Idempotency_Key=key).texts == whole.texts
    assert start(user, calendar_id, Idempotency_Key=key) == whole.run_id
    for asked, body in ((path, {**RUN, "brief": "Else"}), (f"/v1/calendars/{uuid4()}/runs", RUN)):
        answer = user.ask("POST", asked, body, Idempotency_Key=key)
        document = check_refused(shared, answer, 422, "IDEMPOTENCY_KEY_REUSED", "/Idempotency-Key")
        assert "new key" in document["errors"][0]["fix"]
    assert shared.kept_of(user.id) == kept


@pytest.mark.usefixtures("stalled")
def test_a_second_run_is_refused_with_the_first_ones_id(shared: Served, user: Person) -> None:
    calendar_id = str(uuid4())
    run_id = start(user, calendar_id)
    for target in (calendar_id, str(uuid4())):
        answer = user.ask("POST", f"/v1/calendars/{target}/runs", RUN)
        document = check_refused(shared, answer, 409, "RUN_IN_PROGRESS")
        assert document["runId"] == run_id
    assert [item["id"] for item in user.get("/v1/calendars").json()["items"]] == [calendar_id]
    assert user.ask("POST", f"/v1/runs/{run_id}/cancel").status_code == 202
    assert user.stream("GET", events_of(run_id)).done["status"] == "cancelled"


@pytest.mark.usefixtures("stalled")
def test_a_cancelled_run_keeps_what_it_made(shared: Served, user: Person) -> None:
    calendar_id = str(uuid4())
    with user.streaming("POST", f"/v1/calendars/{calendar_id}/runs", RUN) as frames:
        shown = [next(frames) for _ in range(4)]
        run_id = shown[0].json()["runId"]
        answer = user.ask("POST", f"/v1/runs/{run_id}/cancel")
        assert answer.status_code == 202
        last = list(frames)
    assert [frame.event for frame in last] == ["done"]
    done = last[0].json()
    assert (done["status"], done["reason"], done["entries"]) == ("cancelled", "by_user", 3)
    assert done["needsReview"]
    assert len(user.calendar(calendar_id)["entries"]) == 3
    line = shared.log.one("calendar.run.finished", runId=run_id)
    assert (line["verdict"], line["status"]) == ("ignored", "cancelled")
    again = user.ask("POST", f"/v1/runs/{run_id}/cancel")
    assert (again.status_code, again.json()["status"]) == (200, "cancelled")


@pytest.mark.usefixtures("stalled")
def test_during_a_run_entries_are_patched_one_by_one_and_not_saved_whole(
    shared: Served, user: Person
) -> None:
    calendar_id = str(uuid4())
    path = f"/v1/calendars/{calendar_id}"
    with user.streaming("POST", f"{path}/runs", RUN) as frames:
        run_id, entry = next(frames).json()["runId"], next(frames).json()["entry"]
        answer = user.ask("PATCH", f"{path}/entries/{entry['id']}", {"title": "Mine"}, If_Match="1")
        assert answer.status_code == 200, answer.text
        revision = str(answer.json()["revision"])
        answer = user.ask("PUT", f"{path}/entries", {"entries": []}, If_Match=revision)
        document = check_refused(shared, answer, 409, "RUN_IN_PROGRESS")
        assert document["runId"] == run_id
        user.ask("POST", f"/v1/runs/{run_id}/cancel")
        assert next(frame for frame in frames if frame.event == "done")
    titles = {e["id"]: e["title"] for e in user.calendar(calendar_id)["entries"]}
    assert titles[entry["id"]] == "Mine"


def test_a_calendar_with_entries_takes_no_run(shared: Served, user: Person) -> None:
    calendar = user.saved(ENTRY)
    kept = shared.kept_of(user.id)
    answer = user.ask("POST", f"/v1/calendars/{calendar['id']}/runs", RUN)
    check_refused(shared, answer, 409, "CALENDAR_NOT_EMPTY")
    assert shared.kept_of(user.id) == kept


def test_the_eleventh_run_in_five_minutes_waits(shared: Served, user: Person) -> None:
    short = {"end": "2027-03-01", "channels": ["bluesky"]}
    key = str(uuid4())
    for _ in range(9):
        user.run(**short)
    path, body = f"/v1/calendars/{uuid4()}/runs", {**RUN, **short}
    user.stream("POST", path, body, Idempotency_Key=key)
    kept = shared.kept_of(user.id)
    answer = user.ask("POST", f"/v1/calendars/{uuid4()}/runs", body)
    document = check_refused(shared, answer, 429, "RATE_LIMITED")
    assert document["retryable"] is True
    assert 0 < int(answer.headers["retry-after"]) <= 300
    assert shared.kept_of(user.id) == kept
    assert user.stream("POST", path, body, Idempotency_Key=key).done["entries"] == 1


def test_of_ten_starts_at_once_one_runs(user: Person, simulator: Simulator) -> None:
    with simulator.plays("mid-stall"), ThreadPoolExecutor(10) as pool:
        asks = [
            pool.submit(user.ask, "POST", f"/v1/calendars/{uuid4()}/runs", RUN) for _ in range(10)
        ]
        answers = [ask.result() for ask in asks]
        started = [answer.json()["runId"] for answer in answers if answer.status_code == 202]
        assert len(started) == 1
        refused = [answer.json() for answer in answers if answer.status_code != 202]
        assert {(d["code"], d["runId"]) for d in refused} == {("RUN_IN_PROGRESS", started[0])}
        user.ask("POST", f"/v1/runs/{started[0]}/cancel")
        wait_until(
            lambda: user.get(f"/v1/runs/{started[0]}").json()["status"] == "cancelled",
            what="the run's end",
        )
    assert len(user.get("/v1/calendars").json()["items"]) == 1


@pytest.mark.parametrize("method", ["POST", "GET"])
def test_only_leaving_the_post_late_and_empty_handed_counts_against_a_run(
    shared: Served, user: Person, simulator: Simulator, method: str
) -> None:
    path = f"/v1/calendars/{uuid4()}/runs"
    with simulator.plays("first-stall"):
        if method == "POST":
            with user.streaming("POST", path, RUN) as frames:
                run_id = next(frames).json()["runId"]
                begin_earlier(shared, run_id)
        else:
            run_id = start(user)
            with user.streaming("GET", events_of(run_id)) as frames:
                assert next(frames).event == "run"
                begin_earlier(shared, run_id)
        left = shared.log.one("calendar.stream.finished", runId=run_id)
        assert (left["status"], left["verdict"]) == ("client_left", "ignored")
        user.ask("POST", f"/v1/runs/{run_id}/cancel")
        line = shared.log.one("calendar.run.finished", runId=run_id)
    bad = ("cancelled", "abandoned_slow", "bad")
    ignored = ("cancelled", "by_user", "ignored")
    assert (line["status"], line["reason"], line["verdict"]) == (
        bad if method == "POST" else ignored
    )


def begin_earlier(served: Served, run_id: str) -> None:
    """Make a run look as if it had begun long enough ago to be given up, without waiting."""
    producers: Any = served.runtime.producers
    producers._live[UUID(run_id)].started_s -= 9
