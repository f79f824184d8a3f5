"""The operators' switches over HTTP: who produces changes at once, what is saved never does."""

from collections.abc import Iterator
from uuid import uuid4

import httpx
import pytest

from served import ENTRY, RUN, Json, Person, Serve, Served, Simulator, check_refused

SHORT = {"end": "2027-03-01"}
WHY = "trying it out"


@pytest.fixture
def ana(served: Served) -> Iterator[Person]:
    """An operator; in the end the audit tells every version of the flags, without a gap."""
    yield served.operator()
    versions = {row["set_version"] for row in audit(served) if row["key"] != "drill"}
    assert sorted(versions) == list(range(1, max(versions) + 1))


def switch(person: Person, key: str, *, on: bool, **more: object) -> httpx.Response:
    return person.ask("PUT", f"/ops/flags/{key}", {"on": on, "reason": WHY, **more})


def turn(person: Person, key: str, *, on: bool) -> Json:
    answer = switch(person, key, on=on)
    assert answer.status_code == 200, answer.text
    return answer.json()


def policy_of(person: Person, key: str) -> Json:
    items = person.get("/ops/flags").json()["items"]
    return next(item for item in items if item["key"] == key)


def audit(served: Served) -> list[Json]:
    return served.rows("SELECT * FROM cadenza.flag_audit ORDER BY seq")


def drill(person: Person, user: Person, **flags: str) -> str:
    body = {"userId": user.id, "flags": flags, "ttlS": 60, "reason": WHY}
    answer = person.ask("POST", "/ops/drills", body)
    assert answer.status_code == 201, answer.text
    return answer.json()["id"]


def run_of(user: Person, **headers: str) -> Json:
    path = f"/v1/calendars/{uuid4()}/runs"
    frames = user.stream("POST", path, {**RUN, **SHORT}, **headers)
    assert frames.done["status"] == "completed"
    return frames.of("run")[0]


def test_off_means_template_from_the_next_run_on_and_on_means_ai(
    served: Served, ana: Person
) -> None:
    user = served.user()
    assert run_of(user)["variant"] == "ai"
    off = turn(ana, "calendar", on=False)
    assert (off["changed"], off["state"], off["setVersion"]) == (True, "off", 2)
    of_template = run_of(user)
    assert (of_template["variant"], of_template["flagVersion"]) == ("template", 2)
    line = served.log.one("calendar.run.finished", runId=of_template["runId"])
    assert line["flags"] == {"calendar": "template@2"}
    run = user.get(f"/v1/runs/{of_template['runId']}").json()
    assert (run["variant"], run["flagVersion"]) == ("template", 2)
    assert turn(ana, "calendar", on=True)["state"] == "on"
    assert (run_of(user)["variant"], run_of(user)["flagVersion"]) == ("ai", 3)
    rows = [(row["key"], row["actor"], row["reason"], row["set_version"]) for row in audit(served)]
    assert rows[2:] == [("calendar", "ana", WHY, 2), ("calendar", "ana", WHY, 3)]
    told = [line["flag"] for line in served.log.lines("flags.flag.changed")]
    assert [(t["key"], t["from"], t["to"], t["actor"]) for t in told] == [
        ("calendar", "on@1", "off@2", "ana"),
        ("calendar", "off@2", "on@3", "ana"),
    ]


def test_what_is_saved_reads_and_exports_the_same_through_every_flip(
    served: Served, ana: Person
) -> None:
    user = served.user()
    of_ai = user.run(**SHORT).of("run")[0]["calendarId"]
    own = user.saved(ENTRY)["id"]
    seen: list[list[bytes]] = []
    for act in (None, False, True, "kill", True, False):
        if act == "kill":
            ana.ask("POST", "/ops/flags/calendar/kill", {"reason": WHY})
        elif act is not None:
            turn(ana, "calendar", on=bool(act))
        paths = [f"/v1/calendars/{each}{rest}" for each in (of_ai, own) for rest in READS]
        seen.append([user.get(path).content for path in paths])
    assert all(contents == seen[0] for contents in seen)


READS = ("", "/export", "/export?format=csv", "/revisions")


def test_writes_made_while_off_are_there_when_on_again(served: Served, ana: Person) -> None:
    user = served.user()
    calendar = user.saved(ENTRY)
    path = f"/v1/calendars/{calendar['id']}"
    turn(ana, "calendar", on=False)
    entry = f"{path}/entries/{calendar['entries'][0]['id']}"
    assert user.ask("PATCH", entry, {"title": "While off"}, If_Match="1").status_code == 200
    exported = user.export(calendar["id"])
    assert b"While off" in exported
    turn(ana, "calendar", on=True)
    assert user.export(calendar["id"]) == exported


