"""Taking a calendar away: JSON for programs, CSV for spreadsheets. Same entries, same bytes."""

import csv
import io
from collections.abc import Iterable
from typing import Final

import orjson

from cadenza.calendar.model import Calendar, Entry, entry_export_wire, in_order

COLUMNS: Final = (
    *("title", "channel", "format", "copy", "script", "targetAudience", "date", "time"),
    *("timezone", "hashtags", "status"),
)
"""The header of CSV version 1. A later version may add columns at the end."""

FORMULA_STARTS: Final = ("=", "+", "-", "@", "\t", "\r")
_STABLE = orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE


def as_json(calendar: Calendar, entries: Iterable[Entry]) -> bytes:
    """Return the calendar's id and entries as UTF-8 JSON with sorted keys.

    Neither a time nor the revision is in it: entries that say the same are the same bytes.
    """
    document = {
        "id": str(calendar.id),
        "entries": [entry_export_wire(entry) for entry in in_order(entries)],
    }
    return orjson.dumps(document, option=_STABLE)


def as_csv(entries: Iterable[Entry]) -> bytes:
    """Return the entries as RFC 4180 in UTF-8: CRLF, one header line, nothing but COLUMNS.

    What is null is an empty cell, and hashtags are joined by `;`. A cell that a spreadsheet would
    take for a formula begins with `'`.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for entry in in_order(entries):
        wire = {**entry_export_wire(entry), "hashtags": ";".join(entry.hashtags)}
        writer.writerow([_cell(wire[column]) for column in COLUMNS])
    return text.getvalue().encode()


def _cell(value: object) -> str:
    text = "" if value is None else str(value)
    return f"'{text}" if text.startswith(FORMULA_STARTS) else text
