"""Entries over HTTP: saved under versions, never lost, and nobody else's business."""

import csv
import io
import json
from dataclasses import dataclass
from uuid import uuid4

import httpx
import pytest

from served import ENTRY, RUN, Json, Person, Served, check_refused, problem_of


@pytest.fixture
def user(shared: Served) -> Person:
    """Somebody new."""
    return shared.user()


def path_of(calendar: Json, entry: Json | None = None) -> str:
    path = f"/v1/calendars/{calendar['id']}/entries"
    return f"{path}/{entry['id']}" if entry else path


def test_a_calendar_is_saved_read_changed_and_taken_away(shared: Served, user: Person) -> None:
    calendar_id = str(uuid4())
    path = f"/v1/calendars/{calendar_id}"
    two = [ENTRY, {**ENTRY, "channel": "instagram", "date": "2027-03-02", "copy": "=1+1"}]
    answer = user.ask("PUT", f"{path}/entries", {"entries": two}, If_None_Match="*")
    assert (answer.status_code, answer.headers["etag"]) == (200, '"1"')
    line = shared.line_of(answer)
    assert (line["calendarId"], line["channel"]) == (calendar_id, "bluesky,instagram")
    calendar = answer.json()
    assert calendar == user.calendar(calendar_id)
    one, other = calendar["entries"]
    assert one["version"] == 1
    assert one["status"] == "draft"
    assert not one["needsReview"]
    answer = user.ask("PATCH", path_of(calendar, one), {"title": "Later"}, If_Match="1")
    assert (answer.json()["version"], answer.headers["etag"]) == (2, '"2"')
    answer = user.ask("DELETE", path_of(calendar, other), If_Match="1")
    assert answer.json() == {"id": other["id"], "revision": 3}
    (left,) = user.calendar(calendar_id)["entries"]
    assert (left["id"], left["title"]) == (one["id"], "Later")
    found = user.get(f"{path}/revisions").json()["items"]
    assert [(item["revision"], item["cause"]) for item in found] == [
        *((3, "delete"), (2, "patch"), (1, "save"))
    ]
    assert found[0]["changes"][0]["before"]["copy"] == "=1+1"
    assert found[0]["requestId"] == answer.headers["x-request-id"]


def test_an_export_is_json_for_programs_and_csv_for_spreadsheets(user: Person) -> None:
    calendar = user.saved(ENTRY, {**ENTRY, "date": "2027-03-02", "copy": '=SUM(1;2), "x"\nend'})
    document = json.loads(user.export(calendar["id"]))
    assert [entry["title"] for entry in document["entries"]] == ["The oven is on"] * 2
    answer = user.get(f"/v1/calendars/{calendar['id']}/export?format=csv")
    assert answer.headers["content-type"].startswith("text/csv; charset=utf-8")
    assert calendar["id"] in answer.headers["content-disposition"]
    assert answer.content.replace(b"\r\n", b"").count(b"\r") == 0
    rows = list(csv.DictReader(io.StringIO(answer.text, newline="")))
    assert rows[1]["copy"] == '\'=SUM(1;2), "x"\nend'


def test_a_stale_patch_and_a_stale_delete_carry_both_texts(shared: Served, user: Person) -> None:
    calendar = user.saved(ENTRY)
    (entry,) = calendar["entries"]
    user.ask("PATCH", path_of(calendar, entry), {"copy": "Theirs"}, If_Match="1")
    kept = shared.kept_of(user.id)
    answer = user.ask("PATCH", path_of(calendar, entry), {"copy": "Yours"}, If_Match="1")
    document = check_refused(shared, answer, 409, "STALE_VERSION")
    assert document["yours"] == {"version": 1, "copy": "Yours"}
    assert (document["current"]["version"], document["current"]["copy"]) == (2, "Theirs")
    answer = user.ask("DELETE", path_of(calendar, entry), If_Match="1")
    document = check_refused(shared, answer, 409, "STALE_VERSION")
    assert document["current"]["copy"] == "Theirs"
    assert shared.kept_of(user.id) == kept


def test_a_stale_save_carries_both_sides_of_what_differs(shared: Served, user: Person) -> None:
    calendar = user.saved(ENTRY, {**ENTRY, "date": "2027-03-02"})
    first, second = calendar["entries"]
    user.ask("PATCH", path_of(calendar, first), {"copy": "Theirs"}, If_Match="1")
    kept = shared.kept_of(user.id)
    mine = {"entries": [{**first, "copy": "Yours"}, second]}
    answer = user.ask("PUT", path_of(calendar), mine, If_Match="1")
    document = check_refused(shared, answer, 409, "STALE_VERSION")
    assert (document["yours"]["revision"], document["current"]["revision"]) == (1, 2)
    assert [entry["copy"] for entry in document["yours"]["entries"]] == ["Yours"]
    assert [entry["copy"] for entry in document["current"]["entries"]] == ["Theirs"]
    answer = user.ask("PUT", path_of(calendar), mine, If_None_Match="*")
    check_refused(shared, answer, 409, "STALE_VERSION")
    assert shared.kept_of(user.id) == kept


