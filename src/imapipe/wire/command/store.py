"""UID STORE (RFC 9051 §6.4.6): change flags; with UNCHANGEDSINCE (RFC 7162 §3.1.3) only where nobody else did."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum

from imapipe.wire.command.encoder import Request, Word, flag_list, number, sequence_set
from imapipe.wire.response.response import Tagged
from imapipe.wire.uid_set import UidSet


class FlagChange(Enum):
    """What happens to the flags that a message has."""

    ADD = "+FLAGS"
    REMOVE = "-FLAGS"
    REPLACE = "FLAGS"


def uid_store(
    uids: UidSet, change: FlagChange, flags: Iterable[str], *, silent: bool = True, unchanged_since: int | None = None
) -> Request:
    r"""UID STORE.

    Args:
        uids: Which messages.
        change: What to do with the flags.
        flags: Such as `\Seen` and `$Junk`.
        silent: Do not tell the flags that result.
        unchanged_since: Only messages whose mod-sequence is not above this; the server must offer CONDSTORE.

    Raises:
        ValueError: An empty set, a flag that cannot be set, or a number that is none.
    """
    words: list[Word] = [sequence_set(uids)]
    if unchanged_since is not None:
        words.append(b"(UNCHANGEDSINCE " + number(unchanged_since, "a mod-sequence") + b")")
    item = FlagChange(change).value.encode()
    words += (item + b".SILENT" if silent else item, flag_list(flags))
    return Request("UID STORE", *words)


def read_modified(tagged: Tagged) -> UidSet:
    """The messages that UNCHANGEDSINCE has left alone."""
    return (tagged.code.modified if tagged.code is not None else None) or UidSet()
