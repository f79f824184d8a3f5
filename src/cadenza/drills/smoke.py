"""The smoke test: proves on a running Cadenza that a flag can be taken back without loss.

It uses calendars of its own and, unless told to flip the real flag, a drill context: decisions
are forced for the canary user only, in the drill lane, which pages nobody.
"""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from cadenza.drills.evidence import Line, log_lines, missing_from
from cadenza.drills.visit import HEALTH, Visit
from cadenza.errors import CadenzaError, Conflict, Unavailable

EDITED_OFF, EDITED_ON = "smoke: edited while off", "smoke: edited while on"
DRILL_TTL_S = 120
Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One row of the evidence: what was asked for, whether it holds, and what was seen."""

    proves: str
    what: str
    passed: bool
    evidence: str


@dataclass(slots=True)
class _Story:
    """What the smoke test has seen so far."""

    visit: Visit
    checks: list[Check] = field(default_factory=list[Check])

    def check(self, proves: str, what: str, passed: object, evidence: str) -> None:
        self.checks.append(Check(proves=proves, what=what, passed=bool(passed), evidence=evidence))


def run_smoke(
    visit: Visit,
    *,
    log: Callable[[], list[Line]] | None,
    flip: bool = False,
    progress: Progress = lambda _step: None,
) -> list[Check]:
    """Return the evidence, one row per check; a step that cannot be done is a failed row.

    `log` reads the service's log lines; None leaves the log rows failed, saying so.
    """
    story = _Story(visit)
    try:
        _tell(story, flip=flip, progress=progress)
    except CadenzaError as error:
        story.check("IV1", "the smoke test could go on", passed=False, evidence=error.detail)
    progress("reading the log")
    _check_log(story, log)
    return story.checks


def _tell(story: _Story, *, flip: bool, progress: Progress) -> None:
    visit, first, second = story.visit, str(uuid4()), str(uuid4())
    progress("looking at health")
    ready = visit.ask("GET", "/readyz", what=HEALTH)
    story.check("IV1", "the instance is ready", ready.is_success, f"{ready.status_code}")
    with _state(visit, "off", flip=flip):
        progress("calendar off: a run on the template")
        _check_run(story, first, "off", "template")
        _edit(story, first, 0, EDITED_OFF)
        before = _snapshot(visit, first)
    with _state(visit, "on", flip=flip):
        progress("calendar on: a run by AI")
        _check_run(story, second, "on", "ai")
        _compare(story, "on: the export is byte-equal", before, _snapshot(visit, first))
        _edit(story, first, 1, EDITED_ON)
        before, other = _snapshot(visit, first), _snapshot(visit, second)
    with _state(visit, "off", flip=flip):
        progress("calendar off again: nothing is lost")
        _check_run(story, str(uuid4()), "off again", "template")
        _compare(story, "off again: byte-equal", before, _snapshot(visit, first))
        _compare(story, "off again: AI's entries too", other, _snapshot(visit, second))
        _check_edits(story, first, before)
        _check_publish(story, first)
        _sample_refusals(story, first)


def _check_run(story: _Story, calendar_id: str, state: str, variant: str) -> None:
    run = story.visit.stream(calendar_id, _order(), what=f"a run while {state}")
    story.check("IV1", f"{state}: the {variant} produces", run.variant == variant, run.variant)
    ended = f"{run.done['status']}, {len(run.entries)} entries"
    story.check("IV1", f"{state}: the run completes", run.done["status"] == "completed", ended)


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """A calendar's exports, and how many entries it has."""

    as_json: bytes
    as_csv: bytes
    count: int


def _snapshot(visit: Visit, calendar_id: str) -> _Snapshot:
    path = f"/v1/calendars/{calendar_id}"
    exports = [
        visit.ask("GET", f"{path}/export?format={name}", what="an export", calendar_id=calendar_id)
        for name in ("json", "csv")
    ]
    return _Snapshot(exports[0].content, exports[1].content, len(_entries(visit, calendar_id)))


def _entries(visit: Visit, calendar_id: str) -> list[dict[str, Any]]:
    answer = visit.ask(
        "GET", f"/v1/calendars/{calendar_id}", what="a read", calendar_id=calendar_id
    )
    if answer.is_error:
        raise Unavailable(f"The calendar cannot be read: {answer.status_code}")
    entries: list[dict[str, Any]] = answer.json()["entries"]
    return entries


def _edit(story: _Story, calendar_id: str, place: int, text: str) -> None:
    entry = _entries(story.visit, calendar_id)[place]
    answer = story.visit.ask(
        "PATCH",
        f"/v1/calendars/{calendar_id}/entries/{entry['id']}",
        what="an edit",
        body={"copy": text},
        headers={"If-Match": f'"{entry["version"]}"'},
        calendar_id=calendar_id,
    )
    story.check(
        "IV1", f"{text.removeprefix('smoke: ')}: saved", answer.is_success, f"{answer.status_code}"
    )


def _check_edits(story: _Story, calendar_id: str, before: _Snapshot) -> None:
    """Check that both edits are still read, exported, and can be saved as a whole."""
    visit = story.visit
    read = visit.ask("GET", f"/v1/calendars/{calendar_id}", what="a read", calendar_id=calendar_id)
    texts = {entry["copy"] for entry in read.json()["entries"]}
    story.check(
        "IV1", "both edits are read", {EDITED_OFF, EDITED_ON} <= texts, f"2 of {len(texts)} texts"
    )
    exported = EDITED_OFF.encode() in before.as_csv and EDITED_ON.encode() in before.as_csv
    story.check("IV1", "both edits are exported", exported, f"{len(before.as_csv)} bytes")
    saved = visit.ask(
        "PUT",
        f"/v1/calendars/{calendar_id}/entries",
        what="a save",
        body={"entries": read.json()["entries"]},
        headers={"If-Match": f'"{read.json()["revision"]}"'},
        calendar_id=calendar_id,
    )
    story.check("IV1", "all is saved again", saved.is_success, f"{saved.status_code}")
    after = _snapshot(visit, calendar_id)
    counts = f"{before.count} before, {after.count} after"
    story.check("IV1", "counts before = after", before.count == after.count, counts)