def test_a_write_without_its_version_is_asked_for_it(shared: Served, user: Person) -> None:
    calendar = user.saved(ENTRY)
    (entry,) = calendar["entries"]
    kept = shared.kept_of(user.id)
    for answer in (
        user.ask("PUT", path_of(calendar), calendar),
        user.ask("PUT", path_of({"id": str(uuid4())}), {"entries": [ENTRY]}),
        user.ask("PATCH", path_of(calendar, entry), {"title": "x"}),
        user.ask("DELETE", path_of(calendar, entry)),
    ):
        document = check_refused(shared, answer, 428, "IF_MATCH_MISSING")
        assert "If-Match" in document["detail"]
    for given in ("*", '"1", "2"', "one", "-1"):
        answer = user.http.delete(path_of(calendar, entry), headers={"If-Match": given})
        check_refused(shared, answer, 422, "VALIDATION_ERROR", "/If-Match")
    assert shared.kept_of(user.id) == kept


def test_a_save_keeps_ids_and_never_takes_an_unknown_one(shared: Served, user: Person) -> None:
    calendar = user.saved(ENTRY, {**ENTRY, "date": "2027-03-02"})
    answer = user.ask("PUT", path_of(calendar), calendar, If_Match="1")
    assert answer.status_code == 200, answer.text
    assert [e["id"] for e in answer.json()["entries"]] == [e["id"] for e in calendar["entries"]]
    assert [e["version"] for e in answer.json()["entries"]] == [1, 1]
    kept = shared.kept_of(user.id)
    someone_elses = shared.user().saved(ENTRY)["entries"]
    answer = user.ask("PUT", path_of(calendar), {"entries": someone_elses}, If_Match="2")
    check_refused(shared, answer, 422, "VALIDATION_ERROR", "/entries/0/id")
    assert shared.kept_of(user.id) == kept


def test_a_write_with_a_key_happens_once(shared: Served, user: Person) -> None:
    calendar = user.saved(ENTRY)
    path = path_of(calendar, calendar["entries"][0])
    first = user.ask("PATCH", path, {"title": "Once"}, If_Match="1", Idempotency_Key="k1")
    kept = shared.kept_of(user.id)
    again = user.ask("PATCH", path, {"title": "Once"}, If_Match="1", Idempotency_Key="k1")
    assert (again.status_code, again.content) == (first.status_code, first.content)
    assert again.headers["idempotency-replayed"] == "true"
    assert "idempotency-replayed" not in first.headers
    answer = user.ask("PATCH", path, {"title": "Twice"}, If_Match="2", Idempotency_Key="k1")
    check_refused(shared, answer, 422, "IDEMPOTENCY_KEY_REUSED", "/Idempotency-Key")
    assert shared.kept_of(user.id) == kept


def test_the_list_of_calendars_is_paged_without_skips_or_repeats(user: Person) -> None:
    made = [user.saved(ENTRY)["id"] for _ in range(5)]
    found: list[str] = []
    cursor = ""
    while True:
        page = user.get(f"/v1/calendars?limit=2{cursor}").json()
        found += [item["id"] for item in page["items"]]
        if page["nextCursor"] is None:
            break
        cursor = f"&cursor={page['nextCursor']}"
    assert found == made[::-1]


# --- someone else's ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ask:
    """One way to reach for something; `{c}`, `{e}`, `{r}`, `{i}` stand for what is Alice's."""

    method: str
    path: str
    body: object = None
    accept: str = "*/*"
    is_first: bool = False

    @property
    def makes_it(self) -> bool:
        """Say whether asking for a calendar that is not there makes it."""
        return self.is_first or self.path == "/v1/calendars/{c}/runs"


ASKS = [
    Ask("GET", "/v1/calendars/{c}"),
    Ask("PUT", "/v1/calendars/{c}/entries", {"entries": []}),
    Ask("PUT", "/v1/calendars/{c}/entries", {"entries": [ENTRY]}, is_first=True),
    Ask("GET", "/v1/calendars/{c}/entries/{e}"),
    Ask("PATCH", "/v1/calendars/{c}/entries/{e}", {"title": "Mine"}),
    Ask("DELETE", "/v1/calendars/{c}/entries/{e}"),
    Ask("GET", "/v1/calendars/{c}/revisions"),
    Ask("GET", "/v1/calendars/{c}/export"),
    Ask("GET", "/v1/calendars/{c}/export?format=csv"),
    Ask("POST", "/v1/calendars/{c}/runs", RUN),
    Ask("POST", "/v1/calendars/{c}/runs", RUN, accept="text/event-stream"),
    Ask("POST", "/v1/calendars/{c}/publish", {}),
    Ask("POST", "/v1/calendars/{c}/publish", {"entryIds": ["{e}"]}),
    Ask("GET", "/v1/runs/{r}"),
    Ask("GET", "/v1/runs/{r}/events"),
    Ask("HEAD", "/v1/runs/{r}/events"),
    Ask("POST", "/v1/runs/{r}/cancel"),
    Ask("GET", "/v1/intents/{i}"),
]


