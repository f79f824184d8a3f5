"""A compiled document that is wrong in any branch is refused before it can be stored."""

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from typing import Any

import pytest

from cadenza.errors import Invalid
from cadenza.flags.compile import compile_set
from cadenza.flags.policy import Policy, first_values
from cadenza.flags.probe import Probe, expected, probes, prove

ALICE = "9750dcc2-516e-5ea0-8a26-54fa6ff6986b"
BOB = "0aa3b1f2-6c55-5d2e-9b0b-2f5b8a6f7c10"
CALENDAR = replace(
    first_values(development=False, version=4)[0], percent_bp=1_000, allow=(ALICE,), deny=(BOB,)
)
NOBODY: list[str] = []
RULES = {"kill", "stopped", "drill", "deny", "allow", "percent", "safe"}

Tamper = Callable[[dict[str, Any]], None]


def compiled(policy: Policy = CALENDAR) -> dict[str, Any]:
    return json.loads(compile_set([policy], set_version=4))


def chain(document: dict[str, Any]) -> list[Any]:
    return document["flags"]["calendar"]["targeting"]["if"]


def test_every_combination_of_switches_is_proven() -> None:
    for kill, stopped, edge in product((False, True), (False, True), (0, 1, 5_000, 9_999, 10_000)):
        policy = replace(CALENDAR, kill=kill, stopped=stopped, percent_bp=edge)
        prove([policy], compile_set([policy], set_version=4))


def test_the_probes_pass_through_every_rule_and_both_sides_of_the_edge() -> None:
    switches = [CALENDAR, replace(CALENDAR, kill=True), replace(CALENDAR, stopped=True)]
    seen = {expected(policy, probe)[0] for policy in switches for probe in probes(policy)}
    assert seen == RULES
    asked = {probe.bucket for probe in probes(CALENDAR)}
    assert {0, 999, 1_000, 9_999, None} <= asked


def test_deny_wins_over_allow_and_a_drill_over_both() -> None:
    policy = replace(CALENDAR, allow=(ALICE,), deny=(ALICE,))
    prove([policy], compile_set([policy], set_version=4))
    assert expected(policy, Probe(user_id=ALICE, bucket=0)) == ("deny", "template")
    drilled = Probe(user_id=ALICE, bucket=0, drill="ai")
    assert expected(policy, drilled) == ("drill", "ai")
    assert expected(replace(policy, kill=True), drilled) == ("kill", "template")


def swap_first_links(document: dict[str, Any]) -> None:
    links = chain(document)
    links[0], links[2] = links[2], links[0]


def set_link(index: int, value: object) -> Tamper:
    def tamper(document: dict[str, Any]) -> None:
        chain(document)[index] = value

    return tamper


def set_edge(edge: int) -> Tamper:
    return set_link(12, {"<": [{"var": ["bucket", 10_000]}, edge]})


def set_flag(name: str, value: object) -> Tamper:
    def tamper(document: dict[str, Any]) -> None:
        document["flags"]["calendar"][name] = value

    return tamper


def set_variant(name: str, value: str) -> Tamper:
    def tamper(document: dict[str, Any]) -> None:
        document["flags"]["calendar"]["variants"][name] = value

    return tamper


MISCOMPILED: dict[str, Tamper] = {
    "the edge is one too high": set_edge(1_001),
    "the edge is one too low": set_edge(999),
    "an absent bucket counts as the lowest": set_link(12, {"<": [{"var": "bucket"}, 1_000]}),
    "kill is dropped": set_link(0, value=False),
    "stopped is dropped": set_link(2, value=False),
    "allow is forgotten": set_link(10, {"in": [{"var": "targetingKey"}, NOBODY]}),
    "deny is forgotten": set_link(8, {"in": [{"var": "targetingKey"}, NOBODY]}),
    "deny and allow change places": set_link(8, {"in": [{"var": "targetingKey"}, [ALICE]]}),
    "a drill turns on what it should turn off": set_link(6, {"===": [{"var": "drill"}, "x"]}),
    "allow answers the safe word": set_variant("allow", "template"),
    "the else answers the new path": set_variant("safe", "ai"),
    "kill answers the new path": set_variant("kill", "ai"),
    "the flag is disabled": set_flag("state", "DISABLED"),
    "the flag has no chain": set_flag("targeting", {}),
    "flagd draws the users itself": set_link(12, {"fractional": [["percent", 10], ["safe", 90]]}),
    "the else is a variant that does not exist": set_link(14, "of"),
    "the default is another": set_flag("defaultVariant", "allow"),
}


@pytest.mark.parametrize("name", MISCOMPILED)
def test_a_miscompile_is_refused(name: str) -> None:
    policies = [replace(CALENDAR, kill=name.startswith("kill"), stopped=name.startswith("stopped"))]
    document = json.loads(compile_set(policies, set_version=4))
    prove(policies, json.dumps(document))
    MISCOMPILED[name](document)
    with pytest.raises(Invalid) as refused:
        prove(policies, json.dumps(document))
    assert refused.value.code == "FLAGS_NOT_PROVEN"
    assert refused.value.mistakes[0].pointer.startswith("/flags")


def test_a_policy_that_was_left_out_is_refused() -> None:
    calendar, publish = first_values(development=True, version=1)
    with pytest.raises(Invalid, match="FlagNotFound"):
        prove([calendar, publish], compile_set([calendar], set_version=1))


def test_shared_evaluators_are_refused() -> None:
    document = compiled() | {"$evaluators": {"anyone": {"!!": [True]}}}
    with pytest.raises(Invalid):
        prove([CALENDAR], json.dumps(document))
