import datetime as dt
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cadenza.calendar.generator import Drafted, Ended, Rejected, RunStatus
from cadenza.calendar.request import MAX_SLOTS, Cadence, Draft, RunRequest
from cadenza.calendar.sieve import MAX_CONTENT_BYTES, Sieve
from cadenza.errors import Reason

REQUEST = RunRequest(
    channels=("instagram", "tiktok"),
    cadence=Cadence.DAILY,
    start=dt.date(2026, 12, 1),
    end=dt.date(2026, 12, 5),
    timezone="Europe/Madrid",
    brief=None,
    constraints={},
)
ENTRY: dict[str, object] = {
    "id": "post-1",
    "title": "First light",
    "channel": "instagram",
    "format": "carousel",
    "copy": "✨ Come by.",
    "script": None,
    "targetAudience": "Neighbours",
    "date": "2026-12-01",
    "time": "10:30",
    "hashtags": ["bakery", "#pan"],
}


def said(**changes: object) -> str:
    return json.dumps(ENTRY | changes) + "\n"


def judge(*lines: str) -> list[Drafted | Rejected]:
    sieve = Sieve(REQUEST, expected=10)
    return [found for line in lines for found in sieve.feed(line)]


def drafted(line: str) -> Draft:
    (found,) = judge(line)
    assert isinstance(found, Drafted)
    return found.draft


def test_a_whole_line_becomes_a_draft() -> None:
    assert drafted(said()) == Draft(
        title="First light",
        channel="instagram",
        format="carousel",
        copy="✨ Come by.",
        script=None,
        target_audience="Neighbours",
        date=dt.date(2026, 12, 1),
        time="10:30",
        timezone="Europe/Madrid",
        hashtags=("bakery", "pan"),
        media=(),
    )


def test_what_is_absent_or_null_has_its_default() -> None:
    bare = {"title": "T", "channel": "tiktok", "copy": "C", "date": "2026-12-05"}
    for line in (bare, bare | dict.fromkeys(("time", "format", "script", "hashtags"))):
        draft = drafted(json.dumps(line))
        assert (draft.time, draft.format, draft.script, draft.hashtags) == (
            "09:00",
            "post",
            None,
            (),
        )


def test_what_models_often_do_is_understood() -> None:
    draft = drafted(said(channel=" Instagram ", hashtags="#pan, #masa madre", title="  T  "))
    assert (draft.channel, draft.title) == ("instagram", "T")
    assert draft.hashtags == ("pan", "masa", "madre")


def test_a_video_may_have_a_script_and_no_copy() -> None:
    assert drafted(said(copy=None, script="0-3 s: hands.")).script == "0-3 s: hands."
    assert judge(said(copy=" ", script=None)) == [Rejected("not_an_entry")]


def test_media_of_a_model_is_never_taken_over() -> None:
    assert drafted(said(media=[{"url": "https://example.org/made-up.png"}])).media == ()


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ('{"title": "no end}\n', "not_json"),
        ('{"title": tru}\n', "not_json"),
        ("{}\n", "not_an_entry"),
        (said(title=""), "not_an_entry"),
        (said(title=7), "not_an_entry"),
        (said(title="x" * 201), "not_an_entry"),
        (said(copy="x" * 10_001), "not_an_entry"),
        (said(copy="nul \x00 byte"), "not_an_entry"),
        (said(date="not a day"), "not_an_entry"),
        (said(date=20261201), "not_an_entry"),
        (said(date="2026-02-30"), "not_an_entry"),
        (said(time="9 am"), "not_an_entry"),
        (said(time="24:00"), "not_an_entry"),
        (said(hashtags=["x"] * 61), "not_an_entry"),
        (said(hashtags=[1]), "not_an_entry"),
        (said(channel="friendster"), "unknown_channel"),
        (said(date="2026-11-30"), "out_of_range"),
        (said(date="2026-12-06"), "out_of_range"),
    ],
)
def test_what_is_no_entry_is_rejected_with_a_word_of_ours(line: str, why: str) -> None:
    assert judge(line) == [Rejected(why)]


def test_the_same_id_with_the_same_content_is_a_duplicate() -> None:
    kinds = [type(found) for found in judge(said(), said(time="11:00"), said())]
    assert kinds == [Drafted, Drafted, Rejected]


def test_the_same_content_under_another_id_is_another_entry() -> None:
    assert [type(found) for found in judge(said(), said(id=2), said(id=None))] == [Drafted] * 3


def test_a_line_repeated_without_any_id_is_a_duplicate() -> None:
    assert judge(said(id=None), said(id=None))[1] == Rejected("duplicate")


def test_an_emoji_that_arrives_in_two_halves_is_whole_again() -> None:
    first, second = "\ud83e", "\udd50"
    found = judge(said(copy="X").replace("X", f"a {first}", 1)[:-2], "")
    assert found == []
    sieve = Sieve(REQUEST, expected=1)
    line = json.dumps(ENTRY | {"copy": "HERE"}, ensure_ascii=False)
    before, after = line.split("HERE")
    pieces = [f"{before}{first}", f"{second}{after}"]
    (whole,) = [one for piece in pieces for one in sieve.feed(piece)]
    assert isinstance(whole, Drafted)
    assert whole.draft.copy == "🥐"


def test_a_model_that_ends_in_the_middle_of_an_object_left_one_rejection() -> None:
    sieve = Sieve(REQUEST, expected=1)
    assert list(sieve.feed(said() + '{"title": "and th')) != []
    assert list(sieve.rest()) == [Rejected("unfinished")]
    assert list(Sieve(REQUEST, expected=1).rest()) == []


def full_of_entries() -> Sieve:
    sieve = Sieve(REQUEST, expected=10)
    for number in range(MAX_SLOTS):
        assert len(list(sieve.feed(said(id=number)))) == 1
    return sieve


def test_as_many_entries_as_fit_are_not_yet_too_many() -> None:
    assert not full_of_entries().is_full


def test_the_entry_that_no_longer_fits_fills_the_sieve_and_is_not_passed_on() -> None:
    sieve = full_of_entries()
    assert list(sieve.feed(said(id="one more") * 3)) == []
    assert sieve.is_full
    assert sieve.cut_short() == Ended(status=RunStatus.COMPLETED)


def test_a_model_that_writes_only_rubbish_is_stopped_and_failed() -> None:
    sieve = Sieve(REQUEST, expected=10)
    assert len(list(sieve.feed("{}\n" * 5000))) == MAX_SLOTS + 1
    assert sieve.is_full
    assert sieve.cut_short().reason is Reason.PROVIDER_INVALID_OUTPUT


@pytest.mark.parametrize(("kept", "status"), [(8, RunStatus.COMPLETED), (7, RunStatus.FAILED)])
def test_endless_content_ends_by_what_was_kept_before(kept: int, status: RunStatus) -> None:
    sieve = Sieve(REQUEST, expected=10)
    list(sieve.feed("".join(said(id=number) for number in range(kept))))
    list(sieve.feed("é" * (MAX_CONTENT_BYTES // 2)))
    assert sieve.is_full
    assert sieve.cut_short().status is status


@given(st.text())
def test_no_text_of_a_model_breaks_the_sieve(text: str) -> None:
    assert all(isinstance(found, Rejected) for found in judge(text, "\n{" + text, "}"))


@given(st.dictionaries(st.sampled_from([*ENTRY, "media"]), st.none() | st.integers() | st.text()))
def test_no_object_of_a_model_breaks_the_sieve(changes: dict[str, object]) -> None:
    (found,) = judge(said(**changes))
    if isinstance(found, Drafted):
        assert found.draft.channel in REQUEST.channels