@pytest.fixture(scope="module")
def alice(shared: Served) -> Person:
    """Somebody who has one of everything."""
    return shared.user()


@pytest.fixture(scope="module")
def hers(alice: Person) -> dict[str, str]:
    """The ids of her calendar, one of its entries, its run and an intent."""
    calendar_id = str(uuid4())
    frames = alice.run(calendar_id, channels=["bluesky"])
    key = str(uuid4())
    published = alice.ask("POST", f"/v1/calendars/{calendar_id}/publish", {}, Idempotency_Key=key)
    intent_id = published.json()["results"][0]["intentId"]
    return {"c": calendar_id, "e": frames.entries[0]["id"], "r": frames.run_id, "i": intent_id}


def reach(person: Person, ask: Ask, ids: dict[str, str]) -> httpx.Response:
    def filled(text: str) -> str:
        for name, value in ids.items():
            text = text.replace(f"{{{name}}}", value)
        return text

    headers = {"Accept": ask.accept, "Idempotency-Key": str(uuid4())}
    headers |= {"If-None-Match": "*"} if ask.is_first else {"If-Match": '"1"'}
    headers["Content-Type"] = "application/json"
    content = None if ask.body is None else filled(json.dumps(ask.body)).encode()
    return person.http.request(ask.method, filled(ask.path), content=content, headers=headers)


@pytest.mark.parametrize("ask", ASKS, ids=lambda ask: f"{ask.method} {ask.path}")
def test_someone_elses_things_are_not_there(
    shared: Served, alice: Person, hers: dict[str, str], ask: Ask
) -> None:
    mallory = shared.user()
    kept = shared.kept_of(alice.id)
    answer = reach(mallory, ask, hers)
    assert answer.status_code == 404, answer.text
    line = shared.line_of(answer)
    assert (line["status"], line["userId"]) == ("rejected", mallory.id)
    if ask.method != "HEAD":
        assert problem_of(answer)["code"] == "NOT_FOUND"
    assert shared.kept_of(alice.id) == kept
    assert shared.kept_of(mallory.id) == []
    if ask.method != "HEAD" and not ask.makes_it:
        assert said(answer, hers) == said(*absent(mallory, ask))


def absent(person: Person, ask: Ask) -> tuple[httpx.Response, dict[str, str]]:
    """Return the answer about things that never were."""
    nobodys = {name: str(uuid4()) for name in "ceri"}
    return reach(person, ask, nobodys), nobodys


def said(answer: httpx.Response, ids: dict[str, str]) -> str:
    text = answer.text.replace(answer.headers["x-request-id"], "")
    for value in ids.values():
        text = text.replace(value, "")
    return text


def test_every_route_with_an_id_is_tried_by_somebody_else(shared: Served) -> None:
    names = {"calendar_id": "c", "entry_id": "e", "run_id": "r", "intent_id": "i"}
    tried = {(ask.method.lower(), ask.path.partition("?")[0]) for ask in ASKS}
    for path, methods in shared.app.openapi()["paths"].items():
        if not path.startswith("/v1/") or "{" not in path:
            continue
        short = path
        for name, letter in names.items():
            short = short.replace(name, letter)
        for method in methods:
            assert (method, short) in tried


def test_ones_own_calendar_does_not_open_someone_elses_entries(
    shared: Served, hers: dict[str, str]
) -> None:
    mallory = shared.user()
    own = mallory.saved(ENTRY)["id"]
    path = f"/v1/calendars/{own}"
    for method in ("GET", "PATCH", "DELETE"):
        body = {"title": "x"} if method == "PATCH" else None
        answer = mallory.ask(method, f"{path}/entries/{hers['e']}", body, If_Match="1")
        check_refused(shared, answer, 404, "NOT_FOUND")
    body = {"entryIds": [hers["e"]]}
    answer = mallory.ask("POST", f"{path}/publish", body, Idempotency_Key="1")
    check_refused(shared, answer, 422, "VALIDATION_ERROR", "/entryIds/0")
    account = shared.rows("SELECT account_id FROM cadenza.publish_intent WHERE id = %s", hers["i"])
    body = {"accountIds": [str(account[0]["account_id"])]}
    answer = mallory.ask("POST", f"{path}/publish", body, Idempotency_Key="2")
    check_refused(shared, answer, 422, "VALIDATION_ERROR", "/accountIds/0")
    answer = mallory.get(f"/v1/intents?calendarId={hers['c']}")
    assert answer.json() == {"items": [], "nextCursor": None}
