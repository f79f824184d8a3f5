"""The policy's wire shape: strict on the way in, the same on the way out."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from cadenza.errors import Invalid
from cadenza.flags.policy import LIST_LIMIT, first_values, from_wire

EXAMPLE = Path(__file__).parents[3] / "docs" / "reference" / "examples" / "flag-policy.json"
ALICE = "9750dcc2-516e-5ea0-8a26-54fa6ff6986b"


def wire(**changes: object) -> dict[str, object]:
    document = first_values(development=True, version=7)[0].as_wire()
    return document | changes


def pointers(document: object) -> set[tuple[str, str]]:
    with pytest.raises(Invalid) as refused:
        from_wire(document)
    return {(m.pointer, m.code) for m in refused.value.mistakes}


def test_the_contracts_example_is_a_policy_and_comes_back_as_it_was() -> None:
    document: object = json.loads(EXAMPLE.read_text())
    assert from_wire(document).as_wire() == document


@pytest.mark.parametrize("development", [True, False])
def test_first_values_are_valid_policies(*, development: bool) -> None:
    for policy in first_values(development=development, version=3):
        assert from_wire(policy.as_wire()) == policy


def test_development_begins_with_calendar_on_and_production_with_all_off() -> None:
    development = {p.key: p.summary() for p in first_values(development=True, version=1)}
    production = {p.key: p.summary() for p in first_values(development=False, version=1)}
    assert development == {"calendar": "on", "publish": "off"}
    assert production == {"calendar": "off", "publish": "off"}


def test_publish_waits_for_a_revision_that_is_not_shipped() -> None:
    calendar, publish = first_values(development=True, version=1)
    assert (calendar.requires.schema, calendar.requires.settings) == ("0003", ("ai",))
    assert (publish.requires.schema, publish.requires.settings) == ("0005", ())


def test_an_instant_of_expiry_survives_the_wire() -> None:
    document = wire(expiresAt="2026-12-24T18:00:00Z")
    assert from_wire(document).as_wire() == document


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"percentBp": 10_001}, ("/percentBp", "LESS_THAN_EQUAL")),
        ({"percentBp": -1}, ("/percentBp", "GREATER_THAN_EQUAL")),
        ({"percentBp": 33.3}, ("/percentBp", "INT_TYPE")),
        ({"percentBp": True}, ("/percentBp", "INT_TYPE")),
        ({"kill": "false"}, ("/kill", "BOOL_TYPE")),
        ({"kill": 0}, ("/kill", "BOOL_TYPE")),
        ({"salt": "a:b"}, ("/salt", "STRING_PATTERN_MISMATCH")),
        ({"salt": "a\n"}, ("/salt", "STRING_PATTERN_MISMATCH")),
        ({"allow": ["bob"]}, ("/allow/0", "VALUE_ERROR")),
        ({"allow": [ALICE.upper()]}, ("/allow/0", "VALUE_ERROR")),
        ({"deny": [ALICE, ALICE]}, ("/deny", "VALUE_ERROR")),
        ({"deny": [ALICE] * (LIST_LIMIT + 1)}, ("/deny", "TOO_LONG")),
        ({"deny": ALICE}, ("/deny", "LIST_TYPE")),
        ({"variants": {"on": "ai", "safe": "ai"}}, ("/variants", "UNKNOWN_VARIANT")),
        ({"variants": {"on": "ai"}}, ("/variants/safe", "MISSING")),
        ({"key": "export"}, ("/key", "UNKNOWN_FLAG")),
        ({"expiresAt": "2026-12-24T18:00:00"}, ("/expiresAt", "TIMEZONE_AWARE")),
        ({"owner": ""}, ("/owner", "STRING_TOO_SHORT")),
        ({"percent": 5}, ("/percent", "EXTRA_FORBIDDEN")),
    ],
)
def test_a_mistake_is_named_where_it_is(
    changes: dict[str, object], expected: tuple[str, str]
) -> None:
    assert expected in pointers(wire(**changes))


def test_a_flag_cannot_require_itself_or_one_that_does_not_exist() -> None:
    needs = {"schema": None, "settings": [], "flags": ["calendar", "export", "publish"]}
    assert pointers(wire(requires=needs)) == {
        ("/requires/flags/0", "UNKNOWN_FLAG"),
        ("/requires/flags/1", "UNKNOWN_FLAG"),
    }


def test_something_else_than_an_object_is_refused() -> None:
    assert pointers(["calendar"]) == {("", "MODEL_TYPE")}


def test_every_state_has_a_word() -> None:
    policy = replace(first_values(development=False, version=1)[0])
    assert [
        replace(policy, kill=True, percent_bp=10_000).summary(),
        replace(policy, stopped=True, percent_bp=10_000).summary(),
        replace(policy, percent_bp=10_000).summary(),
        replace(policy, percent_bp=125).summary(),
        replace(policy, allow=(ALICE,)).summary(),
        policy.summary(),
    ] == ["killed", "stopped", "on", "1.25%", "1 allowed", "off"]