def _check_publish(story: _Story, calendar_id: str) -> None:
    answer = story.visit.ask(
        "POST",
        f"/v1/calendars/{calendar_id}/publish",
        what="a publish",
        body={"dryRun": True},
        headers={"Idempotency-Key": str(uuid4())},
        calendar_id=calendar_id,
    )
    results: list[dict[str, Any]] = answer.json().get("results", [])
    intents = [(result["mode"], result["state"]) for result in results if result["intentId"]]
    refused = {str(result["code"]) for result in results if not result["intentId"]}
    is_dry = bool(results) and set(intents) <= {("dry_run", "dry_run")}
    # Without an account, as in a new production, each refusal must at least say so.
    is_told = bool(intents) or refused == {"CHANNEL_AUTH_MISSING"}
    told = f", refused {', '.join(sorted(refused))}" if refused else ""
    evidence = f"{answer.status_code}, {len(intents)} dry runs{told}"
    story.check("IV1", "publishing stays a dry run", is_dry and is_told, evidence)


def _sample_refusals(story: _Story, calendar_id: str) -> None:
    """Ask three things that are refused, so that the log is sampled on error paths too."""
    visit, path = story.visit, f"/v1/calendars/{calendar_id}"
    wrong = visit.ask(
        "POST",
        f"{path}/runs",
        what="a run that ends before it starts",
        body=_order() | {"end": "2020-01-01"},
        calendar_id=calendar_id,
    )
    unmatched = visit.ask(
        "PATCH",
        f"{path}/entries/{uuid4()}",
        what="an edit without If-Match",
        body={"copy": "x"},
        calendar_id=calendar_id,
    )
    unkeyed = visit.ask(
        "POST", f"{path}/publish", what="a publish without a key", body={}, calendar_id=calendar_id
    )
    seen = [wrong.status_code, unmatched.status_code, unkeyed.status_code]
    story.check("IV3", "mistakes are refused with problems", seen == [422, 428, 422], str(seen))


def _compare(story: _Story, what: str, before: _Snapshot, after: _Snapshot) -> None:
    same = before == after
    story.check("IV1", what, same, f"{len(before.as_json)} B JSON, {len(before.as_csv)} B CSV")


@contextmanager
def _state(visit: Visit, state: str, *, flip: bool) -> Generator[None]:
    """Hold the calendar flag in one state: by a drill context, or by flipping it for all."""
    if flip:
        before = _plain_state(visit)
        _flip(visit, state)
        try:
            yield
        finally:
            _flip(visit, before)
        return
    variant = {"on": "ai", "off": "template"}[state]
    body = {
        "userId": visit.user_id,
        "flags": {"calendar": variant},
        "ttlS": DRILL_TTL_S,
        "reason": f"smoke test: calendar {state}",
    }
    visit.drill = visit.operate("POST", "/ops/drills", body=body)["id"]
    try:
        yield
    finally:
        visit.drill = None


def _plain_state(visit: Visit) -> str:
    listed: list[dict[str, Any]] = visit.operate("GET", "/ops/flags")["items"]
    policy = next(item for item in listed if item["key"] == "calendar")
    plain = {0: "off", 10000: "on"}.get(policy["percentBp"])
    if plain is None or policy["kill"] or policy["stopped"] or policy["allow"] or policy["deny"]:
        raise Conflict("The calendar flag is in mid-rollout: smoke it without --flip")
    return plain


def _flip(visit: Visit, state: str) -> None:
    body = {"on": state == "on", "reason": f"smoke test: {state}"}
    visit.operate("PUT", "/ops/flags/calendar", body=body)


def _check_log(story: _Story, log: Callable[[], list[Line]] | None) -> None:
    """Check that every request made here is in the log, once, with the fields it must have."""
    if log is None:
        story.check("IV3", "the log was read", passed=False, evidence="no log: use --log FILE")
        return
    wanted = story.visit.asked
    found = log_lines(log, [a.request_id for a in wanted if a.what != HEALTH])
    faults = [
        f"{asked.what}: {fault}"
        for asked in wanted
        for fault in missing_from(asked, found, story.visit.user_id)
    ]
    runs = sum(asked.run_id is not None for asked in wanted)
    evidence = "; ".join(faults[:3]) or f"{len(wanted)} requests, {runs} of them runs"
    story.check("IV3", "each request's log lines are complete", not faults, evidence)


def _order() -> dict[str, Any]:
    start = datetime.now(UTC).date() + timedelta(days=30)
    return {
        "channels": ["bluesky", "dryrun"],
        "cadence": "daily",
        "start": start.isoformat(),
        "end": (start + timedelta(days=2)).isoformat(),
        "timezone": "Europe/Madrid",
    }


def as_document(checks: list[Check]) -> dict[str, Any]:
    """Return the evidence as a JSON document."""
    passed = sum(check.passed for check in checks)
    rows = [
        {"proves": c.proves, "what": c.what, "passed": c.passed, "evidence": c.evidence}
        for c in checks
    ]
    return {"passed": passed, "failed": len(checks) - passed, "checks": rows}
