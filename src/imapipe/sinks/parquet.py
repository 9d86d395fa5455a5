"""Parquet: a folder of files, each with the rows of one mailbox; DuckDB, polars and pandas read it as one table.

    FOLDER/<tag>-<UIDVALIDITY>-000001.parquet        the tag stands for account and mailbox

Invariants:

- A file has its name when it is closed, synced and whole; what was being written when a process died is removed by the
  next run on that mailbox.
- Each file says in its metadata which messages are in it: one that is there is not written again.
- A mirror writes those files anew in which something changed, one after the other: whoever reads the folder always
  finds one table, without rows that other rows make void.
- Rows wait in memory up to `_GROUP_BYTES`, then they are a row group of the file that is being written.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from imapipe.changes.mirror import Held
from imapipe.durable_file import open_new, remove, sync_folder
from imapipe.middleware.base import Run
from imapipe.models.flag_table import FlagGatherer
from imapipe.models.message import Message
from imapipe.runtime.lock_file import LockFile
from imapipe.sinks.hold import hold
from imapipe.sinks.mirrored import MirrorSink, Pending
from imapipe.sinks.parquet_columns import Columns, make_schema
from imapipe.sinks.parquet_part import KEY, flags_in, note_of, rewrite, uids_in
from imapipe.sinks.place import Place
from imapipe.sinks.rows import Rows
from imapipe.sinks.staged import make_folder, names_in
from imapipe.wire.uid_set import UidSet

if TYPE_CHECKING:
    import pyarrow.parquet as pq

_PART: Final = re.compile(r"([0-9a-f]{8})-(\d+)-(\d{6,})\.parquet\Z")
_GROUP_BYTES: Final = 8 * 1024 * 1024
_GROUP_ROWS: Final = 10_000
# What a row costs beside its text.
_ROW_BYTES: Final = 400


class Parquet(MirrorSink):
    """Writes a row for each message into Parquet files; needs `pip install 'imapipe[parquet]'`.

    The columns are always the same, so that files of all jobs go together; what the job does not fetch is null.

    Args:
        path: The folder; made where it is missing.
        rows_per_file: A file is closed when it has so many rows; its messages are done then, not before.
        compression: Of the columns, by Parquet's names.
        durable: Whether a file must survive a loss of power before its messages count as done.

    Raises:
        ModuleNotFoundError: pyarrow is not installed.
    """

    needs_body = False
    commit_every_seconds = 60.0

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        rows_per_file: int = 50_000,
        compression: str = "zstd",
        durable: bool = True,
    ) -> None:
        super().__init__(path, durable=durable)
        if rows_per_file < 1:
            raise ValueError(f"rows_per_file must be 1 or more, not {rows_per_file}")
        self.commit_every_messages = rows_per_file
        self._compression = compression
        self._schema = make_schema()
        self._columns = Columns(self._schema, ())
        self._bytes = 0
        self._uids: list[int] = []
        self._writer: pq.ParquetWriter | None = None
        self._file: io.BufferedWriter | None = None
        self._lock: LockFile | None = None

    def for_mailbox(self, name: str, delimiter: str | None) -> Parquet:
        """The sink for one mailbox of a whole account: files of its own in the same folder."""
        return Parquet(
            self.path, rows_per_file=self.commit_every_messages, compression=self._compression, durable=self._durable
        )

    def _open(self, run: Run) -> None:
        self._rows = Rows(run, None)
        self._columns = Columns(self._schema, self._rows.names)
        self._begin(Place.of(run))

    def _begin(self, place: Place) -> None:
        make_folder(self.path, durable=self._durable)
        self._place = place
        self._tag = self._place.tag
        self._lock = hold(self.path / f".{self._tag}.imapipe.lock", self.path, "folder", of=repr(place.mailbox))
        self._partial = self.path / f".{self._tag}.imapipe-part"
        remove(os.fspath(self._partial))
        self._there, self._number = self._find_parts()

    def _known(self) -> UidSet:
        return self._there

    def _write_one(self, message: Message) -> None:
        if message.uid in self._there:
            return
        row = self._rows.of(message)
        text = row.get("text")
        self._columns.add(row)
        self._uids.append(message.uid)
        self._bytes += _ROW_BYTES + (len(text) if isinstance(text, str) else 0)
        if self._bytes >= _GROUP_BYTES or len(self._columns) >= _GROUP_ROWS:
            self._flush()

    def _flush(self) -> None:
        """Make a row group of the rows that wait."""
        import pyarrow.parquet as pq  # noqa: PLC0415  # 40 MB that only this sink needs

        if self._writer is None:
            remove(os.fspath(self._partial))
            # Opened by us: nobody else may read it while it is written, and no link is followed.
            fd = open_new(self._partial)
            self._file = io.BufferedWriter(io.FileIO(fd, "wb"))
            self._writer = pq.ParquetWriter(self._file, self._schema, compression=self._compression)
        self._writer.write_table(self._columns.take())
        self._bytes = 0

    def _commit(self) -> None:
        if not self._uids:
            return
        if len(self._columns):
            self._flush()
        assert self._writer is not None
        assert self._file is not None
        new = UidSet.from_numbers(self._uids)
        self._writer.add_key_value_metadata({KEY: note_of(self._place, new)})
        writer, self._writer = self._writer, None
        with self._file as file:
            writer.close()
            file.flush()
            if self._durable:
                os.fsync(file.fileno())
        self._number += 1
        path = self._path_of(self._place, self._number)
        self._partial.replace(path)
        self._file = None
        if self._durable:
            sync_folder(os.fspath(path))
        self._there |= new
        self._uids.clear()

    def _close(self) -> None:
        writer, self._writer = self._writer, None
        file, self._file = self._file, None
        self._columns = Columns(self._schema, ())
        self._uids.clear()
        self._bytes = 0
        lock, self._lock = self._lock, None
        try:
            if file is not None:
                # What is not committed is thrown away: nothing depends on whether the disk takes it.
                if writer is not None:
                    with suppress(OSError):
                        writer.close()
                with suppress(OSError):
                    file.close()
                remove(os.fspath(self._partial))
        finally:
            if lock is not None:
                lock.release()

    def _find_parts(self) -> tuple[UidSet, int]:
        """What is in the files of this mailbox, and the highest of their numbers."""
        there, number = UidSet(), 0
        for path, uidvalidity, its_number in self._parts():
            number = max(number, its_number)
            if uidvalidity == self._place.uidvalidity:
                there |= uids_in(path, self._place)
        return there, number

    def _parts(self) -> Iterator[tuple[Path, int, int]]:
        """The files of this mailbox by their names: path, UIDVALIDITY, number."""
        for name in list(names_in(self.path)):
            part = _PART.match(name)
            if part is not None and part[1] == self._tag:
                yield self.path / name, int(part[2]), int(part[3])

    def kept_flags(self, flags: frozenset[str]) -> frozenset[str]:
        """See `Mirror`: all of them."""
        return flags

    def _open_mirror(self, place: Place) -> Held:
        self._begin(place)
        gatherer, earlier = FlagGatherer(), 0
        for path, uidvalidity, _ in self._parts():
            uids = uids_in(path, place._replace(uidvalidity=uidvalidity))
            if uidvalidity != place.uidvalidity:
                earlier += len(uids)
            elif uids:
                for uid, flags in flags_in(path):
                    gatherer.add(uid, flags)
        return Held(gatherer.table().sets, earlier)

    def _follow(self, pending: Pending) -> None:
        touched = pending.removed | UidSet.from_numbers(pending.flags)
        for path, uidvalidity, _ in self._parts():
            uids = uids_in(path, self._place._replace(uidvalidity=uidvalidity))
            is_here = uidvalidity == self._place.uidvalidity
            left = uids - pending.removed if is_here else UidSet()
            if not uids or not (uids & touched if is_here else pending.earlier):
                continue
            if not left:
                path.unlink()
                continue
            self._rewrite(path, path, self._place, {uid: uid for uid in left}, pending.flags)
        if self._durable:
            sync_folder(os.fspath(self._partial))

    def _set_apart(self, apart: int) -> None:
        # That it was done is noted: what comes under these UIDs afterwards is there rightly.
        done = self.path / f".{self._tag}-{apart}.imapipe"
        if done.exists():
            return
        for path, uidvalidity, number in list(self._parts()):
            if uidvalidity == self._place.uidvalidity and (uids := uids_in(path, self._place)):
                place = self._place._replace(uidvalidity=apart)
                self._rewrite(path, self._path_of(place, number), place, {uid: uid for uid in uids})
                path.unlink()
        os.close(open_new(done))
        if self._durable:
            sync_folder(os.fspath(done))

    def _move(self, before: int, uids: Mapping[int, int]) -> None:
        self._there, self._number = self._find_parts()
        place = self._place._replace(uidvalidity=before)
        for path, uidvalidity, _ in list(self._parts()):
            has = uids_in(path, place) if uidvalidity == before else UidSet()
            moved = {uid: uids[uid] for uid in has if uid in uids}
            if not moved:
                continue
            # What is there under its new UID was moved before a death, or has come once more.
            wanted = {uid: now for uid, now in moved.items() if now not in self._there}
            if wanted:
                self._number += 1
                self._rewrite(path, self._path_of(self._place, self._number), self._place, wanted)
                self._there |= UidSet.from_numbers(wanted.values())
            left = has - UidSet.from_numbers(moved)
            if left:
                self._rewrite(path, path, place, {uid: uid for uid in left})
            else:
                path.unlink()
        if self._durable:
            sync_folder(os.fspath(self._partial))

    def _path_of(self, place: Place, number: int) -> Path:
        return self.path / f"{self._tag}-{place.uidvalidity}-{number:06}.parquet"

    def _rewrite(
        self,
        source: Path,
        target: Path,
        place: Place,
        uids: Mapping[int, int],
        flags: Mapping[int, frozenset[str]] = MappingProxyType({}),
    ) -> None:
        rewrite(source, target, self._partial, place, uids, flags, compression=self._compression, durable=self._durable)
