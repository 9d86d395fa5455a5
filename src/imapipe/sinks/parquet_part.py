"""One file of a folder of Parquet: which messages are in it, and how it is written anew when some of them change.

Invariants:

- A file says in its metadata of which mailbox it is, and which messages are in it.
- It is replaced by a whole one, in one step: a reader sees the old rows or the new ones, and no row twice.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import orjson

from imapipe.durable_file import open_new, open_to_read, remove
from imapipe.errors import SinkError
from imapipe.sinks.place import Place
from imapipe.wire.uid_set import MAX_UID, UidSet

if TYPE_CHECKING:
    import pyarrow as pa

KEY: Final = b"imapipe"
_DAMAGED: Final = "what is in it cannot be read; put a copy back, or move it to another folder"
_ROWS_AT_A_TIME: Final = 10_000


def note_of(place: Place, uids: UidSet) -> bytes:
    """What a file says of itself."""
    return orjson.dumps([*place, uids.text()])


def uids_in(path: Path, place: Place) -> UidSet:
    """The messages of a mailbox that are in a file: none where the tag in its name is another one's by chance."""
    import pyarrow.parquet as pq  # noqa: PLC0415  # 40 MB that only this sink needs

    with _reading(path, "it does not tell which messages are in it; move it to another folder") as file:
        metadata: Mapping[bytes, bytes] = pq.read_metadata(file).metadata or {}
        *whose, uids = orjson.loads(metadata[KEY])
        return UidSet.parse(uids) if Place(*whose) == place else UidSet()


@contextmanager
def _reading(path: Path, reason: str = _DAMAGED) -> Iterator[io.BufferedReader]:
    """A file that pyarrow reads. Raises OSError, SinkError: with that reason, where it is not what it should be."""
    import pyarrow.lib  # noqa: PLC0415  # 40 MB that only this sink needs

    try:
        # A pipe would be waited for.
        with open_to_read(os.fspath(path), through_links=True) as file:
            yield file
    except OSError as error:
        if error.errno is None:
            # It is of pyarrow, and tells of the content, in several lines.
            raise SinkError(reason, path=str(path)) from error
        raise
    except (LookupError, OverflowError, TypeError, ValueError, pyarrow.lib.ArrowException) as error:
        raise SinkError(reason, path=str(path)) from error


def flags_in(path: Path) -> Iterator[tuple[int, frozenset[str]]]:
    """UIDs and flags of the messages in a file."""
    import pyarrow.parquet as pq  # noqa: PLC0415

    sets: dict[tuple[str, ...], frozenset[str]] = {}
    with _reading(path) as opened, pq.ParquetFile(opened) as file:
        for batch in file.iter_batches(batch_size=_ROWS_AT_A_TIME, columns=["uid", "flags"]):
            for uid, flags in zip(batch["uid"].to_pylist(), batch["flags"].to_pylist(), strict=True):
                key = tuple(flags or ())
                if key not in sets:
                    sets[key] = frozenset(map(_text, key))
                yield _uid(uid), sets[key]


def _uid(value: object) -> int:
    if isinstance(value, int) and 0 < value <= MAX_UID:
        return value
    raise ValueError("a row has no UID")


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    raise TypeError("a flag is no text")


def rewrite(
    path: Path,
    target: Path,
    partial: Path,
    place: Place,
    uids: Mapping[int, int],
    flags: Mapping[int, frozenset[str]],
    *,
    compression: str,
    durable: bool,
) -> None:
    """Write some messages of a file into one, with other flags or UIDs; a few thousand rows are in memory at a time.

    Args:
        path: The file that they are in.
        target: That which is written, the same or another one.
        partial: Where it is written first, in the same folder.
        place: The mailbox, under the UIDVALIDITY that is written.
        uids: The UIDs that they get, by those that they have; messages that are not named are left out.
        flags: Flags that are different now, by the UID that they have.
        compression: Of the columns.
        durable: Whether it must be on the disk before it replaces the other one.

    Raises:
        OSError: It could not be read or written; all files are as they were.
    """
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.parquet as pq  # noqa: PLC0415

    remove(os.fspath(partial))
    fd = open_new(partial)
    try:
        with (
            os.fdopen(fd, "wb") as file,
            _reading(path) as opened,
            pq.ParquetFile(opened) as source,
        ):
            schema = source.schema_arrow.remove_metadata()
            with pq.ParquetWriter(file, schema, compression=compression) as writer:
                for batch in source.iter_batches(batch_size=_ROWS_AT_A_TIME):
                    rows = pa.Table.from_batches([batch]).cast(schema)
                    writer.write_table(_changed(rows, place.uidvalidity, uids, flags))
                writer.add_key_value_metadata({KEY: note_of(place, UidSet.from_numbers(uids.values()))})
            file.flush()
            if durable:
                os.fsync(file.fileno())
        partial.replace(target)
    except BaseException:
        remove(os.fspath(partial))
        raise


def _changed(
    rows: pa.Table, uidvalidity: int, uids: Mapping[int, int], flags: Mapping[int, frozenset[str]]
) -> pa.Table:
    import pyarrow as pa  # noqa: PLC0415

    rows = rows.filter(pa.array([uid in uids for uid in rows["uid"].to_pylist()], pa.bool_()))
    had = rows["uid"].to_pylist()
    rows = _with(rows, "uid", [uids[uid] for uid in had])
    rows = _with(rows, "uidvalidity", [uidvalidity] * len(had))
    if not any(uid in flags for uid in had):
        return rows
    old = rows["flags"].to_pylist()
    return _with(rows, "flags", [sorted(flags[uid]) if uid in flags else of for uid, of in zip(had, old, strict=True)])


def _with(rows: pa.Table, name: str, values: Sequence[object]) -> pa.Table:
    """The same rows with other values in a column."""
    import pyarrow as pa  # noqa: PLC0415

    field = rows.schema.field(name)
    return rows.set_column(rows.schema.get_field_index(name), field, pa.array(values, field.type))
