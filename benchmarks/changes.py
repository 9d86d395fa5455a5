"""Works that change mail: what each run did is counted on the server itself, and taken back for the next one."""

from __future__ import annotations

import imaplib

from benchmarks.job import KEYWORD, TARGET
from benchmarks.tally import Expected
from dovecot_server import DovecotServer


def expected_of(count: int) -> Expected:
    """What a subject adds up to that changed so many messages: it has read none."""
    return Expected(count, 0, f"{0:016x}")


def take_back(server: DovecotServer, user: str, work: str) -> int:
    """Count what was changed, and make the mailbox what it was; gives the number.

    Raises:
        imaplib.IMAP4.error: It could not be done.
    """
    client = server.login(user)
    try:
        if work == "append":
            client.create(TARGET)
            client.select(TARGET)
            found = _search(client, "ALL")
            client.select("INBOX")
            client.delete(TARGET)
            client.create(TARGET)
        elif work != "set-flags":
            client.create(TARGET)
            client.select(TARGET)
            found = _search(client, "ALL")
            if found:
                _do(client, "MOVE", "1:*", "INBOX")
        else:
            client.select("INBOX")
            found = _search(client, f"KEYWORD {KEYWORD}")
            _do(client, "STORE", "1:*", "-FLAGS.SILENT", f"({KEYWORD})")
        return found
    finally:
        client.logout()


def _search(client: imaplib.IMAP4, keys: str) -> int:
    _, found = client.uid("SEARCH", *keys.split())
    return len((found[0] or b"").split())


def _do(client: imaplib.IMAP4, *words: str) -> None:
    status, said = client.uid(*words)
    if status != "OK":
        raise client.error(repr(said))
