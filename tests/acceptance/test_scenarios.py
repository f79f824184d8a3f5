"""Every fault of an AI provider, end to end: classified as the contract has it, nothing lost."""

import socket
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from uuid import uuid4

import pytest

from served import RUN, Frames, Json, Person, Serve, Served, Simulator, serving
from support import NewDatabase

DEADLINES = {"AI_CONNECT_S": "0.5", "AI_FIRST_S": "1.5", "AI_BETWEEN_S": "1", "AI_TOTAL_S": "3"}


@dataclass(frozen=True, slots=True)
class End:
    """How a scenario must end, of the 8 slots asked for."""

    status: str
    reason: str | None
    verdict: str
    entries: int
    rejected: int = 0

    @property
    def needs_review(self) -> bool:
        """Say whether a person has to look before anything is published."""
        return self.verdict == "bad"


TABLE = {
    "ok": End("completed", None, "good", 8),
    "fenced": End("completed", None, "good", 8),
    "one-bad-line": End("completed", None, "good", 7, 1),
    "duplicate-ids": End("completed", None, "good", 8, 1),
    "outside-range": End("completed", None, "good", 7, 1),
    "unknown-channel": End("completed", None, "good", 7, 1),
    "prose": End("failed", "provider_invalid_output", "bad", 0),
    "broken-json": End("failed", "provider_invalid_output", "bad", 4, 4),
    "first-stall": End("timeout", "timeout_first", "bad", 0),
    "mid-stall": End("timeout", "timeout_between", "bad", 3),
    "comment-stall": End("timeout", "timeout_between", "bad", 3),
    "slow": End("timeout", "timeout_total", "bad", 3),
    "cut": End("failed", "provider_connection_lost", "bad", 3),
    "error-frame": End("failed", "provider_stream_error", "bad", 3),
    "eof": End("failed", "provider_truncated", "bad", 3),
    "429": End("failed", "provider_rate_limited", "bad", 0),
    "500": End("failed", "provider_http_error", "bad", 0),
    "content-filter": End("failed", "provider_content_filter", "bad", 3),
    "length": End("partial", "max_tokens", "bad", 3),
}


@pytest.fixture(scope="module")
def impatient(
    new_database: NewDatabase, simulator: Simulator, tmp_path_factory: pytest.TempPathFactory
) -> Generator[Served]:
    """An instance with short deadlines."""
    home = tmp_path_factory.mktemp("impatient")
    with new_database() as database, serving(database, home, simulator, **DEADLINES) as served:
        yield served


@pytest.mark.parametrize("scenario", TABLE)
def test_a_run_ends_as_the_contract_says_and_keeps_what_it_had(
    impatient: Served, simulator: Simulator, scenario: str
) -> None:
    user, calendar_id = impatient.user(), str(uuid4())
    with simulator.plays(scenario):
        frames = user.run(calendar_id)
    check_end(impatient, user, calendar_id, frames, TABLE[scenario])


@pytest.mark.parametrize(("said", "verdict"), [(6, "bad"), (7, "good")])
def test_a_run_cut_at_the_token_limit_is_good_from_four_fifths(
    impatient: Served, simulator: Simulator, said: int, verdict: str
) -> None:
    user, calendar_id = impatient.user(), str(uuid4())
    with simulator.plays("length", stallAfter=said):
        frames = user.run(calendar_id)
    end = End("partial", "max_tokens", verdict, said)
    check_end(impatient, user, calendar_id, frames, end)


def test_a_dead_port_is_a_provider_that_cannot_be_reached(serve: Serve) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and never listens
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        with serve(AI_BASE_URL=url, **DEADLINES) as served:
            user, calendar_id = served.user(), str(uuid4())
            frames = user.run(calendar_id)
            end = End("failed", "provider_unreachable", "bad", 0)
            check_end(served, user, calendar_id, frames, end)


def test_a_provider_that_takes_no_connection_is_a_timeout(serve: Serve) -> None:
    with black_hole() as url, serve(AI_BASE_URL=url, **DEADLINES) as served:
        user, calendar_id = served.user(), str(uuid4())
        frames = user.run(calendar_id)
        end = End("timeout", "timeout_connect", "bad", 0)
        check_end(served, user, calendar_id, frames, end)


