"""Every mistake is answered well: placed, named, with its cure, and nothing is lost or changed."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import httpx
import pytest

from served import ENTRY, RUN, Json, Person, Served, check_refused, problem_of

ID = "01a209e1-91cd-747b-9faf-ba258a7f9260"
SOME = f"/v1/calendars/{ID}"
MIB = 1024 * 1024
FORTNIGHT = {"start": "2027-03-01", "end": "2027-03-14"}


@pytest.fixture
def user(shared: Served) -> Iterator[Person]:
    """Somebody with one saved calendar, of which nothing may change in the test."""
    someone = shared.user()
    someone.saved(ENTRY)
    before = shared.kept_of(someone.id)
    assert len(before) == 3
    yield someone
    assert shared.kept_of(someone.id) == before


def only_calendar(user: Person) -> str:
    (calendar,) = user.get("/v1/calendars").json()["items"]
    return calendar["id"]


@dataclass(frozen=True, slots=True)
class Slip:
    """A body with one mistake: where it is, its code, and words of the fix."""

    body: Json
    pointer: str
    code: str
    words: str


def run_with(**changes: Any) -> Json:
    return {**RUN, **changes}


def entry_with(**changes: Any) -> Json:
    return {"entries": [ENTRY, {**ENTRY, **changes}]}


RUN_MISTAKES: list[Slip] = [
    Slip(run_with(chanels=["tiktok"]), "/chanels", "UNKNOWN_FIELD", "channels"),
    Slip(run_with(channels="instagram"), "/channels", "WRONG_TYPE", "list"),
    Slip(run_with(channels=[7]), "/channels/0", "WRONG_TYPE", "string"),
    Slip(run_with(channels=[]), "/channels", "TOO_FEW", "at least 1"),
    Slip(
        run_with(channels=["instagram", "friendster"]), "/channels/1", "UNKNOWN_CHANNEL", "bluesky"
    ),
    Slip(run_with(cadence="hourly"), "/cadence", "NOT_ALLOWED", "weekly"),
    Slip(run_with(cadence=None), "/cadence", "NOT_ALLOWED", "weekly"),
    Slip(run_with(timezone="Mars/Olympus"), "/timezone", "UNKNOWN_TIMEZONE", "Europe/Madrid"),
    Slip(run_with(timezone=1), "/timezone", "WRONG_TYPE", "string"),
    Slip(run_with(start="tomorrow"), "/start", "BAD_DATE", "2026-12-01"),
    Slip(run_with(start=1764547200), "/start", "BAD_DATE", "2026-12-01"),
    Slip(run_with(end="2027-02-30"), "/end", "BAD_DATE", "2026-12-01"),
    Slip(run_with(end="2027-02-28"), "/end", "BEFORE_START", "on or after 2027-03-01"),
    Slip(run_with(end="2027-09-01"), "/end", "TOO_MANY_SLOTS", "at most 200"),
    Slip(run_with(start="0001-01-01", end="9999-12-31"), "/end", "TOO_MANY_SLOTS", "at most 200"),
    Slip(run_with(brief=["a"]), "/brief", "WRONG_TYPE", "string"),
    Slip(run_with(brief="a" * 4001), "/brief", "TOO_LONG", "4000"),
    Slip(run_with(constraints=[]), "/constraints", "WRONG_TYPE", "object"),
    Slip(run_with(constraints={"a": "b" * 9000}), "/constraints", "TOO_LONG", "8192"),
    Slip(run_with(constraints={"a": 10**30}), "/constraints", "WRONG_TYPE", "number"),
    Slip({k: v for k, v in RUN.items() if k != "start"}, "/start", "MISSING", "Add it"),
]

SAVE_MISTAKES: list[Slip] = [
    Slip(entry_with(titel="x"), "/entries/1/titel", "UNKNOWN_FIELD", "title"),
    Slip({"entries": [ENTRY], "extra": 1}, "/extra", "UNKNOWN_FIELD", "entries"),
    Slip(entry_with(title=5), "/entries/1/title", "WRONG_TYPE", "string"),
    Slip(entry_with(title=""), "/entries/1/title", "TOO_SHORT", "at least 1"),
    Slip(entry_with(hashtags="bakery"), "/entries/1/hashtags", "WRONG_TYPE", "list"),
    Slip(entry_with(channel="friendster"), "/entries/1/channel", "UNKNOWN_CHANNEL", "bluesky"),
    Slip(entry_with(timezone="Mars/Olympus"), "/entries/1/timezone", "UNKNOWN_TIMEZONE", "Madrid"),
    Slip(entry_with(date=20270301), "/entries/1/date", "BAD_DATE", "2026-12-01"),
    Slip(entry_with(time="9:00"), "/entries/1/time", "BAD_TIME", "09:00"),
    Slip(entry_with(id="one"), "/entries/1/id", "BAD_UUID", "UUID"),
    Slip(entry_with(id=ID), "/entries/1/id", "UNKNOWN_ID", "leave it out"),
    Slip({"entries": [ENTRY] * 201}, "/entries", "TOO_MANY", "at most 200"),
    Slip({"entries": [{"title": "x"}]}, "/entries/0/channel", "MISSING", "needs it"),
    Slip({}, "/entries", "MISSING", "Add it"),
]

PUBLISH_MISTAKES: list[Slip] = [
    Slip({"dryrun": True}, "/dryrun", "UNKNOWN_FIELD", "dryRun"),
    Slip({"entryIds": [ID]}, "/entryIds/0", "UNKNOWN_ID", "listed"),
    Slip({"accountIds": [ID]}, "/accountIds/0", "UNKNOWN_ID", "listed"),
    Slip({"entryIds": []}, "/entryIds", "TOO_FEW", "at least 1"),
    Slip({"entryIds": ["x"]}, "/entryIds/0", "BAD_UUID", "UUID"),
    Slip({"dryRun": "maybe"}, "/dryRun", "WRONG_TYPE", "true or false"),
]


def called(slip: Slip) -> str:
    return f"{slip.pointer[1:]}-{slip.code}"


def check_slip(served: Served, answer: httpx.Response, slip: Slip) -> None:
    document = check_refused(served, answer, 422, "VALIDATION_ERROR", slip.pointer)
    assert document["errors"][0]["code"] == slip.code
    mended(document, slip.words)


def mended(document: Json, words: str) -> None:
    assert words in document["errors"][0]["fix"], document["errors"]


@pytest.mark.parametrize("slip", RUN_MISTAKES, ids=called)
def test_a_mistake_in_a_run_is_placed_and_mended(shared: Served, user: Person, slip: Slip) -> None:
    answer = user.ask("POST", f"/v1/calendars/{uuid4()}/runs", slip.body)
    check_slip(shared, answer, slip)
    line = shared.line_of(answer)
    assert line["route"] == "/v1/calendars/{calendar_id}/runs"
    assert line["userId"] == user.id


@pytest.mark.parametrize("slip", SAVE_MISTAKES, ids=called)
def test_a_mistake_in_a_save_is_placed_and_mended(shared: Served, user: Person, slip: Slip) -> None:
    path = f"/v1/calendars/{only_calendar(user)}/entries"
    check_slip(shared, user.ask("PUT", path, slip.body, If_Match="1"), slip)


@pytest.mark.parametrize("slip", PUBLISH_MISTAKES, ids=called)
def test_a_mistake_in_a_publish_is_placed_and_mended(
    shared: Served, user: Person, slip: Slip
) -> None:
    path = f"/v1/calendars/{only_calendar(user)}/publish"
    check_slip(shared, user.ask("POST", path, slip.body, Idempotency_Key="one"), slip)


def test_every_mistake_is_named_at_once(user: Person) -> None:
    body = run_with(cadence="x", timezone=3, colour="red")
    document = problem_of(user.ask("POST", f"{SOME}/runs", body))
    assert {m["pointer"] for m in document["errors"]} == {"/cadence", "/timezone", "/colour"}
    assert document["title"] == "The request has 3 mistakes"


@pytest.mark.parametrize("body", [b"{", b"[]", b"7", b'"x"', b"\xff", b"", b'{"a":' * 5000])
def test_what_is_no_json_object_is_refused_by_its_form(
    shared: Served, user: Person, body: bytes
) -> None:
    headers = {"Content-Type": "application/json"}
    answer = user.http.post(f"{SOME}/runs", content=body, headers=headers)
    assert answer.status_code in {400, 422}, answer.text
    assert problem_of(answer)["code"] in {"BAD_REQUEST", "VALIDATION_ERROR"}
    assert shared.line_of(answer)["status"] == "rejected"


def test_another_media_type_is_told_to_send_json(shared: Served, user: Person) -> None:
    answer = user.http.post(f"{SOME}/runs", content=b"a=1", headers={"Content-Type": "text/plain"})
    document = check_refused(shared, answer, 422, "VALIDATION_ERROR", "")
    mended(document, "application/json")


@pytest.mark.parametrize(
    "path",
    [
        "/v1/calendars/mine",
        "/v1/calendars/mine/export",
        f"{SOME}/entries/first",
        "/v1/runs/last",
        "/v1/runs/last/events",
        "/v1/intents/next",
        "/v1/intents?calendarId=mine",
    ],
)
def test_a_bad_uuid_says_what_one_looks_like(shared: Served, user: Person, path: str) -> None:
    document = check_refused(shared, user.get(path), 422, "VALIDATION_ERROR")
    assert document["errors"][0]["code"] == "BAD_UUID"
    mended(document, "8-4-4-4-12")


def test_an_unknown_export_format_and_state_name_the_known_ones(
    shared: Served, user: Person
) -> None:
    document = check_refused(
        shared, user.get(f"{SOME}/export?format=pdf"), 422, "VALIDATION_ERROR", "/format"
    )
    mended(document, "csv")
    document = check_refused(
        shared, user.get("/v1/intents?state=lost"), 422, "VALIDATION_ERROR", "/state"
    )
    mended(document, "dry_run")


def test_a_body_of_more_than_a_mebibyte_is_refused_before_it_is_read(
    shared: Served, user: Person
) -> None:
    body = json.dumps(run_with(brief="a" * MIB))
    headers = {"Content-Type": "application/json"}
    answer = user.http.post(f"{SOME}/runs", content=body, headers=headers)
    document = check_refused(shared, answer, 413, "BODY_TOO_LARGE")
    assert str(MIB) in document["detail"]


def test_a_chunked_body_of_more_than_a_mebibyte_is_refused_too(
    shared: Served, user: Person
) -> None:
    def chunks() -> Iterator[bytes]:
        yield b'{"brief":"'
        for _ in range(17):
            yield b"a" * (MIB // 16)

    answer = user.http.post(
        f"{SOME}/runs", content=chunks(), headers={"Content-Type": "application/json"}
    )
    check_refused(shared, answer, 413, "BODY_TOO_LARGE")


def test_an_address_or_a_method_nobody_knows_is_a_problem_too(shared: Served, user: Person) -> None:
    check_refused(shared, user.get("/v1/nothing"), 404, "ROUTE_NOT_FOUND")
    answer = user.ask("PATCH", "/v1/calendars")
    check_refused(shared, answer, 405, "METHOD_NOT_ALLOWED")
    assert answer.headers["allow"] == "GET"


# --- who asks ---------------------------------------------------------------------------------


def forged(served: Served) -> str:
    head, claims, _ = served.token().split(".")
    return f"{head}.{claims}.{'A' * 43}"


def unsigned(served: Served) -> str:
    _, claims, _ = served.token().split(".")
    return f"eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{claims}."


TOKENS: dict[str, Callable[[Served], str]] = {
    "missing": lambda _: "",
    "garbage": lambda _: "garbage",
    "forged": forged,
    "unsigned": unsigned,
    "expired": lambda served: served.token(exp=1_700_000_000),
    "not_yet": lambda served: served.token(nbf=4_000_000_000),
    "foreign_issuer": lambda served: served.token(iss="https://elsewhere.test"),
    "foreign_audience": lambda served: served.token(aud="elsewhere"),
    "no_person": lambda served: served.token(sub="alice"),
    "an_operator": lambda served: served.operator_tokens["ana"],
}


@pytest.mark.parametrize("kind", TOKENS)
def test_without_a_valid_token_nothing_is_answered(shared: Served, kind: str) -> None:
    person = shared.person(TOKENS[kind](shared))
    for method, path in (("GET", "/v1/calendars"), ("POST", f"{SOME}/runs"), ("GET", SOME)):
        answer = person.ask(method, path, RUN if method == "POST" else None)
        check_refused(shared, answer, 401, "UNAUTHENTICATED")
        assert answer.headers["www-authenticate"] == "Bearer"
        assert shared.line_of(answer)["userId"] is None


@pytest.mark.parametrize("role", ["service_role", "anon", "supabase_admin", None])
def test_a_genuine_token_of_no_person_is_refused(shared: Served, role: str | None) -> None:
    person = shared.person(shared.token(role=role))
    check_refused(shared, person.get("/v1/calendars"), 403, "FORBIDDEN")
    answer = person.ask("PUT", f"{SOME}/entries", {"entries": []}, If_None_Match="*")
    check_refused(shared, answer, 403, "FORBIDDEN")


def test_a_user_is_no_operator(shared: Served, user: Person) -> None:
    check_refused(shared, user.get("/ops/flags"), 401, "UNAUTHENTICATED")
    check_refused(shared, shared.person("").get("/ops/flags"), 401, "UNAUTHENTICATED")


def test_a_header_that_says_who_one_is_is_not_believed(shared: Served, user: Person) -> None:
    mallory = shared.user()
    calendar_id = only_calendar(user)
    claims = {"x-user-id": user.id, "x-forwarded-user": user.id, "x-supabase-user": user.id}
    answer = mallory.http.get(f"/v1/calendars/{calendar_id}", headers=claims)
    check_refused(shared, answer, 404, "NOT_FOUND")
    assert shared.line_of(answer)["userId"] == mallory.id
    answer = shared.person("").http.get("/v1/calendars", headers=claims)
    check_refused(shared, answer, 401, "UNAUTHENTICATED")


def test_a_request_id_of_the_callers_is_the_one_in_answer_and_log(
    shared: Served, user: Person
) -> None:
    given = f"caller-{uuid4()}"
    answer = user.ask("GET", "/v1/calendars/x", X_Request_ID=given)
    assert answer.headers["x-request-id"] == problem_of(answer)["requestId"] == given
    shared.log.one("http.request.finished", requestId=given)
    for refused in ("no id: it has spaces", "short", "x" * 65, "ghp_abcdefghijkl0123", ID * 2):
        answer = user.ask("GET", "/v1/calendars", X_Request_ID=refused)
        assert answer.headers["x-request-id"] != refused
        shared.line_of(answer)


# --- texts that no database keeps ---------------------------------------------------------------

NUL, HALF = "\x00", "\ud83c"
TEXT_FIELDS = ["title", "format", "copy", "script", "targetAudience", "timezone", "channel", "time"]


def sent(person: Person, method: str, path: str, body: object, **headers: str) -> httpx.Response:
    """Send a body as it is: half a surrogate pair survives as an escape."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    named["Content-Type"] = "application/json"
    return person.http.request(method, path, content=json.dumps(body).encode(), headers=named)


