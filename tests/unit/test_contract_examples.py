"""The examples of the contract load, and say what the code says."""

import hashlib
import json
import re
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import cast
from uuid import UUID

import pytest

from cadenza import events
from cadenza.errors import CadenzaError, Invalid, Mistake, Reason
from cadenza.events import Lane, Verdict

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"
EXAMPLES = REFERENCE / "examples"
STREAMS = sorted(path.name for path in EXAMPLES.glob("run-stream*.txt"))
DOCUMENTS = sorted(path.name for path in EXAMPLES.glob("*.json"))
ENTRY_KEYS = {
    *("id", "version", "title", "channel", "format", "copy", "script", "targetAudience"),
    *("date", "time", "timezone", "hashtags", "media", "status"),
}
PUBLISH_CODES = {
    *("CHANNEL_UNSUPPORTED", "CHANNEL_AUTH_MISSING", "CHANNEL_AUTH_EXPIRED"),
    *("CHANNEL_SCOPE_MISSING", "ACCOUNT_AMBIGUOUS", "OVER_LIMIT", "MISSING_MEDIA"),
    *("IN_THE_PAST", "RUN_NOT_REVIEWED", "ALREADY_SCHEDULED", "ALREADY_PUBLISHED"),
}
INTENT_STATES = {
    *("dry_run", "scheduled", "held", "publishing", "retry_wait", "published"),
    *("unknown", "needs_attention", "missed", "cancelled"),
}

Document = dict[str, object]


@dataclass(frozen=True, slots=True)
class Frame:
    event: str
    id: tuple[int, int] | None
    data: Document


def load(name: str) -> Document:
    return cast("Document", json.loads((EXAMPLES / name).read_text()))


def load_list(name: str) -> list[Document]:
    return cast("list[Document]", json.loads((EXAMPLES / name).read_text()))


def parse(text: str) -> list[Frame]:
    """Read frames as a browser does: a frame counts only once its blank line has arrived."""
    frames: list[Frame] = []
    for block in text.split("\n\n")[:-1]:
        lines = [line for line in block.splitlines() if not line.startswith(":")]
        named = dict(line.split(": ", 1) for line in lines)
        if "data" not in named:
            continue
        epoch, _, seq = named.get("id", "").partition(".")
        frames.append(
            Frame(
                event=named["event"],
                id=(int(epoch), int(seq)) if epoch else None,
                data=cast("Document", json.loads(named["data"])),
            )
        )
    return frames


def frames_of(name: str) -> list[Frame]:
    return parse((EXAMPLES / name).read_text())


def entries_of(frames: list[Frame]) -> list[Document]:
    return [cast("Document", f.data["entry"]) for f in frames if f.event == "entry"]


def instant(value: object) -> datetime:
    text = str(value)
    assert text.endswith("Z")
    return datetime.fromisoformat(text).astimezone(UTC)


def test_every_example_is_shown_by_the_contract() -> None:
    page = (REFERENCE / "contracts.md").read_text()
    names = {path.name for path in EXAMPLES.iterdir()}
    assert names == set(re.findall(r"\(examples/([^)]+)\)", page))
    assert names == {*STREAMS, *DOCUMENTS}


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_ends_in_exactly_one_terminal_frame(name: str) -> None:
    kinds = [frame.event for frame in frames_of(name)]
    assert [kind in {"done", "error"} for kind in kinds] == [False] * (len(kinds) - 1) + [True]
    assert set(kinds) <= {"run", "entry", "done", "reset", "error"}


@pytest.mark.parametrize("name", STREAMS)
def test_ids_only_grow_and_frames_about_this_connection_have_none(name: str) -> None:
    frames = frames_of(name)
    ids = [frame.id for frame in frames if frame.id is not None]
    assert ids == [(1, ids[0][1] + step) for step in range(len(ids))]
    assert {frame.event for frame in frames if frame.id is None} <= {"reset", "error"}
    assert all(frame.event not in {"reset", "error"} for frame in frames if frame.id is not None)


def test_a_resumed_stream_is_the_rest_of_the_whole_one() -> None:
    assert frames_of("run-stream-resumed.txt") == frames_of("run-stream.txt")[2:]


def test_a_reset_replays_the_whole_run() -> None:
    reset, *replayed = frames_of("run-stream-reset.txt")
    assert (reset.event, reset.data) == ("reset", {"reason": "unknown_event_id"})
    assert replayed == frames_of("run-stream.txt")


def test_the_last_frame_counts_the_entries_before_it() -> None:
    frames = frames_of("run-stream.txt")
    done = frames[-1].data
    shown = [frame for frame in frames if frame.event == "entry"]
    assert done["entries"] == len(shown)
    assert [frame.data["index"] for frame in shown] == list(range(1, len(shown) + 1))
    assert any(
        (end["status"], end["reason"]) == (done["status"], done["reason"])
        for end in load_list("run-ends.json")
    )


def test_the_error_frame_is_a_known_problem() -> None:
    error = frames_of("run-stream-error.txt")[-1].data
    codes = {kind.code for kind in all_errors()}
    assert error["code"] in codes
    assert error["type"] == f"urn:cadenza:problem:{error['code']}"