@pytest.mark.parametrize("review", ["patch", "save", "save unchanged"])
def test_a_timeouts_entries_are_published_only_after_a_person_wrote(
    impatient: Served, simulator: Simulator, review: str
) -> None:
    user, calendar_id = impatient.user(), str(uuid4())
    path = f"/v1/calendars/{calendar_id}"
    with simulator.plays("mid-stall"):
        user.run(calendar_id, channels=["bluesky"])
    calendar = user.calendar(calendar_id)
    assert {entry["needsReview"] for entry in calendar["entries"]} == {True}
    answer = publish(user, path)
    assert answer["status"] == 422
    assert {result["code"] for result in answer["results"]} == {"RUN_NOT_REVIEWED"}
    assert all("Edit the entry or save" in result["detail"] for result in answer["results"])
    first = calendar["entries"][0]
    if review == "patch":
        user.ask("PATCH", f"{path}/entries/{first['id']}", {"title": "Seen"}, If_Match="1")
    else:
        if review == "save":
            first["title"] = "Seen"
        user.ask("PUT", f"{path}/entries", calendar, If_Match=str(calendar["revision"]))
    answer = publish(user, path)
    assert answer["status"] == 200
    accepted = [r["entryId"] for r in answer["results"] if r["state"] == "dry_run"]
    assert first["id"] in accepted
    assert len(accepted) == (1 if review == "patch" else 3)


def test_a_rejected_line_says_why_and_nothing_of_what_the_model_said(
    impatient: Served, simulator: Simulator
) -> None:
    for scenario, why in (
        ("one-bad-line", "not_json"),
        ("duplicate-ids", "duplicate"),
        ("outside-range", "out_of_range"),
        ("unknown-channel", "unknown_channel"),
    ):
        with simulator.plays(scenario):
            frames = impatient.user().run()
        line = impatient.log.one("calendar.entry.rejected", runId=frames.run_id)
        assert line["message"] == why


def check_end(served: Served, user: Person, calendar_id: str, frames: Frames, end: End) -> None:
    """Hold frame, run, row and line to one and the same end, and the entries to be there."""
    told = {"status": end.status, "reason": end.reason, "entries": end.entries}
    told |= {"rejected": end.rejected, "needsReview": end.needs_review}
    assert {key: frames.done[key] for key in told} == told
    run = user.get(f"/v1/runs/{frames.run_id}").json()
    assert {key: run[key] for key in told} == told
    assert run["revision"] == frames.done["revision"] == 1
    line = served.log.one("calendar.run.finished", runId=frames.run_id)
    assert (line["status"], line["reason"], line["verdict"]) == (
        *(end.status, end.reason, end.verdict),
    )
    assert (line["entries"], line["rejected"]) == (end.entries, end.rejected)
    (row,) = served.rows(
        "SELECT * FROM cadenza.outcome WHERE run_id = %s AND signal = 'calendar.run.finished'",
        frames.run_id,
    )
    assert (row["reason"], row["verdict"], row["lane"]) == (end.reason, end.verdict, "live")
    assert (row["variant"], row["channel"]) == ("ai", "bluesky,instagram")
    assert row["request_id"] == line["requestId"] == run["requestId"]
    check_entries(user, calendar_id, frames.entries, end)


def check_entries(user: Person, calendar_id: str, shown: list[Json], end: End) -> None:
    """Hold what was shown to be all there is, as it was shown, in the calendar and its export."""
    saved = user.calendar(calendar_id)["entries"]
    assert len(shown) == len(saved) == end.entries
    kept = {entry["id"]: entry for entry in saved}
    for entry in shown:
        assert entry == {key: kept[entry["id"]][key] for key in entry}
        assert kept[entry["id"]]["needsReview"] is end.needs_review
        assert entry["channel"] in RUN["channels"]
        assert RUN["start"] <= entry["date"] <= RUN["end"]
    assert user.export(calendar_id).count(b'"title"') == end.entries
    assert user.export(calendar_id, "csv").count(b"\r\n") == end.entries + 1


def publish(user: Person, path: str) -> Json:
    answer = user.ask("POST", f"{path}/publish", {}, Idempotency_Key=str(uuid4()))
    return {"status": answer.status_code, **answer.json()}


@contextmanager
def black_hole() -> Generator[str]:
    """Give the address of a listener whose queue is full: nobody more is let in."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