def test_a_run_that_is_on_keeps_its_variant_when_the_flag_turns(
    served: Served, ana: Person, simulator: Simulator
) -> None:
    user = served.user()
    path = f"/v1/calendars/{uuid4()}/runs"
    with (
        simulator.plays("mid-stall"),
        user.streaming("POST", path, RUN) as frames,
    ):
        run_id = next(frames).json()["runId"]
        turn(ana, "calendar", on=False)
        user.ask("POST", f"/v1/runs/{run_id}/cancel")
        assert list(frames)[-1].event == "done"
    line = served.log.one("calendar.run.finished", runId=run_id)
    assert line["flags"] == {"calendar": "ai@1"}


def test_a_kill_gives_everybody_template_until_it_is_turned_on(served: Served, ana: Person) -> None:
    user = served.user()
    answer = ana.ask("POST", "/ops/flags/calendar/kill", {"reason": WHY})
    assert (answer.status_code, answer.json()["state"]) == (200, "killed")
    assert policy_of(ana, "calendar")["kill"] is True
    assert policy_of(ana, "calendar")["percentBp"] == 10_000
    held = drill(ana, user, calendar="ai")
    assert run_of(user, X_Cadenza_Drill=held)["variant"] == "template"
    assert turn(ana, "calendar", on=True)["state"] == "on"
    assert run_of(user)["variant"] == "ai"


def test_the_same_act_twice_is_one_version_and_one_audit_row(served: Served, ana: Person) -> None:
    first = turn(ana, "calendar", on=False)
    again = turn(ana, "calendar", on=False)
    assert (first["changed"], again["changed"]) == (True, False)
    assert first["setVersion"] == again["setVersion"]
    assert len(audit(served)) == 3


def test_publish_cannot_be_turned_on_and_says_which_revision_is_missing(
    served: Served, ana: Person
) -> None:
    before, rows = ana.get("/ops/flags").json()["items"], audit(served)
    document = check_refused(served, switch(ana, "publish", on=True), 409, "SCHEMA_BEHIND")
    assert document["missing"] == policy_of(ana, "publish")["requires"]["schema"] == "0005"
    assert document["present"] < "0005"
    assert "cadenza migrate" in document["detail"]
    assert (ana.get("/ops/flags").json()["items"], audit(served)) == (before, rows)


def test_mistakes_of_operators_are_answered_well(served: Served, ana: Person) -> None:
    before = ana.get("/ops/flags").json()["items"]
    check_refused(served, switch(ana, "colour", on=True), 404, "NOT_FOUND")
    answer = switch(ana, "calendar", on=False, ifVersion=7)
    document = check_refused(served, answer, 409, "STALE_VERSION")
    assert (document["expected"], document["current"]["version"]) == (7, 1)
    for body, pointer in (
        ({"on": False, "reason": " "}, "/reason"),
        ({"on": False}, "/reason"),
        ({"on": "no", "reason": WHY}, "/on"),
        ({"on": False, "reason": WHY, "percent": 5}, "/percent"),
    ):
        answer = ana.ask("PUT", "/ops/flags/calendar", body)
        check_refused(served, answer, 422, "VALIDATION_ERROR", pointer)
    good = {"userId": str(uuid4()), "flags": {"calendar": "ai"}, "ttlS": 60, "reason": WHY}
    wrong: list[tuple[Json, str]] = [
        ({"userId": "alice"}, "/userId"),
        ({"flags": {}}, "/flags"),
        ({"flags": {"colour": "red"}}, "/flags/colour"),
        ({"flags": {"calendar": "live"}}, "/flags/calendar"),
        ({"ttlS": 601}, "/ttlS"),
        ({"ttlS": 0}, "/ttlS"),
        ({"reason": ""}, "/reason"),
    ]
    for changes, pointer in wrong:
        answer = ana.ask("POST", "/ops/drills", {**good, **changes})
        check_refused(served, answer, 422, "VALIDATION_ERROR", pointer)
    assert ana.get("/ops/flags").json()["items"] == before
    assert len(audit(served)) == 2


def test_a_viewer_sees_and_changes_nothing(served: Served) -> None:
    vic, rows = served.operator("vic"), audit(served)
    listing = vic.get("/ops/flags").json()
    assert {item["key"]: item["state"] for item in listing["items"]} == {
        "calendar": "on",
        "publish": "off",
    }
    assert listing["source"] == "database"
    body = {"userId": str(uuid4()), "flags": {"calendar": "ai"}, "ttlS": 60, "reason": WHY}
    for answer in (
        switch(vic, "calendar", on=False),
        vic.ask("POST", "/ops/flags/calendar/kill", {"reason": WHY}),
        vic.ask("POST", "/ops/drills", body),
    ):
        assert "vic" in check_refused(served, answer, 403, "FORBIDDEN")["detail"]
    assert audit(served) == rows


