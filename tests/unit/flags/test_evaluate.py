"""Decisions through the OpenFeature client, as the product takes them."""

from collections.abc import Generator
from dataclasses import replace
from typing import Any
from uuid import NAMESPACE_DNS, uuid4, uuid5

import pytest
from openfeature import api
from openfeature.client import OpenFeatureClient

from cadenza.errors import CadenzaError, Invalid, NotFound
from cadenza.flags.compile import bucket_of
from cadenza.flags.drill import Drill
from cadenza.flags.evaluate import Evaluation, connect, disconnect, evaluate
from cadenza.flags.policy import Policy, first_values
from cadenza.flags.provider import CadenzaProvider, flag_set, hold, packaged

ALICE = "9750dcc2-516e-5ea0-8a26-54fa6ff6986b"
BOB = "0aa3b1f2-6c55-5d2e-9b0b-2f5b8a6f7c10"
CALENDAR, PUBLISH = first_values(development=False, version=12)


class Flagged:
    """A client of a provider whose policies the test sets."""

    def __init__(self) -> None:
        self.domain = f"test-{uuid4()}"
        self.seen: list[Evaluation] = []
        self.provider = CadenzaProvider(hold(packaged(), source="test"))
        self.set(CALENDAR, PUBLISH)
        self.client: OpenFeatureClient = connect(
            self.provider, domain=self.domain, observe=self.seen.append
        )

    def set(self, *policies: Policy, version: int = 14) -> None:
        flags = flag_set(policies, version=version, epoch=uuid4())
        self.provider.swap(hold(flags, source="database"))


@pytest.fixture
def flagged() -> Generator[Flagged]:
    made = Flagged()
    yield made
    disconnect(made.domain)


def rule(flagged: Flagged, policy: Policy, user_id: str = ALICE, **given: Any) -> tuple[str, str]:
    flagged.set(policy, PUBLISH)
    decision = evaluate(flagged.client, key="calendar", user_id=user_id, **given)
    return decision.rule, decision.variant


def test_a_decision_says_who_what_why_and_as_of_which_version(flagged: Flagged) -> None:
    flagged.set(replace(CALENDAR, percent_bp=10_000), PUBLISH)
    decision = evaluate(flagged.client, key="calendar", user_id=ALICE)
    bucket = bucket_of(salt="calendar-1", key="calendar", user_id=ALICE)
    assert decision.as_wire() == {
        "key": "calendar",
        "userId": ALICE,
        "variant": "ai",
        "rule": "percent",
        "bucket": bucket,
        "version": 12,
        "source": "database",
    }
    assert (decision.set_version, decision.label, decision.is_on) == (14, "ai@12", True)


def test_every_rule_decides_in_its_turn(flagged: Flagged) -> None:
    bucket = bucket_of(salt="calendar-1", key="calendar", user_id=ALICE)
    all_at_once = replace(
        CALENDAR, kill=True, stopped=True, deny=(ALICE,), allow=(ALICE,), percent_bp=bucket + 1
    )
    drill = Drill(id="d", user_id=ALICE, flags={"calendar": "ai"})
    back = Drill(id="d", user_id=ALICE, flags={"calendar": "template"})
    kills = frozenset({"calendar"})
    assert rule(flagged, all_at_once, drill=drill, hard_kills=kills) == ("env", "template")
    assert rule(flagged, all_at_once, drill=drill) == ("kill", "template")
    no_kill = replace(all_at_once, kill=False)
    assert rule(flagged, no_kill, drill=drill) == ("stopped", "template")
    no_stop = replace(no_kill, stopped=False)
    assert rule(flagged, no_stop, drill=drill) == ("drill", "ai")
    assert rule(flagged, no_stop, drill=back) == ("drill", "template")
    assert rule(flagged, no_stop) == ("deny", "template")
    no_deny = replace(no_stop, deny=())
    assert rule(flagged, no_deny) == ("allow", "ai")
    no_allow = replace(no_deny, allow=())
    assert rule(flagged, no_allow) == ("percent", "ai")
    assert rule(flagged, replace(no_allow, percent_bp=bucket)) == ("safe", "template")


def test_the_share_that_is_asked_for_is_the_share_that_is_let_in(flagged: Flagged) -> None:
    flagged.set(replace(CALENDAR, percent_bp=2_500), PUBLISH)
    users = [str(uuid5(NAMESPACE_DNS, f"user-{n}")) for n in range(2_000)]
    decisions = [evaluate(flagged.client, key="calendar", user_id=user) for user in users]
    assert all(d.is_on == (d.bucket < 2_500) for d in decisions)
    assert 440 <= sum(d.is_on for d in decisions) <= 560


