"""Kinds of fields that several bodies have, each strict, with a cure in words when it is not so."""

import datetime as dt
import math
import re
from collections.abc import Iterable
from functools import cache
from typing import Annotated, Any, Final, cast
from zoneinfo import available_timezones

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from cadenza.channels.registry import CHANNELS

DEPTH: Final = 20
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_DAY = re.compile(r"\d{4}-\d\d-\d\d")
_WALL_TIME: Final = "([01][0-9]|2[0-3]):[0-5][0-9]"
_MAX_INT: Final = 2**63 - 1


def _storable(text: str) -> str:
    if _UNSTORABLE.search(text):
        fix = "Use a string of valid Unicode without the character NUL"
        raise PydanticCustomError("wrong_type", fix)
    return text


def _day(given: object) -> object:
    """Let pydantic read dates only from what looks like one; it would take numbers too."""
    if isinstance(given, str) and _DAY.fullmatch(given):
        return given
    raise PydanticCustomError("bad_date", "Use a date such as 2026-12-01")


def _wall_time(text: str) -> str:
    if re.fullmatch(_WALL_TIME, text, re.ASCII):
        return text
    raise PydanticCustomError("bad_time", "Use a wall time such as 09:00")


@cache
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())


def _zone(text: str) -> str:
    if text in _zones():
        return text
    raise PydanticCustomError("unknown_timezone", "Use an IANA zone such as Europe/Madrid")


def _known_channel(text: str) -> str:
    if text in CHANNELS:
        return text
    known = {"channels": ", ".join(CHANNELS)}
    raise PydanticCustomError("unknown_channel", "Use one of {channels}", known)


def _storable_json(given: dict[str, Any]) -> dict[str, Any]:
    if _is_storable(given, DEPTH):
        return given
    fix = f"Use valid Unicode without NUL, numbers of at most 64 bits, and {DEPTH} levels at most"
    raise PydanticCustomError("wrong_type", fix)  # pyright: ignore[reportArgumentType]


def _is_storable(value: object, depth: int) -> bool:
    match value:
        case str():
            return not _UNSTORABLE.search(value)
        case int():
            return abs(value) <= _MAX_INT
        case float():
            return math.isfinite(value)
        case dict() | list():
            inside = _inside(cast("dict[Any, Any] | list[Any]", value))
            return depth > 0 and all(_is_storable(item, depth - 1) for item in inside)
        case _:
            return value is None


def _inside(value: dict[Any, Any] | list[Any]) -> Iterable[object]:
    return (*value, *value.values()) if isinstance(value, dict) else value


STORABLE: Final = AfterValidator(_storable)
"""For a string: that the database can keep it. Bounds of its length come before this."""

Channel = Annotated[
    str, AfterValidator(_known_channel), Field(json_schema_extra={"enum": [*CHANNELS]})
]
Day = Annotated[dt.date, BeforeValidator(_day), Field(strict=False)]
WallTime = Annotated[
    str, AfterValidator(_wall_time), Field(json_schema_extra={"pattern": f"^{_WALL_TIME}$"})
]
Zone = Annotated[str, AfterValidator(_zone), Field(examples=["Europe/Madrid"])]

StorableObject = Annotated[dict[str, Any], AfterValidator(_storable_json)]
"""Any JSON object that the database keeps."""
