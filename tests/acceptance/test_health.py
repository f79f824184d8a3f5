"""Whether an instance is alive, ready and honest; and what it counts."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from cadenza.errors import Reason
from served import ENTRY, RUN, Json, Person, Serve, Served, Simulator

LABELS = {"channel", "outcome", "reason", "version", "variant", "le"}


@pytest.fixture
def nobody(shared: Served) -> Person:
    """Somebody without a token."""
    return shared.person("")


def count(person: Person, name: str, **labels: str) -> float:
    page = person.get("/metrics").text
    return sum(
        sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def test_a_healthy_instance_says_so_to_anybody(shared: Served, nobody: Person) -> None:
    assert nobody.get("/livez").json() == {"alive": True}
    ready = nobody.get("/readyz")
    state = ready.json()
    assert ready.status_code == 200
    assert (state["ready"], state["reasons"], state["degraded"]) == (True, [], [])
    assert state["database"]["schema"] == state["database"]["schemaNeeded"]
    assert (state["flags"]["version"], state["flags"]["source"]) == (1, "database")
    assert state["flags"]["overrides"] == []
    assert state["ai"] == {"configured": True}
    assert "DEVELOPMENT" in state["notice"]
    assert state["replica"] == shared.runtime.replica
    for path in ("/livez", "/readyz", "/metrics"):
        assert nobody.get(path).headers["cache-control"] == "no-store"


def test_publishing_is_honest_about_not_being_there(nobody: Person) -> None:
    answer = nobody.get("/healthz/publishing")
    assert answer.status_code == 503
    assert answer.json()["willPublish"] is False
    assert "dry run" in answer.json()["reason"]


def test_probes_are_counted_and_not_logged(shared: Served, nobody: Person) -> None:
    before = count(nobody, "cadenza_http_requests_total", outcome="ok")
    for path in ("/livez", "/readyz", "/metrics"):
        assert nobody.get(path).status_code == 200
    assert count(nobody, "cadenza_http_requests_total", outcome="ok") >= before + 3
    shared.line_of(shared.user().get("/v1/calendars"))
    routes = {line["route"] for line in shared.log.lines("http.request.finished")}
    assert not routes & {"/livez", "/readyz", "/metrics"}


def test_a_draining_instance_is_not_ready_takes_no_run_and_still_reads(served: Served) -> None:
    user, nobody = served.user(), served.person("")
    calendar = user.saved(ENTRY)
    served.runtime.phase.is_draining = True
    state = nobody.get("/readyz")
    assert (state.status_code, state.json()["reasons"]) == (503, ["draining"])
    assert nobody.get("/livez").status_code == 200
    answer = user.ask("POST", f"/v1/calendars/{calendar['id']}/runs", RUN)
    assert (answer.status_code, answer.json()["code"]) == (503, "UNAVAILABLE")
    assert int(answer.headers["retry-after"]) > 0
    assert answer.json()["retryable"] is True
    assert served.line_of(answer)["status"] == "failed"
    assert user.calendar(calendar["id"]) == calendar


def test_a_schema_that_is_behind_is_not_ready_and_says_which_is_needed(served: Served) -> None:
    served.execute("UPDATE cadenza.schema_version SET version_num = '0001'")
    answer = served.person("").get("/readyz")
    state: Json = answer.json()
    assert (answer.status_code, state["reasons"]) == (503, ["schema_behind"])
    assert state["database"]["schema"] == "0001"
    assert state["database"]["schemaNeeded"] > "0001"


def test_without_a_provider_it_is_ready_and_says_what_it_lacks(serve: Serve) -> None:
    with serve(AI_BASE_URL="", AI_MODEL="") as served:
        answer = served.person("").get("/readyz")
        assert (answer.status_code, answer.json()["degraded"]) == (200, ["ai_not_configured"])


def test_metrics_count_each_end_once_and_drills_apart(served: Served, simulator: Simulator) -> None:
    user, ana, nobody = served.user(), served.operator(), served.person("")
    user.run(end="2027-03-01")
    with simulator.plays("eof", stallAfter=1):
        user.run(end="2027-03-01")
    drill = {"userId": user.id, "flags": {"calendar": "template"}, "ttlS": 60, "reason": "drill"}
    held = ana.ask("POST", "/ops/drills", drill).json()["id"]
    path = "/v1/calendars/5b0e0000-0000-4000-8000-00000000beef/runs"
    user.stream("POST", path, RUN, X_Cadenza_Drill=held)
    calendar = user.saved(ENTRY)
    user.ask("POST", f"/v1/calendars/{calendar['id']}/publish", {}, Idempotency_Key="one")
    runs = "cadenza_calendar_runs_total"
    assert count(nobody, runs) == 2
    assert count(nobody, runs, outcome="good", reason="none", variant="ai") == 1
    assert count(nobody, runs, outcome="bad", reason="provider_truncated", variant="ai") == 1
    assert count(nobody, "cadenza_drill_outcomes_total", outcome="good") >= 1
    intents = "cadenza_publish_intents_total"
    assert count(nobody, intents, channel="bluesky", outcome="ignored", reason="flag") == 1
    assert count(nobody, "cadenza_active_runs") == 0
    assert count(nobody, "cadenza_log_fields_dropped_total") == 0


def test_metrics_have_only_labels_of_closed_sets(shared: Served, nobody: Person) -> None:
    user = shared.user()
    user.run(end="2027-03-01")
    user.get("/v1/calendars/x")
    words = {*Reason, "none"}
    page = nobody.get("/metrics")
    assert page.headers["content-type"].startswith("text/plain; version=0.0.4")
    for family in text_string_to_metric_families(page.text):
        assert family.name.startswith("cadenza_")
        for sample in family.samples:
            assert set(sample.labels) <= LABELS
            assert sample.labels.get("reason", "none") in words
            assert user.id not in str(sample.labels)