@pytest.mark.parametrize("bad", [NUL, HALF], ids=["nul", "half"])
@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"brief": "a{}b"}, "/brief"),
        ({"constraints": {"tone": "a{}b"}}, "/constraints"),
        ({"constraints": {"a{}b": 1}}, "/constraints"),
        ({"constraints": {"deep": [{"er": ["a{}b"]}]}}, "/constraints"),
        ({"timezone": "Europe/{}Madrid"}, "/timezone"),
        ({"channels": ["insta{}gram"]}, "/channels/0"),
        ({"cadence": "dai{}ly"}, "/cadence"),
        ({"start": "2027-{}03-01"}, "/start"),
        ({"col{}our": "red"}, None),
    ],
)
def test_a_run_with_an_unstorable_text_is_refused(
    shared: Served, user: Person, changes: Json, pointer: str | None, bad: str
) -> None:
    spoilt = json.loads(json.dumps({**RUN, **changes}).replace("{}", json.dumps(bad)[1:-1]))
    answer = sent(user, "POST", f"/v1/calendars/{uuid4()}/runs", spoilt)
    check_refused(shared, answer, 422, "VALIDATION_ERROR", pointer)


@pytest.mark.parametrize("bad", [NUL, HALF], ids=["nul", "half"])
@pytest.mark.parametrize("name", [*TEXT_FIELDS, "date", "id", "hashtags", "media"])
def test_an_entry_with_an_unstorable_text_is_refused(
    shared: Served, user: Person, name: str, bad: str
) -> None:
    calendar_id = only_calendar(user)
    path = f"/v1/calendars/{calendar_id}/entries"
    text = f"a{bad}b"
    value = [text] if name in {"hashtags", "media"} else text
    answer = sent(user, "PUT", path, {"entries": [{**ENTRY, name: value}]}, If_Match="1")
    document = check_refused(shared, answer, 422, "VALIDATION_ERROR")
    assert document["errors"][0]["pointer"].startswith(f"/entries/0/{name}")
    if name != "id":
        entry = user.calendar(calendar_id)["entries"][0]
        answer = sent(user, "PATCH", f"{path}/{entry['id']}", {name: value}, If_Match="1")
        check_refused(shared, answer, 422, "VALIDATION_ERROR")


