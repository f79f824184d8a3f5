"""Publishing, dry: each entry is judged, frozen and kept; nothing leaves, nothing is made twice."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import pytest

from cadenza.publish.preflight import digest
from served import ENTRY, Json, Person, Serve, Served, check_refused

VIDEO = "https://media.test/oven.mp4"
PICTURE = "https://media.test/oven.jpg"
GOOD: list[Json] = [
    {**ENTRY, "channel": "bluesky"},
    {**ENTRY, "channel": "webhook", "date": "2027-03-02"},
    {**ENTRY, "channel": "dryrun", "date": "2027-03-03"},
    {**ENTRY, "channel": "instagram", "date": "2027-03-04", "media": [PICTURE]},
    {**ENTRY, "channel": "tiktok", "date": "2027-03-05", "format": "video", "media": [VIDEO]},
]
BAD: list[tuple[Json, str]] = [
    ({**ENTRY, "copy": "a" * 301}, "OVER_LIMIT"),
    ({**ENTRY, "channel": "instagram", "date": "2027-03-02"}, "MISSING_MEDIA"),
    ({**ENTRY, "channel": "tiktok", "date": "2027-03-03"}, "MISSING_MEDIA"),
]


@pytest.fixture
def user(shared: Served) -> Person:
    """Somebody new."""
    return shared.user()


def path_of(calendar: Json) -> str:
    return f"/v1/calendars/{calendar['id']}/publish"


def publish(user: Person, calendar: Json, **body: object) -> list[Json]:
    answer = user.ask("POST", path_of(calendar), body, Idempotency_Key=str(uuid4()))
    assert answer.status_code == 200, answer.text
    return answer.json()["results"]


def test_every_channel_gets_an_intent_that_is_frozen_logged_and_read(
    shared: Served, user: Person
) -> None:
    calendar = user.saved(*GOOD)
    answer = user.ask("POST", path_of(calendar), {}, Idempotency_Key="one")
    assert answer.status_code == 200, answer.text
    results = answer.json()["results"]
    assert [result["entryId"] for result in results] == [e["id"] for e in calendar["entries"]]
    accounts = {a["id"]: a["channel"] for a in user.get("/v1/accounts").json()["items"]}
    for result, entry in zip(results, calendar["entries"], strict=True):
        assert (result["state"], result["mode"], result["code"]) == ("dry_run", "dry_run", None)
        assert accounts[result["accountId"]] == entry["channel"]
        check_intent(shared, user, result["intentId"], entry)
    line = shared.line_of(answer)
    assert line["channel"] == "bluesky,dryrun,instagram,tiktok,webhook"
    assert line["flags"] == {"publish": "dry_run@1"}
    assert (line["status"], line["calendarId"]) == ("ok", calendar["id"])
    assert user.calendar(calendar["id"]) == calendar
    assert {entry["status"] for entry in calendar["entries"]} == {"draft"}


def check_intent(served: Served, user: Person, intent_id: str, entry: Json) -> None:
    """Hold an intent, its row of moves and its line to the entry it was made of."""
    intent = user.get(f"/v1/intents/{intent_id}").json()
    assert (intent["entryId"], intent["entryVersion"]) == (entry["id"], entry["version"])
    assert (intent["state"], intent["cause"], intent["mode"]) == ("dry_run", "flag", "dry_run")
    assert intent["channel"] == entry["channel"]
    assert intent["publishAt"].startswith(f"{entry['date']}T08:00:00")
    assert intent["userId"] == user.id
    assert digest(intent["request"]["payload"]) == intent["request"]["sha256"]
    line = served.log.one("publish.intent.finished", intentId=intent_id)
    assert (line["channel"], line["calendarId"]) == (entry["channel"], entry["calendarId"])
    assert (line["runId"], line["requestId"]) == (None, intent["requestId"])
    assert (line["status"], line["reason"], line["verdict"]) == ("dry_run", "flag", "ignored")
    assert (line["mode"], line["accountId"]) == ("dry_run", intent["accountId"])
    moves = served.rows("SELECT * FROM cadenza.intent_transition WHERE intent_id = %s", intent_id)
    assert [(m["from_state"], m["to_state"], m["actor"]) for m in moves] == [
        (None, "dry_run", "user")
    ]


def test_an_intent_of_a_runs_entry_names_the_run(shared: Served, user: Person) -> None:
    frames = user.run(channels=["bluesky"], end="2027-03-01")
    calendar = user.calendar(frames.of("run")[0]["calendarId"])
    (result,) = publish(user, calendar)
    line = shared.log.one("publish.intent.finished", intentId=result["intentId"])
    assert line["runId"] == frames.run_id
    assert user.get(f"/v1/intents/{result['intentId']}").json()["runId"] == frames.run_id


def test_each_refused_entry_says_why_and_what_to_do(shared: Served, user: Person) -> None:
    calendar = user.saved(*(entry for entry, _ in BAD))
    answer = user.ask("POST", path_of(calendar), {}, Idempotency_Key="one")
    assert answer.status_code == 422
    results = answer.json()["results"]
    assert [result["code"] for result in results] == [code for _, code in BAD]
    for result in results:
        assert (result["state"], result["intentId"]) == ("refused", None)
        assert len(result["detail"]) > 20
    line = shared.line_of(answer)
    assert (line["status"], line["channel"]) == ("rejected", "bluesky,instagram,tiktok")
    assert user.get("/v1/intents").json()["items"] == []
    again = user.ask("POST", path_of(calendar), {}, Idempotency_Key="one")
    assert (again.status_code, again.content) == (422, answer.content)
    assert again.headers["idempotency-replayed"] == "true"


def test_one_good_entry_is_enough_and_the_bad_ones_are_named(user: Person) -> None:
    calendar = user.saved(GOOD[1], *(entry for entry, _ in BAD))
    codes = [result["code"] for result in publish(user, calendar)]
    assert codes.count(None) == 1
    assert {code for code in codes if code} == {code for _, code in BAD}


def test_a_repeated_key_answers_the_same_bytes_and_makes_nothing(
    shared: Served, user: Person
) -> None:
    calendar = user.saved(*GOOD)
    first = user.ask("POST", path_of(calendar), {}, Idempotency_Key="one")
    assert "idempotency-replayed" not in first.headers
    kept = shared.kept_of(user.id)
    again = user.ask("POST", path_of(calendar), {}, Idempotency_Key="one")
    assert (again.status_code, again.content) == (200, first.content)
    assert again.headers["idempotency-replayed"] == "true"
    assert len(shared.log.lines("publish.intent.finished", calendarId=calendar["id"])) == 5
    for body in ({"dryRun": True}, {"entryIds": [calendar["entries"][0]["id"]]}):
        answer = user.ask("POST", path_of(calendar), body, Idempotency_Key="one")
        check_refused(shared, answer, 422, "IDEMPOTENCY_KEY_REUSED", "/Idempotency-Key")
    other = user.saved(ENTRY)
    kept = shared.kept_of(user.id)
    answer = user.ask("POST", path_of(other), {}, Idempotency_Key="one")
    check_refused(shared, answer, 422, "IDEMPOTENCY_KEY_REUSED", "/Idempotency-Key")
    assert shared.kept_of(user.id) == kept


def test_of_many_publishes_with_one_key_at_once_one_makes_the_intents(
    shared: Served, user: Person
) -> None:
    calendar = user.saved(*GOOD)
    with ThreadPoolExecutor(8) as pool:
        asks = [
            pool.submit(user.ask, "POST", path_of(calendar), {}, Idempotency_Key="one")
            for _ in range(8)
        ]
        answers = [ask.result() for ask in asks]
    assert {answer.status_code for answer in answers} <= {200, 409}
    bodies = {answer.content for answer in answers if answer.status_code == 200}
    assert len(bodies) == 1
    for answer in answers:
        if answer.status_code == 409:
            check_refused(shared, answer, 409, "IDEMPOTENCY_RUNNING")
    assert len(user.get("/v1/intents").json()["items"]) == 5


def test_it_takes_the_latest_saved_text(user: Person) -> None:
    calendar = user.saved(ENTRY)
    (entry,) = calendar["entries"]
    path = f"/v1/calendars/{calendar['id']}/entries/{entry['id']}"
    user.ask("PATCH", path, {"copy": "The newest words"}, If_Match="1")
    (result,) = publish(user, calendar)
    intent = user.get(f"/v1/intents/{result['intentId']}").json()
    assert intent["entryVersion"] == 2
    assert "The newest words" in str(intent["request"]["payload"])
    user.ask("PATCH", path, {"copy": "Still newer words"}, If_Match="2")
    assert user.get(f"/v1/intents/{result['intentId']}").json() == intent


def test_a_dry_run_asked_for_says_so_and_every_one_is_a_record(
    shared: Served, user: Person
) -> None:
    calendar = user.saved(ENTRY)
    first, second = (publish(user, calendar, dryRun=True)[0] for _ in range(2))
    assert first["intentId"] != second["intentId"]
    assert first["mode"] == "dry_run"
    line = shared.log.one("publish.intent.finished", intentId=first["intentId"])
    assert line["reason"] == "requested"
    intents = user.get(f"/v1/intents?calendarId={calendar['id']}&state=dry_run").json()["items"]
    assert [intent["id"] for intent in intents] == [second["intentId"], first["intentId"]]
    assert user.get("/v1/intents?state=scheduled").json()["items"] == []


def test_intents_are_paged_newest_first(user: Person) -> None:
    calendar = user.saved(*GOOD)
    made = [result["intentId"] for result in publish(user, calendar)]
    found: list[str] = []
    cursor = ""
    for _ in range(10):
        page = user.get(f"/v1/intents?limit=2{cursor}").json()
        found += [intent["id"] for intent in page["items"]]
        if page["nextCursor"] is None:
            break
        cursor = f"&cursor={page['nextCursor']}"
    assert found == made[::-1]


def test_only_the_entries_and_accounts_named_are_taken(user: Person) -> None:
    calendar = user.saved(*GOOD)
    wanted = [calendar["entries"][1]["id"]]
    assert [r["entryId"] for r in publish(user, calendar, entryIds=wanted)] == wanted
    accounts = user.get("/v1/accounts").json()["items"]
    (bluesky,) = [account["id"] for account in accounts if account["channel"] == "bluesky"]
    results = publish(user, calendar, accountIds=[bluesky])
    assert [result["code"] for result in results].count(None) == 1
    assert {r["code"] for r in results if r["code"]} == {"CHANNEL_AUTH_MISSING"}


def test_a_time_that_has_passed_is_shown_dry_with_a_remark(user: Person) -> None:
    calendar = user.saved({**ENTRY, "date": "2020-01-01"})
    (result,) = publish(user, calendar)
    assert result["state"] == "dry_run"
    assert "IN_THE_PAST" in result["detail"]


def test_an_empty_calendar_has_nothing_to_publish(shared: Served, user: Person) -> None:
    calendar = user.saved()
    answer = user.ask("POST", path_of(calendar), {}, Idempotency_Key="one")
    assert (answer.status_code, answer.json()) == (422, {"results": []})
    assert shared.line_of(answer)["channel"] is None


def test_in_production_nothing_is_seeded_and_both_flags_begin_off(
    serve: Serve, tmp_path: Path
) -> None:
    operators = str(tmp_path / "web-1" / "operators.json")
    with serve(ENV="production", OPERATORS_FILE=operators) as served:
        items = served.operator().get("/ops/flags").json()["items"]
        assert {item["state"] for item in items} == {"off"}
        user = served.user()
        assert user.run().of("run")[0]["variant"] == "template"
        answer = user.ask("POST", path_of(user.saved(ENTRY)), {}, Idempotency_Key="one")
        assert answer.status_code == 422
        assert answer.json()["results"][0]["code"] == "CHANNEL_AUTH_MISSING"
        assert user.get("/v1/accounts").json()["items"] == []
