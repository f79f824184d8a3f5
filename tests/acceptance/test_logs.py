"""What is told of a session: every unit once, all of the contract, and nobody's words or keys."""

import json
import logging
import socket
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import pytest

from cadenza.telemetry.verify import verify_lines
from served import ENTRY, RUN, Json, Person, Serve, Served, Simulator

# Shaped like the real thing each, and marked so that they can be looked for.
MARK = "hunter2PLANTED"
SECRETS = {
    "caption": f"EAAG{MARK}caption000000",
    "title": f"sk-live-{MARK}-title-0000",
    "script": f"ghp_{MARK}script0000000000",
    "audience": f"password={MARK}audience",
    "hashtag": f"{MARK}hashtag",
    "media": f"https://me:{MARK}media@cdn.test/oven.jpg?token={MARK}media",
    "brief": f"xoxb-{MARK}-brief-000000",
    "constraint": f"IGQV{MARK}constraint00000",
    "idempotency key": f"sk-idem-{MARK}-key-000",
    "run key": f"sk-run-{MARK}-key-0000",
    "bearer": f"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ{MARK}.c2lnbmF0dXJl{MARK}",
    "api key header": f"AKIA{MARK}HEADER",
    "cookie": f"session={MARK}cookie",
    "user agent": f"curl/{MARK}agent",
    "referer": f"https://evil.test/?key={MARK}referer",
    "query": f"{MARK}query",
    "path": f"{MARK}path",
    "drill": f"{MARK}drill",
    "event id": f"{MARK}event",
    "request id": f"ghp_{MARK}requestid0000",
    "wrong value": f"{MARK}wrong",
    "reason": f"rotated sb_secret_{MARK}reason00",
    "ai key": f"sk-ai-{MARK}-key-00000000",
}


def test_a_whole_session_keeps_the_contract_and_tells_each_unit_once(
    serve: Serve, simulator: Simulator
) -> None:
    with serve(AI_BETWEEN_S="0.5") as served:
        user, ana = served.user(), served.operator()
        runs = [user.run().run_id]
        with simulator.plays("mid-stall"):
            runs.append(user.run().run_id)
        with simulator.plays("one-bad-line"):
            runs.append(user.run().run_id)
        body = {"on": False, "reason": "a session"}
        assert ana.ask("PUT", "/ops/flags/calendar", body).status_code == 200
        runs.append(user.run().run_id)
        calendar = user.saved(ENTRY)
        answer = publish(user, calendar)
        intent_id = answer.json()["results"][0]["intentId"]
        user.get("/v1/nothing")
        user.get("/v1/calendars/x")
    report = verify_lines(served.log.path.read_bytes().splitlines(), requests=True)
    assert (report.broken, report.secrets_found) == (0, 0), report.violations
    assert report.events["http.request.finished"] == len(served.answered)
    ended = Counter(line["runId"] for line in served.log.lines("calendar.run.finished"))
    assert ended == Counter(runs)
    streams = Counter(line["runId"] for line in served.log.lines("calendar.stream.finished"))
    assert streams == Counter(runs)
    (line,) = served.log.lines("publish.intent.finished")
    assert line["intentId"] == intent_id
    rows = served.rows("SELECT signal, count(*) AS n FROM cadenza.outcome GROUP BY signal")
    assert {row["signal"]: row["n"] for row in rows} == {
        "calendar.run.finished": 4,
        "calendar.stream.finished": 4,
    }
    assert {line["replica"] for line in served.log.lines()} == {served.runtime.replica}


def publish(user: Person, calendar: Json, key: str = "one") -> httpx.Response:
    path = f"/v1/calendars/{calendar['id']}/publish"
    return user.ask("POST", path, {}, Idempotency_Key=key)


def test_nothing_secret_and_nobodys_words_are_told_anywhere(
    serve: Serve, simulator: Simulator, capfd: pytest.CaptureFixture[str]
) -> None:
    assert len(SECRETS) >= 20
    with serve(AI_API_KEY=SECRETS["ai key"], LOG_LEVEL="debug") as served:
        user = served.user()
        refusals = [*plant_in_writes(user), *plant_in_requests(served, user)]
        with simulator.plays("error-frame"):
            user.run()
        metrics = user.get("/metrics").text
        openapi = user.get("/openapi.json").text
        tokens = [user.token, *served.operator_tokens.values()]
        for answer in refusals:
            assert answer.status_code >= 400, answer.text
    told = {
        "log": served.log.path.read_text(),
        "metrics": metrics,
        "openapi": openapi,
        "refusals": "\n".join(answer.text for answer in refusals),
        "output": "".join(capfd.readouterr()),
    }
    for place, text in told.items():
        for name, secret in SECRETS.items():
            assert secret not in text, f"{name} in {place}"
        assert MARK not in text, place
        for token in tokens:
            assert token not in text, place
            assert token.rpartition(".")[2] not in text, place
    assert "A bakery" not in told["log"]
    assert told["output"] == ""