@pytest.mark.parametrize("bad", [NUL, HALF], ids=["nul", "half"])
def test_an_unknown_field_with_an_unstorable_name_is_refused(
    shared: Served, user: Person, bad: str
) -> None:
    calendar_id = only_calendar(user)
    path = f"/v1/calendars/{calendar_id}"
    body = {"entries": [{**ENTRY, f"a{bad}b": 1}]}
    answer = sent(user, "PUT", f"{path}/entries", body, If_Match="1")
    check_refused(shared, answer, 422, "VALIDATION_ERROR")
    answer = sent(user, "POST", f"{path}/publish", {f"a{bad}b": 1}, Idempotency_Key="1")
    check_refused(shared, answer, 422, "VALIDATION_ERROR")
    answer = sent(user, "POST", f"{path}/publish", {"entryIds": [bad]}, Idempotency_Key="1")
    check_refused(shared, answer, 422, "VALIDATION_ERROR")


@pytest.mark.parametrize("bad", [NUL, HALF], ids=["nul", "half"])
def test_operators_cannot_write_an_unstorable_text(shared: Served, bad: str) -> None:
    ana = shared.operator()
    drill = {"userId": str(uuid4()), "flags": {"calendar": "ai"}, "ttlS": 60, "reason": "drill"}
    for path, body in (
        ("/ops/flags/calendar/kill", {"reason": f"because{bad}"}),
        ("/ops/drills", {**drill, "reason": f"because{bad}"}),
        ("/ops/drills", {**drill, "userId": bad}),
        ("/ops/drills", {**drill, "flags": {f"cal{bad}endar": "ai"}}),
        ("/ops/drills", {**drill, "flags": {"calendar": f"a{bad}i"}}),
        ("/ops/drills", {**drill, f"a{bad}": 1}),
    ):
        check_refused(shared, sent(ana, "POST", path, body), 422, "VALIDATION_ERROR")


