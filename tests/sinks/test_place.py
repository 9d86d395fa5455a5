"""Names of files for mailboxes: no two of them share one, and none leads elsewhere, whatever they are called."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import imapipe
from imapipe import search as q
from imapipe import sinks
from imapipe.models.mailbox import MailboxEntry, with_own_places
from imapipe.testing import Rewrite, Server

LEVEL = st.sampled_from(["A", "cur", "Cur", "%63ur", "tmp", "A.mbox", "A%2Embox", "A.mbox.imapipe", "", ".", "B" * 300])
NAMES = st.lists(LEVEL, min_size=1, max_size=3).map("/".join)


def _paths(kind: str, name: str) -> set[Path]:
    """What a mailbox's sink makes of its own: folders and files."""
    if kind == "mbox":
        path = sinks.Mbox("out").for_mailbox(name, "/").path
        return {path, path.with_name(f"{path.name}.imapipe"), path.with_name(f"{path.name}.imapipe.lock")}
    path = sinks.Maildir("out", layout="folders").for_mailbox(name, "/").path
    return {path / "cur", path / "new", path / "tmp"}


@pytest.mark.parametrize("kind", ["mbox", "maildir"])
@given(one=NAMES, other=NAMES)
def test_no_mailbox_lies_in_what_belongs_to_another(kind: str, one: str, other: str) -> None:
    if one == other:
        return
    mine, theirs = _paths(kind, one), _paths(kind, other)
    assert not mine & theirs
    for path in theirs:
        assert not mine & set(path.parents), (one, other)


ROOT: Final = Path("/srv/mail")
KINDS: Final[dict[str, Callable[[], sinks.Maildir | sinks.EmlFolder | sinks.Mbox]]] = {
    "maildir++": lambda: sinks.Maildir(ROOT),
    "maildir folders": lambda: sinks.Maildir(ROOT, layout="folders"),
    "eml": lambda: sinks.EmlFolder(ROOT),
    "mbox": lambda: sinks.Mbox(ROOT),
}
ODD: Final = [
    *(
        "",
        ".",
        "..",
        "a",
        "a ",
        "a.",
        "b",
        "%",
        "%2F",
        "%2E",
        "con",
        "NUL",
        "COM1.txt",
        ".imapipe",
        "cur",
        "new",
        "INBOX",
    ),
    *("x\0y", "x\r\ny", "\ud800", "é", "e\u0301", "n" * 300, "é" * 150, "n" * 299 + "m"),
]
ANY: Final = st.lists(st.one_of(st.text(max_size=8), st.sampled_from(ODD)), min_size=1, max_size=3).map("/".join)


@pytest.mark.parametrize("kind", KINDS)
@example("/etc/passwd", "etc/passwd", "/")
@example("../../x", "x", None)
@example("a/b", "a%2Fb", None)
@example("a.b", "a/b", "/")
@given(ANY, ANY, st.sampled_from(["/", ".", "\\", None]))
def test_each_mailbox_has_a_place_of_its_own_below_the_root(
    kind: str, one: str, other: str, delimiter: str | None
) -> None:
    sink = KINDS[kind]()
    places = [os.fspath(sink.for_mailbox(name, delimiter).path) for name in (one, other)]
    for place in places:
        # Whoever joins and opens it comes to nowhere else, on a file system that takes 255 bytes for a name.
        assert os.path.normpath(place) == place
        assert Path(place).is_relative_to(ROOT)
        assert all(len(part.encode()) <= 255 for part in Path(place).parts)
        assert not set(place) & set(map(chr, range(32)))
    assert (places[0] == places[1]) == (one == other)


DELIMITERS: Final = st.sampled_from([None, "/", ".", "X", "%"])


@pytest.mark.parametrize("kind", KINDS)
@given(listed=st.dictionaries(st.text("ab/.X%", min_size=1, max_size=5), DELIMITERS, min_size=2, max_size=6))
@example(listed={"a/b": "/", "a.b": ".", "aXb": "X"})
@example(listed={"a/b": "/", "a.b": ".", "a%2Fb": None, "a%2Eb": "/"})
def test_mailboxes_that_only_their_delimiters_tell_apart_have_places_of_their_own(
    kind: str, listed: dict[str, str | None]
) -> None:
    entries = [MailboxEntry(name, delimiter, frozenset()) for name, delimiter in listed.items()]
    sink = KINDS[kind]()
    places = [sink.for_mailbox(each.name, each.delimiter).path for each in with_own_places(entries)]
    assert len(set(places)) == len(entries)


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", ["Maildir", "Mbox", "EmlFolder"])
async def test_a_server_tells_another_delimiter_for_each_mailbox(tmp_path: Path, kind: str) -> None:
    boxes = {"INBOX": 1, "x/y": 2, "x.y": 3}

    def tell(line: bytes) -> bytes:
        return line.replace(b'"/"', b'"."') if b"x.y" in line else line

    async with (
        Server(boxes, faults=[Rewrite(tell, command="LIST", times=9)]) as server,
        imapipe.create_pool(server.url, password=server.password) as pool,
    ):
        job = pool.each("*").search(q.ALL).fetch("full").use(imapipe.Checkpoint(tmp_path / "state.json"))
        for done in (6, 0):
            report = await job.run(getattr(sinks, kind)(tmp_path / "out"))
            assert (report.complete, report.done) == (True, done)
    assert (tmp_path / "out").is_dir()
    assert not (tmp_path / "out" / "x").exists()
