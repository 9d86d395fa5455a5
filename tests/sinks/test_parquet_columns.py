"""Rows that are taken apart into columns come out as they went in."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

import pytest

from imapipe.sinks.rows import COLUMNS, Row

pytest.importorskip("pyarrow")

from imapipe.sinks.parquet_columns import Columns, make_schema

_ANN: Final = {"name": "Ann", "email": "ann@example.org"}
_BOB: Final = {"name": "", "email": "bob@example.org"}
_FILE: Final[dict[str, str | int]] = {
    "filename": "a.txt",
    "content_type": "text/plain",
    "size": 7,
    "content_id": "",
    "section": "2",
}
_DAY: Final = datetime(2024, 2, 29, tzinfo=UTC)
_ROWS: Final[list[Row]] = [
    {"uid": 1, "from": [_ANN, _BOB], "flags": ["\\Seen", "work"], "attachments": [_FILE, {**_FILE, "size": 8}]},
    {"uid": 2, "from": None, "flags": None, "attachments": [], "unreadable": ["from", "flags"]},
    {"uid": 3, "from": [], "flags": [], "attachments": None, "unreadable": ["attachments"]},
    {
        "uid": 4,
        "from": [_BOB],
        "flags": ["\\Flagged"],
        "attachments": [_FILE],
        "date": datetime(2024, 2, 29, tzinfo=UTC),
    },
]


def test_rows_are_what_they_were_and_what_is_not_told_is_null() -> None:
    columns = Columns(make_schema(), ["uid", "date", "from", "flags", "attachments"])
    for rows in (_ROWS, _ROWS[:0], _ROWS[::-1]):
        for row in rows:
            columns.add(row)
        assert len(columns) == len(rows)
        table = columns.take()
        assert len(columns) == 0
        assert table.schema.equals(make_schema())
        assert table.to_pylist() == [dict.fromkeys(table.column_names) | row for row in rows]
    assert set(make_schema().names) == set(COLUMNS) - {"html"}
