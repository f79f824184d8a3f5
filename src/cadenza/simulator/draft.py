"""What the simulated model writes: plausible entries for the slots of a prompt."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

from cadenza.simulator.scenarios import Scenario, Spoil

ADVICE: Final[str] = """\
A good calendar starts with knowing whom you talk to. Post when your readers are awake, keep one
idea per post, and answer comments within the hour. Mix teaching, showing and asking, and look at
the numbers once a week rather than once an hour. If you tell me more about your brand I can suggest
a rhythm that you can keep up for a whole year.
"""


class Asked(BaseModel):
    """One slot of the prompt."""

    model_config = ConfigDict(frozen=True)

    date: str
    time: str
    channel: str


class _Document(BaseModel):
    slots: tuple[Asked, ...] = ()


@dataclass(frozen=True, slots=True)
class Voice:
    """How entries for one channel look; `openers` take `{theme}`."""

    format: str
    openers: tuple[str, ...]
    script: str | None = None


_THEMES: Final = (
    ("first light in the bakery", ("bakery", "morning")),
    ("the sourdough that took three days", ("sourdough", "slowfood")),
    ("café con leche at the counter", ("café", "desayuno")),
    ("why the oven sings at 240 °C", ("oven", "science")),
    ("a crumb as open as a window", ("crumb", "bread")),
    ("what we do with yesterday's loaf", ("zerowaste", "panrallado")),
    ("the baker's hands", ("craft", "people")),
    ("an apprentice's first baguette", ("learning", "baguette")),
    ("flour from the next valley", ("local", "molino")),
    ("two minutes before opening", ("behindthescenes", "team")),
)
_ENDINGS: Final = (
    "Come by before ten, it goes fast.",
    "¿Dulce o salado? Tell us below.",
    "Save this for Sunday.",
    "Which one would you take home?",
    "Ask us anything, we read it all.",
)
_VOICES: Final = {
    "instagram": Voice(
        "carousel",
        ("✨ {theme}.", "Swipe for {theme} 🥐", "Hoy: {theme} ☀️", "📸 {theme}, no filter."),
    ),
    "tiktok": Voice(
        "video",
        ("POV: {theme} 🔥", "Wait for it: {theme} 👀", "30 seconds of {theme} 🎬"),
        "0-3 s: close-up, no words. 3-12 s: hands at work, say what is happening. "
        "12-25 s: the reveal, natural sound. Last shot: the question on screen.",
    ),
    "bluesky": Voice("post", ("Thinking about {theme}.", "Small joy today: {theme} 🍞")),
}
_PLAIN: Final = Voice("post", ("Today: {theme}.", "About {theme}."))


def slots_of(prompt: str) -> tuple[Asked, ...]:
    """Return the slots of a prompt that is a JSON document; none if it has none to be read."""
    try:
        return _Document.model_validate_json(prompt).slots
    except ValidationError:
        return ()


def lines(asked: Sequence[Asked], scenario: Scenario) -> list[str]:
    """Return the lines the model says, without their breaks, spoilt as the scenario has it."""
    if scenario.is_prose:
        return [*ADVICE.splitlines()]
    entries = [_entry(slot, index) for index, slot in enumerate(asked)]
    written = [_line(entry) for entry in entries]
    second = min(1, len(entries) - 1)
    match scenario.spoil if entries else None:
        case None:
            return written
        case Spoil.ONE_BROKEN:
            written[second] = _broken(written[second])
        case Spoil.EVERY_OTHER_BROKEN:
            written[::2] = map(_broken, written[::2])
        case Spoil.ONE_REPEATED:
            again = _line(entries[second] | {"id": entries[0]["id"]})
            written[second:] = [written[0], again, *written[second + 1 :]]
        case Spoil.ONE_OUTSIDE_RANGE:
            written[second] = _line(entries[second] | {"date": _year_later(asked[-1].date)})
        case Spoil.ONE_UNKNOWN_CHANNEL:
            written[second] = _line(entries[second] | {"channel": "friendster"})
    return written


def _entry(slot: Asked, index: int) -> dict[str, object]:
    voice = _VOICES.get(slot.channel, _PLAIN)
    theme, tags = _THEMES[index % len(_THEMES)]
    opener = voice.openers[index % len(voice.openers)].replace("{theme}", theme)
    return {
        "id": f"post-{index + 1}",
        "title": f"{theme[0].upper()}{theme[1:]}",
        "channel": slot.channel,
        "format": voice.format,
        "copy": f"{opener} {_ENDINGS[index % len(_ENDINGS)]}",
        "script": voice.script,
        "targetAudience": "Neighbours and early risers",
        "date": slot.date,
        "time": slot.time,
        "hashtags": list(tags),
    }


def _line(entry: dict[str, object]) -> str:
    return json.dumps(entry, ensure_ascii=False)


def _broken(line: str) -> str:
    """Lose the quote that ends the title, as models do."""
    return line.replace('", "channel"', ', "channel"', 1)


def _year_later(date: str) -> str:
    return f"{int(date[:4]) + 1}{date[4:]}"
