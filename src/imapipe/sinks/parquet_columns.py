"""The columns of Parquet: what each holds, and the rows that wait to become a group of a file.

Invariants:

- A row is taken apart when it comes: what waits is text, numbers and times in a few long lists. Rows would be a dozen
  objects each, through which the collector of garbage goes again and again.
- All columns have as many values as there are rows; what a row does not tell is null.
- What is in a list of structures tells its fields in the order of the schema.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from imapipe.sinks.rows import UNREADABLE, Row, Value

if TYPE_CHECKING:
    import pyarrow as pa


class _Column(Protocol):
    """The values of one column."""

    @property
    def add(self) -> Callable[[Value], object]:
        """Takes one more."""

    def take(self) -> pa.Array:
        """All values; none is left."""


class Columns:
    """Gathers rows.

    Args:
        schema: That of `make_schema`.
        names: The columns that the rows tell; the others are null.
    """

    __slots__ = ("_adds", "_columns", "_count", "_schema")

    def __init__(self, schema: pa.Schema, names: Sequence[str]) -> None:
        self._schema = schema
        self._columns = {name: _new_column(schema.field(name).type) for name in (*names, UNREADABLE)}
        self._adds = [(name, column.add) for name, column in self._columns.items()]
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, row: Row) -> None:
        """Add a row."""
        for name, add in self._adds:
            add(row.get(name))
        self._count += 1

    def take(self) -> pa.Table:
        """All rows as a table; none is left."""
        import pyarrow as pa  # noqa: PLC0415  # 40 MB that only this sink needs

        count, self._count = self._count, 0
        arrays = [
            self._columns[field.name].take() if field.name in self._columns else pa.nulls(count, field.type)
            for field in self._schema
        ]
        return pa.Table.from_arrays(arrays, schema=self._schema)


def _new_column(of: pa.DataType) -> _Column:
    import pyarrow.types  # noqa: PLC0415

    if not pyarrow.types.is_list(of):
        return _Plain(of)
    return _Structures(of) if pyarrow.types.is_struct(of.value_type) else _Words(of)


class _Plain:
    __slots__ = ("_type", "_values", "add")

    def __init__(self, of: pa.DataType) -> None:
        self._type = of
        self._values: list[Value] = []
        self.add: Callable[[Value], object] = self._values.append

    def take(self) -> pa.Array:
        import pyarrow as pa  # noqa: PLC0415

        array = pa.array(self._values, self._type)
        self._values.clear()
        return array


class _Lists:
    """Lists one behind the other, and where each begins."""

    __slots__ = ("_starts", "_type", "_values")

    def __init__(self, of: pa.DataType) -> None:
        self._type = of
        self._values: list[object] = []
        # One that is null has no end: the next one begins where the last one ended.
        self._starts: list[int | None] = []

    def _take(self, fields: int, values: pa.Array) -> pa.Array:
        import pyarrow as pa  # noqa: PLC0415

        starts = pa.array([*self._starts, len(self._values) // fields], pa.int32())
        self._starts.clear()
        self._values.clear()
        return pa.ListArray.from_arrays(starts, values, type=self._type)


class _Words(_Lists):
    __slots__ = ()

    def add(self, value: Value) -> None:
        if isinstance(value, list):
            self._starts.append(len(self._values))
            self._values += value
        else:
            self._starts.append(None)

    def take(self) -> pa.Array:
        import pyarrow as pa  # noqa: PLC0415

        return self._take(1, pa.array(self._values, self._type.value_type))


class _Structures(_Lists):
    """Lists of dictionaries: the values of their fields in turn."""

    __slots__ = ("_fields",)

    def __init__(self, of: pa.DataType) -> None:
        super().__init__(of)
        self._fields = list(of.value_type)

    def add(self, value: Value) -> None:
        if isinstance(value, list):
            values = self._values
            self._starts.append(len(values) // len(self._fields))
            for each in value:
                if isinstance(each, dict):
                    values += each.values()
        else:
            self._starts.append(None)

    def take(self) -> pa.Array:
        import pyarrow as pa  # noqa: PLC0415

        fields, values = self._fields, self._values
        arrays = [pa.array(values[at :: len(fields)], field.type) for at, field in enumerate(fields)]
        return self._take(len(fields), pa.StructArray.from_arrays(arrays, fields=fields))


def make_schema() -> pa.Schema:
    """All columns. Raises ModuleNotFoundError where pyarrow is not installed."""
    try:
        import pyarrow as pa  # noqa: PLC0415
    except ModuleNotFoundError as error:
        advice = "writing Parquet needs pyarrow: pip install 'imapipe[parquet]'"
        raise ModuleNotFoundError(advice, name=error.name) from error
    moment = pa.timestamp("us", "UTC")
    words = pa.list_(pa.string())
    people = pa.list_(pa.struct([("name", pa.string()), ("email", pa.string())]))
    files = pa.list_(
        pa.struct(
            [
                ("filename", pa.string()),
                ("content_type", pa.string()),
                ("size", pa.int64()),
                ("content_id", pa.string()),
                ("section", pa.string()),
            ]
        )
    )
    return pa.schema(
        [
            ("account", pa.string()),
            ("mailbox", pa.string()),
            ("uidvalidity", pa.int64()),
            ("uid", pa.int64()),
            ("message_id", pa.string()),
            ("date", moment),
            ("internal_date", moment),
            ("from", people),
            ("sender", people),
            ("reply_to", people),
            ("to", people),
            ("cc", people),
            ("bcc", people),
            ("subject", pa.string()),
            ("in_reply_to", pa.string()),
            ("flags", words),
            ("labels", words),
            ("size", pa.int64()),
            ("text", pa.string()),
            ("attachments", files),
            (UNREADABLE, words),
        ]
    )
