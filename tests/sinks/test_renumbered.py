"""Where a server gives messages other UIDs, a sink that can follow changes has them under these, and nothing twice."""

from __future__ import annotations

import email
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from tests.sinks.mirrors import MIRRORS, State

import imapipe
from imapipe import search as q
from imapipe import sinks
from imapipe.testing import Mailbox, Server

NAMELESS = b"Subject: no name\r\n\r\nnameless\r\n"


class Copy:
    """A server, its mirror, and a job whose checkpoint finds messages again."""

    def __init__(self, server: Server, folder: Path, kind: str) -> None:
        self.server = server
        self.make, self.read = MIRRORS[kind]
        self._kind = kind
        self.path = folder / "mirror"
        self.state = folder / "state.json"

    async def run(self, sink: imapipe.Sink | None = None) -> tuple[imapipe.RunReport, imapipe.MirrorReport]:
        async with imapipe.create_pool(self.server.url, password=self.server.password) as pool:
            checkpoint = imapipe.Checkpoint(self.state, on_uidvalidity="match")
            inbox = pool.mailbox("INBOX")
            job = inbox.search(q.ALL).fetch("full").use(checkpoint)
            report = await job.run(sink or self.make(self.path))
            changes = inbox.changes(self.state, on_uidvalidity="restart")
            return report, await changes.mirror(self.make(self.path), max_deletions="100%")

    def renumber(self, bodies: list[bytes], how: str) -> Mailbox:
        old = self.server.mailboxes.remove("INBOX")
        # Not every UID of before is given anew: a sink cannot tell by its own numbers what they mean now.
        uidvalidity = old.uidvalidity + (how == "uidvalidity")
        return self.server.mailboxes.add("INBOX", Mailbox(bodies, uidvalidity=uidvalidity))

    def there(self) -> State:
        box = self.server.mailboxes["INBOX"]
        return {(box.uidvalidity, message.uid): frozenset(message.flags) for message in box}

    def subjects(self) -> dict[int, str]:
        """By UID, as others read them, of the numbering of now."""
        return SUBJECTS[self._kind](self.path)


def _subjects_of_maildir(path: Path) -> dict[int, str]:
    return {
        int(file.name.split(".U")[1].split("M")[0]): email.message_from_bytes(file.read_bytes())["Subject"]
        for file in (path / "cur").iterdir()
    }


def _subjects_of_sqlite(path: Path) -> dict[int, str]:
    database = sqlite3.connect(path)
    rows = database.execute("SELECT uid, raw FROM messages JOIN contents ON message = id").fetchall()
    database.close()
    return {uid: email.message_from_bytes(raw)["Subject"] for uid, raw in rows}


def _subjects_of_parquet(path: Path) -> dict[int, str]:
    import polars  # noqa: PLC0415

    rows = polars.read_parquet(path / "*.parquet").to_dicts()
    return {row["uid"]: row["subject"] for row in rows}


SUBJECTS: dict[str, Callable[[Path], dict[int, str]]] = {
    "maildir": _subjects_of_maildir,
    "sqlite": _subjects_of_sqlite,
    "parquet": _subjects_of_parquet,
}


def _plain_subjects(bodies: list[bytes]) -> dict[int, str]:
    return {uid: email.message_from_bytes(body)["Subject"] for uid, body in enumerate(bodies, 1)}


def _bodies(count: int) -> list[bytes]:
    form = b"Message-ID: <%d@x>\r\nDate: Mon, 1 Jan 2024 00:00:00 +0000\r\nSubject: number %d\r\n\r\nx\r\n"
    return [form % (number, number) for number in range(count)]


@pytest.mark.asyncio
@pytest.mark.parametrize("how", ["uidvalidity", "uidnext"])
@pytest.mark.parametrize("kind", MIRRORS)
async def test_what_was_found_again_has_the_new_uid(tmp_path: Path, kind: str, how: str) -> None:
    bodies = _bodies(20)
    async with Server({"INBOX": Mailbox([*bodies, NAMELESS])}) as server:
        copy = Copy(server, tmp_path, kind)
        await copy.run()
        # In another order, some of them gone; then in another one, where some of them are back.
        report = None
        for order in ([*bodies[9:20:2], *bodies[3:9], NAMELESS], [NAMELESS, *reversed(bodies[5:]), bodies[0]]):
            box = copy.renumber(order, how)
            box.set_flags(2, {"\\Flagged"})
            report, mirrored = await copy.run()
            assert report.complete
            assert mirrored.missing == mirrored.kept == 0
            assert copy.read(copy.path) == copy.there()
            assert copy.subjects() == _plain_subjects(order)
        # Only what could not be found again was fetched: the nameless one, and what was gone the first time.
        assert report is not None
        assert report.done <= 1 + 20 - len(bodies[9:20:2]) - len(bodies[3:9])
        report, mirrored = await copy.run()
        assert (report.done, mirrored.flags_changed) == (0, 0)


class _Remembers:
    """A sink that remembers the state of the job as it is when the sink before it is open."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.state = b""

    async def open(self, run: object) -> None:
        self.state = self._path.read_bytes()

    async def write(self, messages: Sequence[imapipe.Message]) -> dict[int, Exception]:
        return {}

    async def commit(self) -> None:
        return

    async def close(self) -> None:
        return


class _Refuses(Exception):
    """A sink that dies."""


@pytest.mark.asyncio
@pytest.mark.parametrize("how", ["uidvalidity", "uidnext"])
@pytest.mark.parametrize("kind", MIRRORS)
async def test_cut_off_in_the_middle_it_is_gone_on_with(
    tmp_path: Path, kind: str, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each file that is renamed or written, in turn; and once more when all of it was done and not yet told."""
    bodies = _bodies(12)
    async with Server({"INBOX": Mailbox(bodies)}) as server:
        copy = Copy(server, tmp_path, kind)
        await copy.run()
        order = [*bodies[6:], *bodies[1:6]]
        copy.renumber(order, how)
        memory = _Remembers(copy.state)
        for allowed in range(0, 40, 3):
            sink = sinks.Tee(copy.make(copy.path), memory)
            left = allowed
            with monkeypatch.context() as patch:
                for name in ("rename", "replace", "unlink"):
                    real = getattr(Path, name)

                    def counted(path: Path, *arguments: object, real: Callable[..., object] = real) -> object:
                        nonlocal left
                        if "mirror" in str(path):
                            left -= 1
                            if left < 0:
                                raise _Refuses
                        return real(path, *arguments)

                    patch.setattr(Path, name, counted)
                async with imapipe.create_pool(server.url, password=server.password) as pool:
                    checkpoint = imapipe.Checkpoint(copy.state, on_uidvalidity="match")
                    job = pool.mailbox("INBOX").search(q.ALL).fetch("full").use(checkpoint)
                    try:
                        await job.run(sink)
                    except _Refuses:
                        continue
                    break
        # A death before the state could say that sinks were told.
        copy.state.write_bytes(memory.state)
        report, mirrored = await copy.run()
        assert report.complete
        assert copy.read(copy.path) == copy.there()
        assert copy.subjects() == _plain_subjects(order)
        assert mirrored.held == 11
