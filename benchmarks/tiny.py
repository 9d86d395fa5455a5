"""Mailboxes of very many very small messages.

A million files would take four gigabytes and minutes. So equal messages are one file with many names: hard links,
each with the flags and the number of its message in its name, which is all that Dovecot looks at where no content is
asked for.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_CONTENTS: Final = 64  # ext4 allows 65,000 names of a file, so this is enough for four million messages
_FLAGS: Final = (
    ("S", ("\\Seen",)),
    ("S", ("\\Seen",)),
    ("RS", ("\\Answered", "\\Seen")),
    ("FS", ("\\Flagged", "\\Seen")),
    ("F", ("\\Flagged",)),
    ("", ()),
    ("", ()),
)


def write_tiny_mailbox(
    directory: Path, count: int, uidvalidity: int, owner: tuple[int, int] | None
) -> Iterator[tuple[int, tuple[str, ...], int]]:
    """Write a new Maildir mailbox whose messages have the UIDs from 1.

    Args:
        directory: Where; it must not exist.
        count: How many messages.
        uidvalidity: The UIDVALIDITY of the mailbox.
        owner: User and group number of the process that will serve it; None keeps our own.

    Yields:
        UID, flags and size in bytes of each message as it is written; the mailbox is whole when the last was taken.
    """
    current = directory / "cur"
    for path in (directory, current, directory / "new", directory / "tmp"):
        path.mkdir()
    chooser = random.Random("tiny")
    contents = [_content(kind) for kind in range(_CONTENTS)]
    originals: list[str] = []
    records = [f"3 V{uidvalidity} N{count + 1} G{uidvalidity:032x}\n"]
    for uid in range(1, count + 1):
        kind = uid - 1 if uid <= _CONTENTS else chooser.randrange(_CONTENTS)
        letters, flags = chooser.choice(_FLAGS)
        size = len(contents[kind])
        base = f"{uidvalidity}.M{uid}.tiny,S={size},W={size}"
        name = f"{current}/{base}:2,{letters}"
        if uid <= _CONTENTS:
            Path(name).write_bytes(contents[kind])
            originals.append(name)
        else:
            os.link(originals[kind], name)
        records.append(f"{uid} :{base}\n")
        yield uid, flags, size
    (directory / "dovecot-uidlist").write_text("".join(records))
    if owner is not None:
        for path in (directory, current, directory / "new", directory / "tmp", directory / "dovecot-uidlist"):
            os.chown(path, *owner)


def _content(kind: int) -> bytes:
    lines = [f"From: sensor{kind}@example.org", f"Subject: reading {kind}", "", "ok " * kind, ""]
    return "\r\n".join(lines).encode()
