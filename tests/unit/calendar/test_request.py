import datetime as dt
from dataclasses import replace

import pytest

from cadenza.calendar.request import MAX_SLOTS, Cadence, RunRequest, slots

REQUEST = RunRequest(
    channels=("instagram",),
    cadence=Cadence.DAILY,
    start=dt.date(2026, 12, 1),
    end=dt.date(2026, 12, 3),
    timezone="Europe/Madrid",
    brief=None,
    constraints={},
)


def days(request: RunRequest) -> list[str]:
    return [slot.date.isoformat() for slot in slots(request)]


def test_a_request_keeps_its_channels_sorted_and_each_once() -> None:
    request = replace(REQUEST, channels=("tiktok", "bluesky", "tiktok"))
    assert request.channels == ("bluesky", "tiktok")


def test_daily_means_every_day_from_start_to_end_inclusive() -> None:
    assert days(REQUEST) == ["2026-12-01", "2026-12-02", "2026-12-03"]


def test_every_channel_gets_every_day_at_nine() -> None:
    found = slots(replace(REQUEST, channels=("tiktok", "bluesky")))
    assert [(s.date.day, s.time, s.channel) for s in found] == [
        (day, "09:00", channel) for day in (1, 2, 3) for channel in ("bluesky", "tiktok")
    ]


def test_weekly_keeps_the_day_of_the_week_of_the_start() -> None:
    request = replace(REQUEST, cadence=Cadence.WEEKLY, end=dt.date(2026, 12, 22))
    assert days(request) == ["2026-12-01", "2026-12-08", "2026-12-15", "2026-12-22"]


def test_monthly_keeps_the_day_of_the_month_and_comes_back_to_it_after_a_short_one() -> None:
    request = replace(
        REQUEST, cadence=Cadence.MONTHLY, start=dt.date(2027, 1, 31), end=dt.date(2027, 4, 30)
    )
    assert days(request) == ["2027-01-31", "2027-02-28", "2027-03-31", "2027-04-30"]


def test_monthly_stops_before_an_end_that_comes_earlier_in_its_month() -> None:
    request = replace(
        REQUEST, cadence=Cadence.MONTHLY, start=dt.date(2026, 11, 15), end=dt.date(2027, 1, 14)
    )
    assert days(request) == ["2026-11-15", "2026-12-15"]


def test_a_range_of_one_day_is_one_slot_per_channel_at_any_cadence() -> None:
    for cadence in Cadence:
        assert days(replace(REQUEST, cadence=cadence, end=REQUEST.start)) == ["2026-12-01"]


def test_an_end_before_the_start_has_no_slots() -> None:
    for cadence in Cadence:
        assert slots(replace(REQUEST, cadence=cadence, end=dt.date(2026, 11, 30))) == ()


@pytest.mark.parametrize("cadence", list(Cadence))
def test_the_longest_range_there_is_costs_no_more_than_too_many(cadence: Cadence) -> None:
    request = replace(REQUEST, cadence=cadence, start=dt.date.min, end=dt.date.max)
    assert len(slots(request)) == MAX_SLOTS + 1


def test_the_last_day_of_all_time_is_a_day() -> None:
    request = replace(REQUEST, start=dt.date(9999, 12, 30), end=dt.date.max)
    assert days(request) == ["9999-12-30", "9999-12-31"]
    assert days(replace(request, cadence=Cadence.MONTHLY)) == ["9999-12-30"]