def test_every_entry_has_every_field_and_ids_that_are_uuids() -> None:
    shown = [load("entry.json"), *(e for name in STREAMS for e in entries_of(frames_of(name)))]
    assert {frozenset(entry) for entry in shown} == {frozenset(ENTRY_KEYS)}
    assert all(UUID(str(entry["id"])) for entry in shown)
    assert entries_of(frames_of("run-stream.txt"))[0] == load("entry.json")


def test_the_log_line_has_every_required_key_and_nothing_outside_the_contract() -> None:
    line = load("log-line.json")
    kinds = {kind.name: kind for kind in events.EVENTS}
    kind = kinds[str(line["event"])]
    assert set(line) == {*events.REQUIRED, *kind.extra}
    assert set(events.REQUIRED) - {
        "schema",
        "timestamp",
        "level",
        "event",
        "version",
        "replica",
    } <= {events.camel(field.name) for field in fields(kind)}
    assert line["schema"] == events.SCHEMA
    assert instant(line["timestamp"])
    assert Reason(str(line["reason"]))
    assert Verdict(str(line["verdict"]))
    assert Lane(str(line["lane"]))


def test_the_log_line_tells_the_end_that_the_stream_showed() -> None:
    line, done = load("log-line.json"), frames_of("run-stream.txt")[-1].data
    same = ("status", "reason", "entries", "rejected")
    assert [line[key] for key in same] == [done[key] for key in same]


def test_every_end_of_a_run_has_a_known_reason_and_verdict() -> None:
    ends = load_list("run-ends.json")
    assert all(end["reason"] is None or Reason(str(end["reason"])) for end in ends)
    assert all(Verdict(str(end["verdict"])) for end in ends)
    assert [end["status"] for end in ends if end["reason"] is None] == ["completed"]
    timeouts = {reason for reason in Reason if reason.startswith("timeout_")}
    provider = {reason for reason in Reason if reason.startswith("provider_")}
    told = {str(end["reason"]): end["status"] for end in ends}
    assert {told.get(reason) for reason in timeouts} == {"timeout"}
    assert {told.get(reason) for reason in provider} == {"failed"}


def test_the_problem_names_its_mistakes_as_the_error_tree_does() -> None:
    problem = load("problem.json")
    assert problem["code"] == Invalid.code
    assert problem["type"] == f"urn:cadenza:problem:{Invalid.code}"
    mistakes = cast("list[Document]", problem["errors"])
    assert {frozenset(mistake) for mistake in mistakes} == {
        frozenset(f.name for f in fields(Mistake))
    }


def test_the_intent_is_frozen_and_in_a_known_state() -> None:
    intent = load("intent.json")
    frozen = cast("dict[str, str]", intent["request"])
    assert re.fullmatch(r"[0-9a-f]{64}", frozen["sha256"])
    assert intent["state"] in INTENT_STATES
    assert Reason(str(intent["cause"])) in {Reason.FLAG, Reason.REQUESTED}
    assert instant(intent["publishAt"]) < instant(intent["notAfter"])


def test_a_publish_answers_per_entry_with_an_intent_or_with_a_code() -> None:
    results = cast("list[Document]", load("publish-results.json")["results"])
    for result in results:
        accepted = result["code"] is None
        assert accepted == (result["intentId"] is not None)
        assert accepted == (result["state"] in INTENT_STATES)
        assert accepted or result["code"] in PUBLISH_CODES
        assert accepted or (result["state"], bool(result["detail"])) == ("refused", True)
    assert load("intent.json")["id"] in [result["intentId"] for result in results]
    assert load("publish-request.json")["entryIds"] == [result["entryId"] for result in results]


def test_a_decision_takes_its_variant_and_version_from_the_policy() -> None:
    policy, decision = load("flag-policy.json"), load("flag-decision.json")
    variants = cast("dict[str, str]", policy["variants"])
    assert decision["variant"] in variants.values()
    assert (decision["key"], decision["version"]) == (policy["key"], policy["version"])
    assert cast("int", decision["bucket"]) < cast("int", policy["percentBp"])
    assert decision["userId"] not in cast("list[str]", policy["allow"])


def test_the_bucket_of_the_decision_is_the_one_the_contract_describes() -> None:
    policy, decision = load("flag-policy.json"), load("flag-decision.json")
    user_id = str(decision["userId"])
    named = f"{policy['salt']}:{policy['key']}:{user_id}".encode()
    first8 = hashlib.sha256(named).digest()[:8]
    assert decision["bucket"] == int.from_bytes(first8, "big") % 10_000


def test_the_closed_sets_of_the_page_are_those_tested_here() -> None:
    page = (REFERENCE / "contracts.md").read_text()
    assert all(f"`{code}`" in page for code in PUBLISH_CODES)
    states = page.partition("- States: `")[2].partition("`")[0]
    assert set(states.split()) == INTENT_STATES


def all_errors() -> list[type[CadenzaError]]:
    found, queue = [CadenzaError], [CadenzaError]
    while queue:
        below = queue.pop().__subclasses__()
        found += below
        queue += below
    return found
