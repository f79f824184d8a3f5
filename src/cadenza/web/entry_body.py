"""What a client may send of an entry, each field strictly; how it is said, people can mend."""

import datetime as dt
from collections.abc import Mapping
from typing import Annotated, Any, Final, cast
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

from cadenza.calendar.model import MAX_ENTRIES, Changes, Sent
from cadenza.calendar.request import (
    AUDIENCE_CHARS,
    FORMAT_CHARS,
    HASHTAG_CHARS,
    HASHTAGS,
    TEXT_CHARS,
)
from cadenza.web.fields import STORABLE, Channel, Day, WallTime, Zone

TITLE_CHARS: Final = 300
MEDIA: Final = 35
MEDIA_CHARS: Final = 2000
_CONTENT: Final[Mapping[str, str]] = {
    **{name: name for name in ("title", "channel", "format", "script", "date", "time")},
    **{name: name for name in ("timezone", "hashtags", "media")},
    "text": "copy",
    "audience": "target_audience",
}


def _bare(tag: str) -> str:
    bare = tag.lstrip("#")
    if not bare:
        raise PydanticCustomError("empty_hashtag", "Use at least 1 character after the #")
    return bare


_Tag = Annotated[str, Field(max_length=HASHTAG_CHARS), STORABLE, AfterValidator(_bare)]
_ReadOnly = Annotated[object, Field(json_schema_extra={"readOnly": True})]


class EntryBody(BaseModel):
    """Fields of an entry; those left out stay as they are, and read-only ones are not looked at."""

    model_config = ConfigDict(strict=True, extra="forbid", hide_input_in_errors=True)

    title: Annotated[
        str, Field(min_length=1, max_length=TITLE_CHARS, default_factory=str), STORABLE
    ]
    channel: Annotated[Channel, Field(default_factory=str)]
    format: Annotated[
        str, Field(min_length=1, max_length=FORMAT_CHARS, default_factory=str), STORABLE
    ]
    text: Annotated[str, Field(alias="copy", max_length=TEXT_CHARS, default_factory=str), STORABLE]
    script: Annotated[str, Field(max_length=TEXT_CHARS), STORABLE] | None = None
    audience: Annotated[str, Field(max_length=AUDIENCE_CHARS), STORABLE] | None = Field(
        None, alias="targetAudience"
    )
    date: Annotated[Day, Field(default_factory=lambda: dt.date.min)]
    time: Annotated[WallTime, Field(default_factory=str)]
    timezone: Annotated[Zone, Field(default_factory=str)]
    hashtags: Annotated[list[_Tag], Field(max_length=HASHTAGS, default_factory=list)]
    media: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=MEDIA_CHARS), STORABLE]],
        Field(max_length=MEDIA, default_factory=list),
    ]

    version: _ReadOnly = None
    status: _ReadOnly = None
    needs_review: Annotated[_ReadOnly, Field(alias="needsReview")] = None
    calendar_id: Annotated[_ReadOnly, Field(alias="calendarId")] = None
    run_id: Annotated[_ReadOnly, Field(alias="runId")] = None
    created_at: Annotated[_ReadOnly, Field(alias="createdAt")] = None
    updated_at: Annotated[_ReadOnly, Field(alias="updatedAt")] = None
    revision: _ReadOnly = None

    def changes(self) -> Changes:
        """Return what was sent, and nothing else."""
        sent: dict[str, Any] = {
            field: getattr(self, name)
            for name, field in _CONTENT.items()
            if name in self.model_fields_set
        }
        lists = {name: tuple(sent[name]) for name in ("hashtags", "media") if name in sent}
        return cast("Changes", sent | lists)


class PatchBody(EntryBody):
    """What a PATCH changes; the entry is the one of the address, whatever id the body has."""

    id: _ReadOnly = None


class SavedBody(EntryBody):
    """One entry of a save-all: known by its id, or new."""

    id: Annotated[UUID | None, Field(strict=False)] = None


class SaveAllBody(BaseModel):
    """All that a calendar shall hold; a calendar as it was read can be sent back whole."""

    model_config = ConfigDict(strict=True, extra="forbid", hide_input_in_errors=True)

    entries: Annotated[list[SavedBody], Field(max_length=MAX_ENTRIES)]
    id: _ReadOnly = None
    revision: _ReadOnly = None
    created_at: Annotated[_ReadOnly, Field(alias="createdAt")] = None
    updated_at: Annotated[_ReadOnly, Field(alias="updatedAt")] = None

    def sent(self) -> list[Sent]:
        """Return the entries as they were sent, in their order."""
        return [Sent(id=entry.id, changes=entry.changes()) for entry in self.entries]
