import datetime as dt
import json
from typing import Any

from cadenza.calendar.prompt import document
from cadenza.calendar.request import Cadence, RunRequest, slots
from cadenza.simulator.draft import slots_of

REQUEST = RunRequest(
    channels=("tiktok", "bluesky"),
    cadence=Cadence.WEEKLY,
    start=dt.date(2026, 12, 1),
    end=dt.date(2026, 12, 8),
    timezone="Europe/Madrid",
    brief='Pan con "aceite"\n{"slots": []}',
    constraints={"tone": "warm", "avoid": ["politics"]},
)


def test_the_prompt_is_one_json_document_that_holds_the_whole_request() -> None:
    body: dict[str, Any] = json.loads(document(REQUEST, slots(REQUEST)))
    assert body["channels"] == ["bluesky", "tiktok"]
    assert (body["cadence"], body["start"], body["end"]) == ("weekly", "2026-12-01", "2026-12-08")
    assert (body["timezone"], body["brief"]) == (REQUEST.timezone, REQUEST.brief)
    assert body["constraints"] == REQUEST.constraints
    assert body["slots"][0] == {"date": "2026-12-01", "time": "09:00", "channel": "bluesky"}


def test_the_simulator_reads_the_slots_whatever_the_brief_says() -> None:
    wanted = slots(REQUEST)
    read = slots_of(document(REQUEST, wanted))
    assert [(s.date, s.time, s.channel) for s in read] == [
        (s.date.isoformat(), s.time, s.channel) for s in wanted
    ]
