"""What a run is asked for; how it is said, people can mend."""

from typing import Annotated, Any, Final

import orjson
from pydantic import BaseModel, ConfigDict, Field

from cadenza.calendar.request import Cadence, RunRequest
from cadenza.channels.registry import CHANNELS
from cadenza.errors import Invalid, Mistake
from cadenza.web.fields import STORABLE, Channel, Day, StorableObject, Zone

BRIEF_CHARS: Final = 4000
CONSTRAINTS: Final = 20
CONSTRAINT_BYTES: Final = 8192


class RunBody(BaseModel):
    """What a run is asked for."""

    model_config = ConfigDict(strict=True, extra="forbid", hide_input_in_errors=True)

    channels: Annotated[list[Channel], Field(min_length=1, max_length=len(CHANNELS))]
    cadence: Annotated[Cadence, Field(strict=False)]
    start: Day
    end: Day
    timezone: Zone = "UTC"
    brief: Annotated[str, Field(max_length=BRIEF_CHARS), STORABLE] | None = None
    constraints: Annotated[
        StorableObject, Field(max_length=CONSTRAINTS, default_factory=dict[str, Any])
    ]

    def asked(self) -> RunRequest:
        """Return the request; raise Invalid for what only the fields together show to be wrong."""
        if mistakes := self._mistakes():
            raise Invalid(f"{mistakes[0].pointer}: {mistakes[0].fix}", mistakes=mistakes)
        return RunRequest(
            channels=tuple(self.channels),
            cadence=self.cadence,
            start=self.start,
            end=self.end,
            timezone=self.timezone,
            brief=self.brief,
            constraints=self.constraints,
        )

    def _mistakes(self) -> list[Mistake]:
        found: list[Mistake] = []
        if self.end < self.start:
            fix = f"Use a date on or after {self.start}"
            found.append(Mistake(pointer="/end", code="BEFORE_START", fix=fix))
        if len(orjson.dumps(self.constraints)) > CONSTRAINT_BYTES:
            fix = f"Use at most {CONSTRAINT_BYTES} bytes of JSON"
            found.append(Mistake(pointer="/constraints", code="TOO_LONG", fix=fix))
        return found