def plant_in_writes(user: Person) -> list[httpx.Response]:
    """Write the secrets where people's words go; return the refusals."""
    entry = {
        **ENTRY,
        "title": SECRETS["title"],
        "copy": SECRETS["caption"],
        "script": SECRETS["script"],
        "targetAudience": SECRETS["audience"],
        "hashtags": [SECRETS["hashtag"]],
        "media": [SECRETS["media"]],
    }
    calendar = user.saved(entry, {**entry, "channel": "instagram", "date": "2027-03-02"})
    path = f"/v1/calendars/{calendar['id']}"
    first = f"{path}/entries/{calendar['entries'][0]['id']}"
    publish(user, calendar, SECRETS["idempotency key"])
    frames = user.stream(
        *("POST", f"/v1/calendars/{uuid4()}/runs"),
        {**RUN, "brief": SECRETS["brief"], "constraints": {"tone": SECRETS["constraint"]}},
        Idempotency_Key=SECRETS["run key"],
    )
    user.stream("GET", f"/v1/runs/{frames.run_id}/events", Last_Event_ID=SECRETS["event id"])
    return [
        user.ask("POST", f"{path}/publish", {"dryRun": True},
                 Idempotency_Key=SECRETS["idempotency key"]),
        user.ask("PATCH", first, {"time": SECRETS["wrong value"]}, If_Match="1"),
        user.ask("PATCH", first, {"title": ["x", SECRETS["wrong value"]]}, If_Match="1"),
        user.ask("POST", f"{path}/runs", {**RUN, "cadence": SECRETS["wrong value"]}),
        user.ask("POST", f"{path}/runs", {**RUN, "timezone": SECRETS["wrong value"]}),
        user.ask("POST", f"{path}/runs", {**RUN, "brief": SECRETS["brief"] * 300}),
        user.ask("POST", f"{path}/runs", RUN, X_Cadenza_Drill=SECRETS["drill"]),
        user.http.post(f"{path}/runs", content=f'{{"brief": "{SECRETS["brief"]}"'),
    ]  # fmt: skip


def plant_in_requests(served: Served, user: Person) -> list[httpx.Response]:
    """Send the secrets where machines put them; return the refusals."""
    stranger, ana = served.person(SECRETS["bearer"]), served.operator()
    ana.ask("POST", "/ops/flags/calendar/kill", {"reason": SECRETS["reason"]})
    ana.ask("PUT", "/ops/flags/calendar", {"on": True, "reason": SECRETS["reason"]})
    headers = {
        "X-Api-Key": SECRETS["api key header"],
        "Cookie": SECRETS["cookie"],
        "User-Agent": SECRETS["user agent"],
        "Referer": SECRETS["referer"],
        "X-Request-ID": SECRETS["request id"],
    }
    user.http.get("/v1/calendars", headers=headers)
    return [
        stranger.get("/v1/calendars"),
        stranger.get("/ops/flags"),
        user.http.get("/v1/runs/x", headers=headers),
        user.get(f"/v1/calendars?cursor={SECRETS['query']}&access_token={SECRETS['query']}"),
        user.get(f"/v1/intents?state={SECRETS['query']}"),
        user.get(f"/v1/calendars/{SECRETS['path']}"),
        user.get(f"/{SECRETS['path']}/{SECRETS['path']}"),
        ana.ask("POST", f"/ops/flags/{SECRETS['path']}/kill", {"reason": "because"}),
        ana.ask("PUT", "/ops/flags/calendar", {"on": SECRETS["wrong value"], "reason": "because"}),
    ]


def test_user_ids_can_be_hashed_and_stay_joinable(serve: Serve) -> None:
    with serve(LOG_USER_ID="hmac") as served:
        alice, bob = served.user(), served.user()
        answers = [person.get("/v1/calendars") for person in (alice, alice, bob)]
        ids = [served.line_of(answer)["userId"] for answer in answers]
        alice.run(end="2027-03-01")
        assert ids[0] == ids[1] != ids[2]
    text = served.log.path.read_text()
    assert alice.id not in text
    assert bob.id not in text


def test_libraries_log_in_the_same_contract(serve: Serve) -> None:
    # A simulator run inside this very process, by another test, has told uvicorn to be quiet.
    logging.getLogger("uvicorn.error").setLevel(logging.NOTSET)
    with serve() as served:
        address = urlsplit(served.url)
        with socket.create_connection((address.hostname, address.port)) as raw:
            raw.sendall(f"GET /{MARK} HTTP/1.1\r\nno header\r\n\r\n".encode())
            assert raw.recv(100).startswith(b"HTTP/1.1 400")
        line = served.log.one("process.message.logged")
        assert line["message"].startswith("uvicorn.error: Invalid HTTP request")
        assert line["requestId"] is None
    told = [line["event"] for line in served.log.lines()]
    assert "process.instance.started" in told
    assert "process.instance.drained" in told
    assert MARK not in served.log.path.read_text()


def test_the_log_is_appended_to_across_boots(serve: Serve, tmp_path: Path) -> None:
    for _ in range(2):
        with serve() as served:
            served.user().get("/v1/calendars")
    lines = [json.loads(x) for x in (tmp_path / "web-1" / "log.jsonl").read_text().splitlines()]
    boots = {line["replica"] for line in lines if line["event"] == "http.request.finished"}
    assert len(boots) == 2
    assert len({boot.partition(":")[0] for boot in boots}) == 1
