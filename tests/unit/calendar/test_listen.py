from types import SimpleNamespace
from typing import cast

import pytest
from openai.types.chat import ChatCompletionChunk

from cadenza.calendar.generator import Ended, RunStatus, Usage
from cadenza.calendar.listen import Deadlines, Fault, Listener, Watch, retry_after_s
from cadenza.errors import Reason

DEADLINES = Deadlines(first_s=12, between_s=5, total_s=30)
CUT = Fault(RunStatus.FAILED, Reason.PROVIDER_TRUNCATED)


class Clock:
    def __init__(self) -> None:
        self.at = 100.0

    def __call__(self) -> float:
        return self.at


def chunk(
    content: object = None, finish: str | None = None, usage: object = None
) -> ChatCompletionChunk:
    """Build a chunk as the SDK does: without looking whether the provider kept to the schema."""
    choice = SimpleNamespace(delta=SimpleNamespace(content=content), finish_reason=finish)
    made = SimpleNamespace(choices=[choice] if usage is None else [], usage=usage)
    return cast("ChatCompletionChunk", made)


def test_the_defaults_are_the_promised_ones() -> None:
    assert Deadlines() == Deadlines(connect_s=5, first_s=12, between_s=5, total_s=30)


def test_each_deadline_is_missed_by_its_own_name() -> None:
    clock = Clock()
    watch = Watch(DEADLINES, clock)
    watch.expect_first()
    assert (watch.until, watch.missed().reason) == (112, Reason.TIMEOUT_FIRST)
    watch.expect_more()
    assert (watch.until, watch.missed().reason) == (105, Reason.TIMEOUT_BETWEEN)


def test_the_total_comes_first_when_less_is_left() -> None:
    clock = Clock()
    watch = Watch(DEADLINES, clock)
    clock.at = 126
    watch.expect_more()
    assert (watch.until, watch.missed().reason) == (130, Reason.TIMEOUT_TOTAL)
    assert watch.left_s() == 4
    clock.at = 130
    assert watch.is_over()


def test_a_deadline_begins_when_it_is_set_and_not_before() -> None:
    clock = Clock()
    watch = Watch(DEADLINES, clock)
    watch.expect_more()
    clock.at = 108
    assert watch.is_over()
    watch.expect_more()
    assert not watch.is_over()


@pytest.mark.parametrize(
    ("finish", "status", "reason"),
    [
        ("stop", RunStatus.COMPLETED, None),
        ("end_turn", RunStatus.COMPLETED, None),
        ("length", RunStatus.PARTIAL, Reason.MAX_TOKENS),
        ("content_filter", RunStatus.FAILED, Reason.PROVIDER_CONTENT_FILTER),
    ],
)
def test_after_the_models_own_finish_nothing_else_ends_the_run(
    finish: str, status: RunStatus, reason: Reason | None
) -> None:
    listener = Listener(Watch(DEADLINES, Clock()))
    assert listener.ended_by(CUT) == Ended(status=RunStatus.FAILED, reason=CUT.reason)
    listener.take(chunk(finish=finish))
    assert listener.ended_by(CUT) == Ended(status=status, reason=reason)


def test_after_the_finish_the_usage_is_waited_for_no_longer_than_for_content() -> None:
    listener = Listener(Watch(DEADLINES, Clock()))
    listener.watch.expect_first()
    listener.take(chunk(finish="stop"))
    assert listener.watch.until == 105


@pytest.mark.parametrize("content", [None, "", ["a"], 7])
def test_only_text_is_content(content: object) -> None:
    listener = Listener(Watch(DEADLINES, Clock()))
    assert listener.take(chunk(content)) == ""
    assert listener.take(chunk("text")) == "text"


def test_usage_is_the_providers_when_it_tells() -> None:
    listener = Listener(Watch(DEADLINES, Clock()))
    told = SimpleNamespace(prompt_tokens=412, completion_tokens=1630)
    assert listener.take(chunk(usage=told)) == ""
    ended = listener.counted(CUT.ended(), asked_chars=8, content_chars=8)
    assert ended.usage == Usage(input_tokens=412, output_tokens=1630)
    assert not ended.usage_estimated


def test_usage_is_estimated_and_marked_when_the_provider_does_not_tell() -> None:
    listener = Listener(Watch(DEADLINES, Clock()))
    listener.take(chunk(usage=SimpleNamespace(prompt_tokens=None, completion_tokens=-1)))
    ended = listener.counted(CUT.ended(), asked_chars=400, content_chars=80)
    assert (ended.usage, ended.usage_estimated) == (Usage(input_tokens=100, output_tokens=20), True)


def test_a_provider_that_was_never_reached_used_nothing() -> None:
    listener = Listener(Watch(DEADLINES, Clock()))
    never = Ended(status=RunStatus.FAILED, reason=Reason.PROVIDER_UNREACHABLE)
    assert listener.counted(never, asked_chars=400, content_chars=0) == never


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "Mon, 23 Nov 2026 10:00:09 GMT"}, None),
        (
            {
                "retry-after": "Mon, 23 Nov 2026 10:00:09 GMT",
                "date": "Mon, 23 Nov 2026 10:00:00 GMT",
            },
            9.0,
        ),
    ],
)
def test_retry_after_is_read_as_http_has_it(headers: dict[str, str], wait_s: float | None) -> None:
    assert retry_after_s(headers) == wait_s
    assert cast("object", retry_after_s({"retry-after": "nan"})) == 0