@pytest.mark.parametrize("bad", ["%00", "%ff", "%ed%a0%bc", "%0d%0a"])
def test_an_address_with_an_unreadable_part_is_refused(
    shared: Served, user: Person, bad: str
) -> None:
    for path in (
        f"/v1/calendars/{bad}",
        f"/v1/runs/{bad}/events",
        f"/v1/calendars?cursor={bad}",
        f"/v1/calendars?cursor=1~{bad}",
        f"{SOME}/revisions?cursor={bad}",
        f"/v1/intents?state={bad}",
        f"/v1/intents?cursor={bad}",
        f"{SOME}/export?format={bad}",
    ):
        check_refused(shared, user.get(path), 422, "VALIDATION_ERROR")
    ana = shared.operator()
    answer = ana.ask("POST", f"/ops/flags/{bad}/kill", {"reason": "because"})
    check_refused(shared, answer, 404, "NOT_FOUND")


@pytest.mark.parametrize("value", ["\xff\xfe", "x" * 300, "", "a b"])
def test_a_header_that_is_no_key_or_drill_is_refused(
    shared: Served, user: Person, value: str
) -> None:
    def ask(method: str, path: str, body: Json, **more: str) -> httpx.Response:
        headers = [(name.encode(), text.encode("latin-1")) for name, text in more.items()]
        return user.http.request(method, path, json=body, headers=headers)

    for answer, code in (
        (ask("POST", f"{SOME}/runs", RUN, **{"Idempotency-Key": value}), "VALIDATION_ERROR"),
        (ask("POST", f"{SOME}/publish", {}, **{"Idempotency-Key": value}), "VALIDATION_ERROR"),
        (ask("POST", f"{SOME}/runs", RUN, **{"X-Cadenza-Drill": value}), "DRILL_NOT_FOUND"),
        (ask("PUT", f"{SOME}/entries", {"entries": []}, **{"If-Match": value}), "VALIDATION_ERROR"),
    ):
        status = 404 if code == "DRILL_NOT_FOUND" else 422
        check_refused(shared, answer, status, code)


def test_an_empty_publish_key_is_asked_for(shared: Served, user: Person) -> None:
    calendar_id = only_calendar(user)
    answer = user.ask("POST", f"/v1/calendars/{calendar_id}/publish", {})
    document = check_refused(shared, answer, 422, "VALIDATION_ERROR", "/Idempotency-Key")
    mended(document, "UUID of your own")
