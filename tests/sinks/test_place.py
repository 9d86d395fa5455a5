"""Names of files for mailboxes: no two of them share one, and none leads elsewhere, whatever they are called."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from imapipe import sinks

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
