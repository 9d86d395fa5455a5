"""Names of files for mailboxes: no two of them share one, whatever they are called."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
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
