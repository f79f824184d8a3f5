"""What an operator does to a policy, and when more exposure is refused."""

from dataclasses import replace

import pytest

from cadenza.errors import Conflict, Invalid
from cadenza.flags.change import (
    By,
    Change,
    Surroundings,
    by_operator,
    changed_fields,
    grows,
    killed,
    refuse_growth,
    switched_off,
    switched_on,
)
from cadenza.flags.policy import Policy, Requires, first_values

ALICE = "9750dcc2-516e-5ea0-8a26-54fa6ff6986b"
CALENDAR, PUBLISH = first_values(development=False, version=1)
ENOUGH = Surroundings(
    schema_revision="0005", settings=frozenset({"ai"}), hard_kills=frozenset[str]()
)


def refusal(after: Policy, around: Surroundings) -> Conflict:
    with pytest.raises(Conflict) as refused:
        refuse_growth(after, {"calendar": CALENDAR, "publish": PUBLISH}, around)
    return refused.value


def test_on_clears_what_held_the_flag_off_and_keeps_the_denied() -> None:
    held = replace(CALENDAR, kill=True, stopped=True, deny=(ALICE,))
    assert switched_on(held) == replace(CALENDAR, percent_bp=10_000, deny=(ALICE,))


def test_off_is_off_for_the_allowed_too() -> None:
    exposed = replace(CALENDAR, percent_bp=10_000, allow=(ALICE,))
    assert switched_off(exposed) == CALENDAR


def test_kill_keeps_share_and_lists() -> None:
    exposed = replace(CALENDAR, percent_bp=2_500, allow=(ALICE,))
    assert killed(exposed) == replace(exposed, kill=True)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({"kill": True}, {}, True),
        ({"stopped": True}, {}, True),
        ({"percent_bp": 100}, {"percent_bp": 101}, True),
        ({}, {"allow": (ALICE,)}, True),
        ({"deny": (ALICE,)}, {}, True),
        ({"percent_bp": 100}, {"percent_bp": 100, "salt": "calendar-2"}, True),
        ({}, {"kill": True}, False),
        ({}, {"stopped": True}, False),
        ({"percent_bp": 100}, {"percent_bp": 99}, False),
        ({"allow": (ALICE,)}, {}, False),
        ({}, {"deny": (ALICE,)}, False),
        ({"percent_bp": 10_000}, {"percent_bp": 10_000, "salt": "calendar-2"}, False),
        ({}, {"owner": "someone"}, False),
    ],
)
def test_exposure_grows_exactly_when_someone_new_may_see_it(
    before: dict[str, object], after: dict[str, object], *, expected: bool
) -> None:
    old = replace(CALENDAR, **before)  # pyright: ignore[reportArgumentType]  # test table
    new = replace(CALENDAR, **after)  # pyright: ignore[reportArgumentType]  # test table
    assert grows(old, new) is expected


def test_nothing_is_refused_when_all_is_there() -> None:
    refuse_growth(switched_on(CALENDAR), {}, ENOUGH)
    refuse_growth(switched_on(PUBLISH), {}, ENOUGH)


@pytest.mark.parametrize("revision", [None, "0001", "0004"])
def test_a_schema_that_is_behind_is_named(revision: str | None) -> None:
    refused = refusal(switched_on(PUBLISH), replace(ENOUGH, schema_revision=revision))
    assert refused.code == "SCHEMA_BEHIND"
    assert refused.extra == {"missing": "0005", "present": revision}


def test_a_missing_setting_is_named() -> None:
    refused = refusal(switched_on(CALENDAR), replace(ENOUGH, settings=frozenset[str]()))
    assert (refused.code, refused.extra) == ("SETTING_MISSING", {"missing": ["ai"]})


def test_a_hard_kill_in_the_environment_is_named() -> None:
    refused = refusal(switched_on(CALENDAR), replace(ENOUGH, hard_kills=frozenset({"calendar"})))
    assert (refused.code, refused.extra) == (
        "ENV_HARD_KILL",
        {"variable": "CALENDAR_SERVICE_ENABLED"},
    )


def test_a_flag_that_must_be_on_first_is_named() -> None:
    needs = replace(PUBLISH, requires=Requires(flags=("calendar",)))
    refused = refusal(switched_on(needs), ENOUGH)
    assert (refused.code, refused.extra) == ("FLAG_REQUIRED", {"missing": ["calendar"]})
    refuse_growth(switched_on(needs), {"calendar": replace(CALENDAR, allow=(ALICE,))}, ENOUGH)


def test_what_changed_is_named_as_on_the_wire_and_a_version_alone_is_nothing() -> None:
    assert changed_fields(CALENDAR, replace(CALENDAR, percent_bp=5, kill=True)) == [
        "kill",
        "percentBp",
    ]
    assert changed_fields(CALENDAR, replace(CALENDAR, version=99)) == []


@pytest.mark.parametrize("reason", ["", "  ", "ok", " ok ", "x" * 501, "a\x00bc", "two\nlines"])
def test_an_act_without_a_reason_is_refused(reason: str) -> None:
    with pytest.raises(Invalid) as refused:
        by_operator(actor="ana", reason=reason, verb="kill", request_id=None)
    assert [m.pointer for m in refused.value.mistakes] == ["/reason"]


def test_the_event_says_what_became_of_what() -> None:
    by = By(actor="ana", reason="trial", cause={"kind": "operator", "verb": "on"})
    after = replace(switched_on(CALENDAR), version=2)
    event = Change(before=CALENDAR, after=after, set_version=2, by=by).event()
    assert event.flag == {
        "key": "calendar",
        "from": "off@1",
        "to": "on@2",
        "actor": "ana",
        "cause": "operator",
    }
