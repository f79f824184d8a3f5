"""What the simulator was told to do, and what it saw; prompts are never kept."""

from collections import Counter, deque
from dataclasses import dataclass, field, replace
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from cadenza.simulator.draft import Asked
from cadenza.simulator.scenarios import PREFIX, SCENARIOS, Scenario

_KEPT = 20
_Millis = Annotated[int | None, Field(ge=0, le=600_000)]


class Control(BaseModel):
    """A control call: which scenario, for how many requests, at which pace."""

    model_config = ConfigDict(extra="forbid", strict=True)

    scenario: Annotated[str, Field(json_schema_extra={"enum": list(SCENARIOS)})]
    times: Annotated[int | None, Field(ge=1)] = None
    gap_ms: Annotated[_Millis, Field(alias="gapMs")] = None
    stall_after: Annotated[int | None, Field(alias="stallAfter", ge=0, le=10_000)] = None
    entry_gap_ms: Annotated[_Millis, Field(alias="entryGapMs")] = None

    def tuned(self) -> Scenario | None:
        """Return the scenario with this call's pace, None if there is none of that name."""
        found = SCENARIOS.get(self.scenario.removeprefix(PREFIX))
        if found is None:
            return None
        given = {
            "gap_ms": self.gap_ms,
            "after": self.stall_after if found.after is not None else None,
            "entry_gap_ms": self.entry_gap_ms,
        }
        return replace(found, **{key: value for key, value in given.items() if value is not None})


@dataclass(slots=True)
class Seen:
    """One request: how it was answered and how that ended."""

    model: str
    scenario: str
    slots: tuple[Asked, ...]
    ended: str = "open"


@dataclass(slots=True)
class AiState:
    """The override in force, and the requests seen since the program began."""

    control: Control | None = None
    left: int | None = None
    counts: Counter[str] = field(default_factory=Counter[str])
    seen: deque[Seen] = field(default_factory=lambda: deque[Seen](maxlen=_KEPT))

    def obey(self, control: Control | None) -> None:
        """Take a new override, or none."""
        self.control = control
        self.left = control.times if control else None

    def choose(self, model: str) -> tuple[str, Scenario] | None:
        """Return name and scenario of the next answer, None for a model nobody knows.

        An override that was given for a number of requests counts one down and ends itself.
        """
        if self.control is None:
            return named(model)
        control, scenario = self.control, self.control.tuned()
        if self.left is not None:
            self.left -= 1
            if self.left == 0:
                self.obey(None)
        return (control.scenario.removeprefix(PREFIX), scenario) if scenario else None

    def shown(self) -> dict[str, object]:
        """Return what a person or a test may see of it."""
        control = self.control.model_dump(by_alias=True) if self.control else None
        return {
            "override": control and control | {"left": self.left},
            "requests": self.counts.total(),
            "byScenario": dict(self.counts),
            "last": [
                {
                    "model": one.model,
                    "scenario": one.scenario,
                    "ended": one.ended,
                    "slots": [f"{s.date} {s.time} {s.channel}" for s in one.slots],
                }
                for one in self.seen
            ],
        }


def named(model: str) -> tuple[str, Scenario] | None:
    """Read a model name such as `sim-ok` or `sim-ok@0`, where the number is the entry gap in ms."""
    name, _, gap_ms = model.partition("@")
    scenario = SCENARIOS.get(name.removeprefix(PREFIX)) if name.startswith(PREFIX) else None
    if scenario is None or not (gap_ms.isdecimal() or model == name):
        return None
    if gap_ms:
        scenario = replace(scenario, entry_gap_ms=min(int(gap_ms), 600_000))
    return name.removeprefix(PREFIX), scenario
