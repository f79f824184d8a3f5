"""What every generator promises, over each of them."""

import asyncio
import datetime as dt
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from cadenza.calendar.generator import Drafted, Ended, Generator, Rejected, RunStatus
from cadenza.calendar.openai import OpenAIGenerator
from cadenza.calendar.request import MAX_SLOTS, Cadence, RunRequest, slots
from cadenza.calendar.template import TemplateGenerator
from cadenza.simulator.serve import running

REQUEST = RunRequest(
    channels=("bluesky", "instagram", "tiktok"),
    cadence=Cadence.WEEKLY,
    start=dt.date(2026, 12, 1),
    end=dt.date(2026, 12, 31),
    timezone="America/Bogota",
    brief="A bakery",
    constraints={},
)
Items = list[Drafted | Rejected | Ended]
Open = Callable[[], Any]


@asynccontextmanager
async def template() -> AsyncGenerator[Generator]:
    yield TemplateGenerator()


@asynccontextmanager
async def model() -> AsyncGenerator[Generator]:
    async with running() as url:
        generator = OpenAIGenerator(base_url=f"{url}/v1", api_key="any", model="sim-ok@0")
        yield generator
        await generator.aclose()


@pytest.fixture(params=[template, model], ids=["template", "openai"])
def each(request: pytest.FixtureRequest) -> Open:
    """Open one of the generators."""
    return request.param


def using(opened: Open, story: Callable[[Generator], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        async with opened() as generator:
            await story(generator)

    asyncio.run(main())


async def everything(generator: Generator, request: RunRequest = REQUEST) -> Items:
    return [item async for item in generator.entries(request)]


def test_it_serves_a_variant_of_the_flag(each: Open) -> None:
    async def story(generator: Generator) -> None:
        assert generator.variant in {"ai", "template"}

    using(each, story)


def test_it_ends_exactly_once_and_last(each: Open) -> None:
    async def story(generator: Generator) -> None:
        items = await everything(generator)
        assert [isinstance(item, Ended) for item in items] == [False] * (len(items) - 1) + [True]
        assert items[-1] == replace(
            items[-1], status=RunStatus.COMPLETED, reason=None, usage_estimated=False
        )

    using(each, story)


def test_every_slot_gets_its_entry(each: Open) -> None:
    async def story(generator: Generator) -> None:
        drafts = [i.draft for i in await everything(generator) if isinstance(i, Drafted)]
        assert [(d.date, d.time, d.channel) for d in drafts] == [
            (s.date, s.time, s.channel) for s in slots(REQUEST)
        ]

    using(each, story)


def test_an_entry_is_something_to_work_with(each: Open) -> None:
    async def story(generator: Generator) -> None:
        for item in await everything(generator):
            if isinstance(item, Drafted):
                draft = item.draft
                assert draft.title
                assert draft.copy or draft.script
                assert draft.timezone == "America/Bogota"
                assert not any(tag.startswith("#") for tag in draft.hashtags)

    using(each, story)


def test_no_more_than_a_calendar_takes(each: Open) -> None:
    async def story(generator: Generator) -> None:
        long = replace(REQUEST, cadence=Cadence.DAILY, end=dt.date(2027, 12, 31))
        items = await everything(generator, long)
        assert sum(isinstance(item, Drafted) for item in items) == MAX_SLOTS

    using(each, story)


def test_two_runs_at_once_do_not_mix(each: Open) -> None:
    async def story(generator: Generator) -> None:
        other = replace(REQUEST, channels=("webhook",), timezone="UTC")
        one, two = await asyncio.gather(everything(generator), everything(generator, other))
        assert {i.draft.timezone for i in one if isinstance(i, Drafted)} == {"America/Bogota"}
        assert {i.draft.channel for i in two if isinstance(i, Drafted)} == {"webhook"}

    using(each, story)


def test_it_can_be_closed_after_the_first_entry_and_asked_again(each: Open) -> None:
    async def story(generator: Generator) -> None:
        async with aclosing(generator.entries(REQUEST)) as items:
            assert isinstance(await anext(items), Drafted)
        assert len(await everything(generator)) == len(slots(REQUEST)) + 1

    using(each, story)


def test_a_request_without_slots_ends_too(each: Open) -> None:
    async def story(generator: Generator) -> None:
        items = await everything(generator, replace(REQUEST, end=dt.date(2026, 11, 1)))
        assert [type(item) for item in items] == [Ended]

    using(each, story)
