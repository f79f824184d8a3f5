"""Exports of what is saved: the same bytes however often, whoever wrote last."""

import csv
import io

from cadenza.calendar import edit, read
from cadenza.calendar.export import as_csv, as_json
from cadenza.calendar.read import Caller, Contents
from cadenza.db.pool import Database
from calendar_support import as_sent, content, entries_of, id_of, new, saved, someone, used
from support import TestDatabase

TEXTS = [
    "Plain",
    'Quoted "words", commas; semicolons',
    "Two\r\nlines\nand a lone \r one",
    "=SUM(A1:A9)",
    "'=quoted already",
    "Ñandú 🍞 \N{RIGHT-TO-LEFT MARK}\N{HEBREW LETTER ALEF}",
    "  spaces around  ",
]


def both(contents: Contents) -> tuple[bytes, bytes]:
    return as_json(contents.calendar, contents.entries), as_csv(contents.entries)


async def read_both(db: Database, who: Caller, calendar: dict[str, object]) -> tuple[bytes, bytes]:
    return both(await read.read_calendar(db, who, id_of(calendar)))


def test_every_text_survives_the_database_and_the_export(database: TestDatabase) -> None:
    async def work(db: Database) -> None:
        who = someone()
        sent = [new(copy=text, time=f"1{n}:00") for n, text in enumerate(TEXTS)]
        calendar = await saved(db, who, sent)
        _, exported = await read_both(db, who, calendar)
        rows = list(csv.DictReader(io.StringIO(exported.decode(), newline="")))
        expected = [f"'{text}" if text.startswith("=") else text for text in TEXTS]
        assert [row["copy"] for row in rows] == expected
        assert [row["date"] for row in rows] == ["2026-12-01"] * len(TEXTS)
        assert [row["time"] for row in rows] == [f"1{n}:00" for n in range(len(TEXTS))]

    used(database, work)


def test_the_entries_export_to_the_same_bytes_until_somebody_changes_them(
    database: TestDatabase,
) -> None:
    async def work(db: Database) -> None:
        who = someone()
        calendar = await saved(db, who, [new(title=title) for title in "cab"])
        first = await read_both(db, who, calendar)
        assert await read_both(db, who, calendar) == first
        same = [as_sent(entry, **content(title=entry["title"])) for entry in entries_of(calendar)]
        await edit.save_all(db, who, id_of(calendar), same[::-1], if_match=1)
        assert await read_both(db, who, calendar) == first
        await edit.patch_entry(
            db, who, id_of(calendar), id_of(entries_of(calendar)[0]), {"copy": "x"}, if_match=1
        )
        after = await read_both(db, who, calendar)
        assert (after[0] != first[0], after[1] != first[1]) == (True, True)

    used(database, work)
