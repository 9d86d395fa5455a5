"""What is known of mailboxes without opening them."""

from __future__ import annotations

import pytest

from imapipe.models.mailbox import MailboxEntry, MailboxStatus


def test_status_items() -> None:
    items = {"MESSAGES": 3, "UIDNEXT": 9, "UIDVALIDITY": 7, "UNSEEN": 1, "DELETED": 2, "SIZE": 99, "HIGHESTMODSEQ": 5}
    status = MailboxStatus.from_items("INBOX", {**items, "MAILBOXID": "F1", "X-OTHER": 1})
    assert status == MailboxStatus("INBOX", 3, 9, 7, 1, 2, 99, 5, "F1")
    # What is no number, as what was not told.
    assert MailboxStatus.from_items("x", {"MESSAGES": "many"}) == MailboxStatus("x")


@pytest.mark.parametrize(
    ("attributes", "selectable", "role"),
    [
        ({"\\HasChildren"}, True, None),
        ({"\\Noselect"}, False, None),
        ({"\\NONEXISTENT", "\\Sent"}, False, "\\Sent"),
        ({"\\HasNoChildren", "\\Trash"}, True, "\\Trash"),
    ],
)
def test_attributes(attributes: set[str], selectable: bool, role: str | None) -> None:
    entry = MailboxEntry("x", "/", frozenset(attributes))
    assert (entry.is_selectable, entry.special_use, entry.status) == (selectable, role, None)
    status = MailboxStatus("x", 3)
    assert entry.with_status(status).status is status
