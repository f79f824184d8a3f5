import asyncio
import datetime as dt
from dataclasses import replace

from cadenza.calendar.generator import Drafted, Ended, RunStatus
from cadenza.calendar.request import MAX_SLOTS, Cadence, Draft, RunRequest, slots
from cadenza.calendar.template import IDEAS, TemplateGenerator

REQUEST = RunRequest(
    channels=("bluesky", "tiktok"),
    cadence=Cadence.DAILY,
    start=dt.date(2026, 12, 1),
    end=dt.date(2026, 12, 10),
    timezone="Europe/Madrid",
    brief="Our bakery in Cádiz.\nOpen since 1932.",
    constraints={},
)


def drafts(request: RunRequest) -> list[Draft]:
    async def collect() -> list[Draft]:
        items = [item async for item in TemplateGenerator().entries(request)]
        assert items[-1] == Ended(status=RunStatus.COMPLETED)
        return [item.draft for item in items[:-1] if isinstance(item, Drafted)]

    return asyncio.run(collect())


def test_every_slot_gets_one_entry_in_order() -> None:
    assert [(d.date, d.time, d.channel) for d in drafts(REQUEST)] == [
        (s.date, s.time, s.channel) for s in slots(REQUEST)
    ]


def test_the_same_request_gets_the_same_entries() -> None:
    assert drafts(REQUEST) == drafts(REQUEST)


def test_the_texts_speak_of_what_the_brief_says() -> None:
    assert all("Our bakery in Cádiz" in draft.copy for draft in drafts(REQUEST))


def test_without_a_brief_the_texts_are_still_sentences() -> None:
    for brief in (None, "", " \n "):
        assert all("{" not in d.copy + d.title for d in drafts(replace(REQUEST, brief=brief)))


def test_a_long_brief_is_cut_at_a_word_and_a_brace_in_it_is_only_a_brace() -> None:
    (first, *_) = drafts(replace(REQUEST, brief="{topic} " + "word " * 50))
    assert len(first.title) < 100
    assert "wor " not in first.title


def test_no_day_says_the_same_thing_on_two_channels() -> None:
    found = drafts(REQUEST)
    for bluesky, tiktok in zip(found[::2], found[1::2], strict=True):
        assert bluesky.title != tiktok.title


def test_video_gets_a_script_and_text_stays_short_enough_for_the_shortest_channel() -> None:
    everything = drafts(replace(REQUEST, brief="x" * 60))
    assert {draft.copy.split("x")[0] for draft in everything} >= {
        idea.copy.split("{topic}")[0] for idea in IDEAS
    }
    for draft in everything:
        assert (draft.script is not None) == (draft.channel == "tiktok")
        assert len(draft.copy) <= 300 - len(" #behindthescenes")


def test_a_request_that_is_too_long_stops_at_the_most_a_calendar_takes() -> None:
    assert len(drafts(replace(REQUEST, end=dt.date.max))) == MAX_SLOTS
