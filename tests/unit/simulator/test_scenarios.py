import json
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from cadenza.simulator.draft import Asked, lines, slots_of
from cadenza.simulator.scenarios import ENTRY_GAP_MS, SCENARIOS
from cadenza.simulator.state import AiState, Control, named

SLOTS = tuple(
    Asked(date=f"2026-12-{day:02}", time="09:00", channel=channel)
    for day in range(1, 4)
    for channel in ("instagram", "tiktok")
)


def said(scenario: str) -> list[str]:
    return lines(SLOTS, SCENARIOS[scenario])


def parsed(line: str) -> dict[str, Any] | None:
    try:
        return json.loads(line)
    except ValueError:
        return None


def test_an_entry_is_written_for_every_slot() -> None:
    entries = [json.loads(line) for line in said("ok")]
    assert [(e["date"], e["time"], e["channel"]) for e in entries] == [
        (s.date, s.time, s.channel) for s in SLOTS
    ]
    assert len({e["copy"] for e in entries}) == len(entries)
    assert len({e["id"] for e in entries}) == len(entries)


def test_video_has_a_script() -> None:
    assert {(e["channel"], e["script"] is None) for e in map(json.loads, said("ok"))} == {
        ("instagram", True),
        ("tiktok", False),
    }


def test_some_text_is_not_ascii() -> None:
    assert not "".join(said("ok")).isascii()


def one_is_lost(entries: list[dict[str, Any] | None]) -> bool:
    return [e is None for e in entries] == [False, True, False, False, False, False]


def every_other_is_lost(entries: list[dict[str, Any] | None]) -> bool:
    return [e is None for e in entries] == [True, False] * 3


def one_comes_again(entries: list[dict[str, Any] | None]) -> bool:
    ids = [e["id"] for e in entries if e]
    return entries[0] == entries[1] and ids[:3] == ["post-1"] * 3 and entries[2] != entries[0]


def one_is_late(entries: list[dict[str, Any] | None]) -> bool:
    return [e["date"] for e in entries if e and e["date"] > "2026-12-31"] == ["2027-12-03"]


def one_is_elsewhere(entries: list[dict[str, Any] | None]) -> bool:
    return sum(e["channel"] not in {"instagram", "tiktok"} for e in entries if e) == 1


def all_are_lost(entries: list[dict[str, Any] | None]) -> bool:
    return all(e is None for e in entries)


@pytest.mark.parametrize(
    ("scenario", "is_so"),
    [
        ("one-bad-line", one_is_lost),
        ("broken-json", every_other_is_lost),
        ("duplicate-ids", one_comes_again),
        ("outside-range", one_is_late),
        ("unknown-channel", one_is_elsewhere),
        ("prose", all_are_lost),
    ],
)
def test_a_spoilt_answer_is_spoilt_as_announced(
    scenario: str, is_so: Callable[[list[dict[str, Any] | None]], bool]
) -> None:
    assert is_so([parsed(line) for line in said(scenario)])


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("count", [0, 1])
def test_every_scenario_can_do_with_few_slots_or_none(scenario: str, count: int) -> None:
    assert isinstance(lines(SLOTS[:count], SCENARIOS[scenario]), list)


@pytest.mark.parametrize(
    "prompt", ["", "hello", "{", "[]", "{}", '{"slots": 5}', '{"slots": []}', '{"slots": [1]}']
)
def test_a_prompt_without_slots_has_none(prompt: str) -> None:
    assert slots_of(prompt) == ()


def test_a_model_is_named_for_its_scenario_and_may_carry_a_pace() -> None:
    assert named("sim-ok") == ("ok", SCENARIOS["ok"])
    assert SCENARIOS["ok"].entry_gap_ms == ENTRY_GAP_MS
    paced = named("sim-cut@7")
    assert paced is not None
    assert (paced[0], paced[1].entry_gap_ms) == ("cut", 7)


@pytest.mark.parametrize(
    "model", ["", "ok", "gpt-4o", "sim-", "sim-nothing", "sim-ok@", "sim-ok@x"]
)
def test_any_other_model_does_not_exist(model: str) -> None:
    assert named(model) is None


def control(**told: object) -> Control:
    return Control.model_validate_json(json.dumps(told))


def test_an_override_holds_until_it_is_taken_back() -> None:
    state = AiState()
    state.obey(control(scenario="cut"))
    assert [state.choose("sim-ok"), state.choose("any")] == [("cut", SCENARIOS["cut"])] * 2
    state.obey(None)
    assert state.choose("sim-ok") == ("ok", SCENARIOS["ok"])


def test_an_override_for_some_requests_ends_itself() -> None:
    state = AiState()
    state.obey(control(scenario="sim-500", times=2))
    names = [chosen[0] for _ in range(3) if (chosen := state.choose("sim-ok"))]
    assert names == ["500", "500", "ok"]
    assert state.shown()["override"] is None


def test_an_override_may_set_the_pace() -> None:
    told = control(scenario="mid-stall", gapMs=5, entryGapMs=0, stallAfter=1).tuned()
    assert told is not None
    assert (told.gap_ms, told.entry_gap_ms, told.after) == (5, 0, 1)


def test_a_healthy_scenario_does_not_stall() -> None:
    told = control(scenario="ok", stallAfter=1).tuned()
    assert told is not None
    assert told.after is None


@pytest.mark.parametrize(
    "told", [{}, {"scenario": "ok", "gap": 1}, {"scenario": "ok", "times": 0}, {"scenario": 4}]
)
def test_a_control_call_with_a_mistake_is_refused(told: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        control(**told)