def test_a_drill_forces_one_users_runs_only_in_a_lane_of_their_own(
    served: Served, ana: Person
) -> None:
    user, other = served.user(), served.user()
    held = drill(ana, user, calendar="template")
    run = run_of(user, X_Cadenza_Drill=held)
    assert run["variant"] == "template"
    assert run_of(user)["variant"] == run_of(other)["variant"] == "ai"
    for person, id_ in ((other, held), (user, "made-up")):
        answer = person.ask("POST", f"/v1/calendars/{uuid4()}/runs", RUN, X_Cadenza_Drill=id_)
        check_refused(served, answer, 404, "DRILL_NOT_FOUND")
    for event in ("calendar.run.finished", "calendar.stream.finished"):
        assert served.log.one(event, runId=run["runId"])["lane"] == "drill"
        sql = "SELECT lane FROM cadenza.outcome WHERE run_id = %s AND signal = %s"
        assert served.rows(sql, run["runId"], event) == [{"lane": "drill"}]
    line = served.log.one("http.request.finished", requestId=run["requestId"])
    assert (line["lane"], line["flags"]) == ("drill", {"calendar": "template@1"})
    assert audit(served)[-1]["key"] == "drill"
    assert held not in str(audit(served))
    opened = served.log.one("flags.drill.opened")
    assert (opened["userId"], opened["lane"], opened["flag"]["actor"]) == (user.id, "drill", "ana")


def test_a_drill_gives_ai_to_one_user_while_the_flag_is_off(served: Served, ana: Person) -> None:
    turn(ana, "calendar", on=False)
    user = served.user()
    held = drill(ana, user, calendar="ai")
    assert run_of(user, X_Cadenza_Drill=held)["variant"] == "ai"
    assert run_of(user)["variant"] == "template"
    served.execute(
        "UPDATE cadenza.drill_context SET created_at = now() - interval '1 minute',"
        " expires_at = now() - interval '1 second'"
    )
    answer = user.ask("POST", f"/v1/calendars/{uuid4()}/runs", RUN, X_Cadenza_Drill=held)
    check_refused(served, answer, 404, "DRILL_NOT_FOUND")


def test_a_drill_cannot_publish_live_before_sending_is_shipped(served: Served, ana: Person) -> None:
    user = served.user()
    calendar = user.saved(ENTRY)
    held = drill(ana, user, publish="live")
    path = f"/v1/calendars/{calendar['id']}/publish"
    kept = served.kept_of(user.id)
    headers = {"Idempotency_Key": "one", "X_Cadenza_Drill": held}
    answer = user.ask("POST", path, {}, **headers)
    assert answer.json()["code"] == "SCHEMA_BEHIND"
    assert served.line_of(answer)["lane"] == "drill"
    assert served.kept_of(user.id) == kept
    answer = user.ask("POST", path, {"dryRun": True}, **headers)
    assert answer.status_code == 200, answer.text
    intent_id = answer.json()["results"][0]["intentId"]
    assert served.log.one("publish.intent.finished", intentId=intent_id)["lane"] == "drill"


@pytest.mark.parametrize("word", ["false", "Off", "0", "NO"])
def test_the_environments_kill_is_shown_and_cannot_be_overruled(serve: Serve, word: str) -> None:
    with serve(CALENDAR_SERVICE_ENABLED=word) as served:
        ana, user = served.operator(), served.user()
        shown = policy_of(ana, "calendar")
        assert (shown["state"], shown["override"], shown["kill"]) == ("OVERRIDE", "OVERRIDE", False)
        assert run_of(user)["variant"] == "template"
        held = drill(ana, user, calendar="ai")
        assert run_of(user, X_Cadenza_Drill=held)["variant"] == "template"
        assert turn(ana, "calendar", on=False)["state"] == "OVERRIDE"
        document = check_refused(served, switch(ana, "calendar", on=True), 409, "ENV_HARD_KILL")
        assert document["variable"] == "CALENDAR_SERVICE_ENABLED"
        assert served.user().get("/readyz").json()["flags"]["overrides"] == ["calendar"]


def test_without_a_provider_ai_is_not_there_and_template_is(serve: Serve) -> None:
    with serve(AI_BASE_URL="", AI_MODEL="") as served:
        ana, user = served.operator(), served.user()
        answer = user.ask("POST", f"/v1/calendars/{uuid4()}/runs", RUN)
        assert (answer.status_code, answer.json()["code"]) == (503, "AI_NOT_CONFIGURED")
        assert int(answer.headers["retry-after"]) > 0
        assert served.kept_of(user.id) == []
        turn(ana, "calendar", on=False)
        assert run_of(user)["variant"] == "template"
        document = check_refused(served, switch(ana, "calendar", on=True), 409, "SETTING_MISSING")
        assert document["missing"] == ["ai"]