def test_a_drill_forces_only_what_it_names_and_is_marked(flagged: Flagged) -> None:
    drill = Drill(id="d", user_id=ALICE, flags={"publish": "live"})
    calendar = evaluate(flagged.client, key="calendar", user_id=ALICE, drill=drill)
    publish = evaluate(flagged.client, key="publish", user_id=ALICE, drill=drill)
    assert (calendar.rule, calendar.source) == ("safe", "database")
    assert (publish.variant, publish.rule, publish.source) == ("live", "drill", "drill")


def test_someone_elses_drill_is_refused(flagged: Flagged) -> None:
    drill = Drill(id="d", user_id=BOB, flags={"calendar": "ai"})
    with pytest.raises(NotFound, match="no such drill"):
        evaluate(flagged.client, key="calendar", user_id=ALICE, drill=drill)


def test_a_set_unconfirmed_for_long_still_reads_but_does_not_publish(flagged: Flagged) -> None:
    flagged.set(replace(CALENDAR, percent_bp=10_000), replace(PUBLISH, percent_bp=10_000))
    calendar = evaluate(flagged.client, key="calendar", user_id=ALICE, stale_s=300.1)
    assert (calendar.variant, calendar.rule) == ("ai", "percent")
    publish = evaluate(flagged.client, key="publish", user_id=ALICE, stale_s=300.1)
    assert (publish.variant, publish.rule, publish.source) == ("dry_run", "safe", "database")
    assert evaluate(flagged.client, key="publish", user_id=ALICE, stale_s=300.0).is_on


def test_a_hard_kill_is_shown_as_an_override(flagged: Flagged) -> None:
    flagged.set(CALENDAR, replace(PUBLISH, percent_bp=10_000))
    kills = frozenset({"publish"})
    decision = evaluate(flagged.client, key="publish", user_id=ALICE, hard_kills=kills)
    assert (decision.variant, decision.rule, decision.source) == ("dry_run", "env", "override")


def test_no_user_no_decision(flagged: Flagged) -> None:
    with pytest.raises(Invalid):
        evaluate(flagged.client, key="calendar", user_id="")


def test_an_unknown_flag_is_refused(flagged: Flagged) -> None:
    with pytest.raises(NotFound):
        evaluate(flagged.client, key="export", user_id=ALICE)


def test_a_provider_that_cannot_answer_is_safe_and_seen(flagged: Flagged) -> None:
    flagged.set(PUBLISH)
    decision = evaluate(flagged.client, key="calendar", user_id=ALICE)
    assert (decision.variant, decision.rule) == ("template", "safe")
    assert (decision.source, decision.version, decision.bucket) == ("packaged", 0, -1)
    assert [seen.error for seen in flagged.seen] == ["FLAG_NOT_FOUND"]


def test_every_evaluation_is_observed(flagged: Flagged) -> None:
    rule(flagged, replace(CALENDAR, allow=(ALICE,)))
    assert flagged.seen == [Evaluation(key="calendar", variant="ai", rule="allow", error=None)]


def test_a_bucket_that_the_caller_claims_is_not_believed(flagged: Flagged) -> None:
    bucket = bucket_of(salt="calendar-1", key="calendar", user_id=ALICE)
    flagged.set(replace(CALENDAR, percent_bp=bucket), PUBLISH)
    context = api.get_evaluation_context().__class__(ALICE, {"bucket": 0})
    assert flagged.client.get_string_value("calendar", "?", context) == "template"


def test_a_provider_with_other_parameter_names_does_not_pass_the_self_test() -> None:
    class Misnamed(CadenzaProvider):
        def resolve_string_details(self, key: str, default: str, ctx: Any = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]  # the fault under test
            return super().resolve_string_details(key, default, ctx)

    domain = f"test-{uuid4()}"
    flags = flag_set([CALENDAR, PUBLISH], version=1, epoch=None)
    with pytest.raises(CadenzaError, match="does not answer"):
        connect(Misnamed(hold(flags, source="test")), domain=domain)
    disconnect(domain)


def test_two_providers_in_one_process_answer_for_themselves(flagged: Flagged) -> None:
    other = Flagged()
    other.set(replace(CALENDAR, percent_bp=10_000), PUBLISH)
    assert evaluate(other.client, key="calendar", user_id=ALICE).is_on
    assert not evaluate(flagged.client, key="calendar", user_id=ALICE).is_on
    disconnect(other.domain)
    assert not evaluate(flagged.client, key="calendar", user_id=ALICE).is_on
