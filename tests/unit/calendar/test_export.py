"""Exports: the same entries give the same bytes, and every text comes back whole."""

import csv
import datetime as dt
import io
import json
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cadenza.calendar.export import COLUMNS, FORMULA_STARTS, as_csv, as_json
from cadenza.calendar.model import Calendar, Entry

AT = dt.datetime(2026, 11, 23, tzinfo=dt.UTC)
HEADER = b"title,channel,format,copy,script,targetAudience,date,time,timezone,hashtags,status\r\n"
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=60)
ODD = st.sampled_from(['"', ",", "\r", "\n", "\r\n", "=1+1", "'=x", "\ttab", "; ", "'", "é🍞"])


def entry(number: int = 1, /, **fields: Any) -> Entry:
    whole: dict[str, Any] = {
        "id": UUID(int=number),
        "calendar_id": UUID(int=100),
        "run_id": None,
        "version": 1,
        "title": "Title",
        "channel": "instagram",
        "format": "post",
        "copy": "Copy",
        "script": None,
        "target_audience": None,
        "date": dt.date(2026, 12, 1),
        "time": "09:00",
        "timezone": "Europe/Madrid",
        "hashtags": ("bread", "oven"),
        "media": (),
        "needs_review": False,
        "created_at": AT,
        "updated_at": AT,
        **fields,
    }
    return Entry(**whole)


def calendar(revision: int = 3) -> Calendar:
    return Calendar(id=UUID(int=100), revision=revision, created_at=AT, updated_at=AT)


def rows_of(exported: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(exported.decode(), newline="")))


def undefused(cell: str) -> str:
    return cell[1:] if cell[:1] == "'" and cell[1:2] in FORMULA_STARTS else cell


def test_csv_has_one_header_and_ends_every_line_as_the_rfc_says() -> None:
    assert as_csv([]) == HEADER
    assert as_csv([entry()]) == (
        HEADER + b"Title,instagram,post,Copy,,,2026-12-01,09:00,Europe/Madrid,bread;oven,draft\r\n"
    )


@given(copy=st.lists(TEXTS | ODD, max_size=5).map("".join), title=TEXTS | ODD)
def test_every_text_comes_back_from_csv_defused_and_else_unchanged(copy: str, title: str) -> None:
    (row,) = rows_of(as_csv([entry(copy=copy, title=title)]))
    for cell, text in ((row["copy"], copy), (row["title"], title)):
        assert cell == (f"'{text}" if text.startswith(FORMULA_STARTS) else text)
        assert undefused(cell) == undefused(text)
        assert not cell.startswith(FORMULA_STARTS)
    assert set(row) == set(COLUMNS)


@pytest.mark.parametrize("start", FORMULA_STARTS)
def test_no_cell_begins_as_a_formula_does(start: str) -> None:
    dangerous = f"{start}HYPERLINK(1)"
    fields = dict.fromkeys(("title", "copy", "format", "script", "target_audience"), dangerous)
    (row,) = rows_of(as_csv([entry(hashtags=(dangerous, "b"), **fields)]))
    cells = [row[name] for name in ("title", "copy", "format", "script", "targetAudience")]
    assert cells == [f"'{dangerous}"] * 5
    assert row["hashtags"] == f"'{dangerous};b"


@given(st.lists(TEXTS, max_size=4), st.permutations([1, 2, 3]))
def test_json_says_what_is_saved_and_the_same_entries_give_the_same_bytes(
    texts: list[str], order: list[int]
) -> None:
    entries = {n: entry(n, copy=" ".join(texts), hashtags=tuple(texts)) for n in (1, 2, 3)}
    exported = as_json(calendar(), [entries[n] for n in order])
    assert exported == as_json(calendar(revision=4), entries.values())
    document = json.loads(exported)
    assert set(document) == {"id", "entries"}
    assert [each["id"] for each in document["entries"]] == [str(UUID(int=n)) for n in (1, 2, 3)]
    assert document["entries"][0]["hashtags"] == texts
    assert list(document["entries"][0]) == sorted(document["entries"][0])


def test_the_time_of_the_last_write_is_no_part_of_an_export() -> None:
    later = AT + dt.timedelta(days=1)
    assert as_json(calendar(), [entry(updated_at=later)]) == as_json(calendar(), [entry()])
    assert as_csv([entry(updated_at=later)]) == as_csv([entry()])
