"""What imapipe uses each extension of a server for, and what it does where there is none. Data."""

from __future__ import annotations

from typing import Final

EXTENSIONS: Final = (
    ("LIST-STATUS", "counts of all mailboxes in one round trip", "a STATUS for each mailbox, many in flight"),
    ("STATUS=SIZE", "sizes of mailboxes without a look into them", "the sizes of all messages are asked for"),
    ("SPECIAL-USE", "Sent, Trash and Junk by their role", "mailboxes are known by name only"),
    ("ESEARCH", "answers to searches as ranges", "answers to searches number by number"),
    ("PARTIAL", "searches of huge mailboxes in pieces", "one answer for all of a search"),
    ("UIDPLUS", "removing the messages that were meant and no others", "messages are marked as deleted, and stay"),
    ("MOVE", "moving in one step", "copying, then removing what was copied"),
    ("CONDSTORE", "flags that changed since the last time", "the flags of all messages are compared"),
    ("QRESYNC", "what vanished since the last time", "the UIDs of all messages are compared"),
    ("OBJECTID", "messages found again when a mailbox is renumbered", "Message-ID, date and size are compared"),
    ("IDLE", "new mail at once", "looking from time to time"),
    ("NOTIFY", "news of all mailboxes on one connection", "a connection for each of some mailboxes, looks at the rest"),
    ("COMPRESS=DEFLATE", "fewer bytes where the line is slow", "all bytes go over the line"),
    ("UIDONLY", "all messages where a server shows only some", "sequence numbers, as ever"),
    ("MULTIAPPEND", "several messages in one command, written to this account", "one command for each"),
    ("LITERAL-", "short texts sent without waiting", "a round trip for each text"),
    ("QUOTA", "how full the account is", "nobody knows before it is full"),
    ("X-GM-EXT-1", "labels, and each message once", ""),
)
"""The name of the capability; what it is used for; what is done without, "" where only one provider has it."""
