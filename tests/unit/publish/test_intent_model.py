"""The states of an intent are a graph that is checked, and an entry's status follows from them."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cadenza.errors import CadenzaError
from cadenza.events import Lane
from cadenza.publish.model import (
    INITIAL,
    TERMINAL,
    TRANSITIONS,
    Intent,
    IntentState,
    Mode,
    as_wire,
    check_graph,
    entry_status,
    media_of,
)

EXAMPLE = Path(__file__).parents[3] / "docs" / "reference" / "examples" / "intent.json"
S = IntentState


def test_the_edges_are_those_of_the_contract() -> None:
    contract = {
        "scheduled": "publishing held missed cancelled",
        "held": "scheduled missed cancelled",
        "publishing": "published retry_wait unknown needs_attention held",
        "retry_wait": "publishing held missed cancelled",
        "unknown": "published scheduled needs_attention",
        "needs_attention": "scheduled published cancelled",
        "missed": "scheduled cancelled",
        "dry_run": "",
        "published": "",
        "cancelled": "",
    }
    assert {s.value: set(t) for s, t in TRANSITIONS.items()} == {
        state: set(edges.split()) for state, edges in contract.items()
    }
    assert {"dry_run", "scheduled"} == INITIAL
    assert {"dry_run", "published", "cancelled"} == TERMINAL


@pytest.mark.parametrize(
    "change",
    [
        {S.CANCELLED: frozenset({S.SCHEDULED})},
        {S.PUBLISHED: frozenset({S.SCHEDULED})},
        {S.HELD: frozenset[IntentState]()},
        {S.PUBLISHING: TRANSITIONS[S.PUBLISHING] - {S.RETRY_WAIT}},
    ],
)
def test_a_broken_graph_is_refused(change: Mapping[IntentState, frozenset[IntentState]]) -> None:
    with pytest.raises(CadenzaError):
        check_graph({**TRANSITIONS, **change})


def test_a_graph_without_one_state_is_refused() -> None:
    with pytest.raises(CadenzaError):
        check_graph({s: t for s, t in TRANSITIONS.items() if s is not S.MISSED})


@pytest.mark.parametrize(
    ("states", "status"),
    [
        ([], "draft"),
        ([S.DRY_RUN, S.CANCELLED], "draft"),
        ([S.PUBLISHED], "published"),
        ([S.PUBLISHED, S.RETRY_WAIT], "scheduled"),
        ([S.SCHEDULED, S.HELD], "held"),
        ([S.HELD, S.PUBLISHING], "publishing"),
        ([S.PUBLISHING, S.MISSED], "missed"),
        ([S.MISSED, S.UNKNOWN], "unknown"),
        ([S.UNKNOWN, S.NEEDS_ATTENTION], "needs_attention"),
    ],
)
def test_the_worst_state_is_the_entrys_status(states: list[IntentState], status: str) -> None:
    assert entry_status(states) == status


@given(st.lists(st.sampled_from(IntentState)))
def test_order_and_repetition_do_not_change_a_status(states: list[IntentState]) -> None:
    assert entry_status(states) == entry_status([*reversed(states), *states, S.DRY_RUN])


def test_an_intent_on_the_wire_is_the_contracts_example() -> None:
    example = json.loads(EXAMPLE.read_text())
    intent = Intent(
        id=UUID(example["id"]),
        entry_id=UUID(example["entryId"]),
        entry_version=1,
        calendar_id=UUID(example["calendarId"]),
        run_id=UUID(example["runId"]),
        request_id=example["requestId"],
        user_id=UUID(example["userId"]),
        channel="instagram",
        account_id=UUID(example["accountId"]),
        mode=Mode.DRY_RUN,
        state=S.DRY_RUN,
        cause="flag",
        publish_at=datetime(2026, 12, 1, 8, tzinfo=UTC),
        not_after=datetime(2026, 12, 1, 8, 30, tzinfo=UTC),
        flag_variant="dry_run",
        flag_version=12,
        flag_source="database",
        request={"calls": []},
        request_sha256=example["request"]["sha256"],
        frozen_at=datetime(2026, 11, 23, 9, 21, 52, 164000, tzinfo=UTC),
        lane=Lane.LIVE,
    )
    assert as_wire(intent) == example
    assert as_wire(intent, with_payload=True)["request"] == {
        **example["request"],
        "payload": {"calls": []},
    }


@pytest.mark.parametrize(
    ("reference", "mime"),
    [
        ("https://cdn.example/a.JPG?w=1", "image/jpeg"),
        ("clip.mp4", "video/mp4"),
        ("01a209bb", "application/octet-stream"),
    ],
)
def test_the_kind_of_media_is_told_by_its_ending(reference: str, mime: str) -> None:
    assert (media_of(reference).id, media_of(reference).mime) == (reference, mime)
