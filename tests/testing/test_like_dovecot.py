"""The same dialogues with Dovecot and with the testing server: where they agree, clients see one server.

What is compared is what a client can act on: status, response codes, data. Texts, the order of what has none, and
numbers that each server chooses for itself are not.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from dovecot_server import DovecotServer
from imapipe.testing import Mailbox, Quota, Server

Connect = Callable[[int], Awaitable[Any]]

_SPECIAL = """
namespace inbox {
  mailbox Trash {
    special_use = \\Trash
    auto = subscribe
  }
  mailbox Sent {
    special_use = \\Sent
    auto = create
  }
}
"""
_SPECIAL_2_3 = """
plugin {
  quota = maildir:User quota
  quota_rule = *:storage=100M
}
protocol imap {
  mail_plugins = quota imap_quota
}
"""
# Told by one of the two only, each as it may.
_OPTIONAL = re.compile(rb"\* (\d+ RECENT|OK \[(UNSEEN|CLOSED|HIGHESTMODSEQ|NOMODSEQ|MAILBOXID|UIDNEXT|UIDVALIDITY))")
_LITERAL = re.compile(rb"\{(\d+)\}\r\n")
_MESSAGE = "{22+}\r\nSubject: one\r\n\r\nbody\r\n"


@pytest.fixture(scope="module")
def other(dovecot: DovecotServer) -> Iterator[DovecotServer]:
    """A Dovecot with special uses and, where we know its dialect, a quota."""
    extra = _SPECIAL + (_SPECIAL_2_3 if dovecot.version < (2, 4) else "")
    with DovecotServer(compress=False, extra=extra) as server:
        yield server


def _items(text: bytes) -> list[bytes]:
    """The top-level values of what stands between two parentheses; literals and quoted strings are looked over."""
    items, depth, start, at = list[bytes](), 0, 0, 0
    while at < len(text):
        literal = _LITERAL.match(text, at)
        if literal:
            at = literal.end() + int(literal.group(1))
            continue
        char = text[at : at + 1]
        if char == b'"':
            at = text.index(b'"', at + 1)
        depth += (char in b"([") - (char in b")]")
        if char == b" " and not depth:
            items.append(text[start:at])
            start = at + 1
        at += 1
    return [*items, text[start:]]


def _flags(text: bytes) -> bytes:
    flags = {flag for flag in text.strip(b"()").split() if flag != b"\\Recent"}
    return b"(" + b" ".join(sorted(flags)) + b")"


def _fetch(text: bytes) -> list[bytes]:
    values = _items(text)
    pairs: list[bytes] = []
    for name, value in zip(values[::2], values[1::2], strict=True):
        shown = _flags(value) if name == b"FLAGS" else b"(#)" if name == b"MODSEQ" else value
        pairs.append(name.upper() + b" " + shown)
    return sorted(pairs)


def _unquoted(name: bytes) -> bytes:
    return name[1:-1] if name[:1] == b'"' else name


def _normal_line(line: bytes) -> tuple[object, ...]:
    text = line.removeprefix(b"* ").removesuffix(b"\r\n")
    if match := re.fullmatch(rb"(?s)(\d+) FETCH \((.*)\)", text):
        return ("FETCH", int(match.group(1)), *_fetch(match.group(2)))
    if match := re.fullmatch(rb"FLAGS (\(.*\))", text):
        return ("FLAGS", _flags(match.group(1)))
    if match := re.match(rb"OK \[(PERMANENTFLAGS) (\(.*?\))\]", text):
        return (match.group(1), _flags(match.group(2)))
    if match := re.match(rb"OK \[COPYUID \d+ ([\d:,]+ [\d:,]+)\]", text):
        return ("COPYUID", match.group(1))
    if match := re.fullmatch(rb"(LIST|LSUB) \(([^)]*)\) \"/\" (.*?)( \(.*\))?", text):
        attributes = {word for word in match.group(2).split() if word not in (b"\\UnMarked", b"\\Marked")}
        return (
            match.group(1),
            _unquoted(match.group(3)),
            tuple(sorted(attributes)),
            (match.group(4) or b"").replace(b'"', b""),
        )
    if match := re.fullmatch(rb"STATUS (.*) \((.*)\)", text):
        words = match.group(2).split()
        own = (b"UIDVALIDITY", b"HIGHESTMODSEQ")
        pairs = {name: b"#" if name in own else value for name, value in zip(words[::2], words[1::2], strict=True)}
        return ("STATUS", _unquoted(match.group(1)), tuple(sorted(pairs.items())))
    return (re.sub(rb"MODSEQ \d+", b"MODSEQ #", re.sub(rb'"(\w+)"', rb"\1", text)),)


def _normal_reply(reply: bytes) -> tuple[object, ...]:
    status, _, text = reply.partition(b" ")
    match = re.match(rb"\[([^\]]*)\]", text)
    code = match.group(1) if match and status != b"BAD" else b""
    if code.startswith(b"BADCHARSET"):
        code = b"BADCHARSET"
    if code in (b"NONEXISTENT", b"CANNOT") or code.startswith((b"HIGHESTMODSEQ", b"MAILBOXID")):
        # Said by one of the two, or in other releases.
        code = b""
    return (status, re.sub(rb"(APPENDUID|COPYUID) \d+", rb"\1 #", code))


def _normal(responses: list[bytes]) -> list[tuple[object, ...]]:
    out: list[tuple[object, ...]] = []
    gone: list[int] = []
    for line in responses[:-1]:
        if match := re.fullmatch(rb"\* (\d+) EXPUNGE\r\n", line):
            number = int(match.group(1))
            for before in sorted(gone):
                number += before <= number
            gone.append(number)
        elif not _OPTIONAL.match(line):
            out.append(_normal_line(line))
    if gone:
        out.append(("EXPUNGE", *sorted(gone)))
    if any(line[0] in (b"LIST", b"LSUB", "STATUS", "EXPUNGE") for line in out):
        out.sort(key=repr)
    return [*out, _normal_reply(responses[-1])]


async def _say(run: Callable[[str], Awaitable[list[bytes]]], command: str) -> list[bytes]:
    if "(UIDVALIDITY " in command and "QRESYNC" in command:
        # The server's own number stands for the word.
        line = (await run("STATUS INBOX (UIDVALIDITY)"))[0]
        command = command.replace("UIDVALIDITY", re.findall(r"UIDVALIDITY (\d+)", line.decode())[0])
    return await run(command)


async def _compare(connect: Connect, other: DovecotServer, script: str, quota: Quota | None = None) -> None:
    """Say the script to both; a line beginning with ``2 `` is said by a second client of the account."""
    user = other.new_user()
    boxes = {
        "INBOX": Mailbox(subscribed=False),
        "Trash": Mailbox(special_use="\\Trash"),
        "Sent": Mailbox(special_use="\\Sent", subscribed=False),
    }
    async with Server(boxes, user=user, password=other.password, extensions="dovecot", quota=quota) as server:
        talks: list[list[Any]] = []
        for port in (other.port, server.port):
            clients = [await connect(port), await connect(port)]
            for client in clients:
                await client.ok(f"LOGIN {user} {other.password}")
            talks.append(clients)
        for line in filter(None, (line.strip() for line in script.splitlines())):
            speaker, command = (1, line[2:]) if line.startswith("2 ") else (0, line)
            command = re.sub(r"MESSAGE(?!S)", lambda _: _MESSAGE, command)
            theirs = await _say(talks[0][speaker].run, command)
            ours = await _say(talks[1][speaker].run, command)
            assert _normal(ours) == _normal(theirs), f"{line}\ntheirs: {theirs}\nours:   {ours}"


SCRIPTS = {
    "list": r"""
        CREATE a/b/c
        CREATE Work
        CREATE Work/x
        SUBSCRIBE Work
        SUBSCRIBE nothere
        UNSUBSCRIBE neverthere
        LIST "" *
        LIST "" %
        LIST "" ""
        LIST "" a
        LIST "a/" %
        LSUB "" *
        LIST (SUBSCRIBED) "" *
        LIST (SUBSCRIBED RECURSIVEMATCH) "" %
        LIST (RECURSIVEMATCH) "" %
        LIST (REMOTE) "" %
        LIST (SPECIAL-USE) "" *
        LIST (SPECIAL-USE) "" * RETURN (CHILDREN)
        LIST (SUBSCRIBED REMOTE) "" * RETURN (CHILDREN SPECIAL-USE STATUS (MESSAGES))
        LIST "" * RETURN (STATUS (MESSAGES UIDNEXT UIDVALIDITY UNSEEN HIGHESTMODSEQ SIZE))
        LIST "" * RETURN (SPECIAL-USE)
        LIST "" * RETURN (CHILDREN)
        LIST "" * RETURN (SUBSCRIBED)
        LIST "" * RETURN ()
        LIST () "" *
        LIST "" (INBOX "a/*" Tr%)
        LIST "" ("a/*" a) RETURN (CHILDREN)
        LIST (NONSENSE) "" *
        LIST "" * RETURN (NONSENSE)
        LIST "" * RETURN (STATUS (NONSENSE))
        LIST (SPECIAL-USE SUBSCRIBED) "" *
        RENAME Work Job
        LIST "" * RETURN (SUBSCRIBED)
        DELETE a/b
        DELETE a/b/c
        DELETE nothere
        DELETE INBOX
        CREATE INBOX
        CREATE Sent
        CREATE New/
        LIST "" N* RETURN (CHILDREN)
        RENAME nothere x
        RENAME Sent Trash
        SUBSCRIBE inbox
        LSUB "" *
    """,
    "subscribed below": r"""
        CREATE top/mid/low
        SUBSCRIBE top/mid/low
        LSUB "" %
        LSUB "" *
        LIST (SUBSCRIBED RECURSIVEMATCH) "" %
        LIST (SUBSCRIBED) "" %
        LIST (SUBSCRIBED RECURSIVEMATCH) "" *
    """,
    "status": r"""
        APPEND INBOX (\Seen) MESSAGE
        APPEND INBOX MESSAGE
        STATUS INBOX (MESSAGES UIDNEXT UIDVALIDITY UNSEEN SIZE HIGHESTMODSEQ)
        STATUS nothere (MESSAGES)
        STATUS INBOX ()
        STATUS INBOX (NONSENSE)
        SELECT nothere
        EXAMINE INBOX
        SELECT INBOX
    """,
    "append": r"""
        APPEND INBOX (\Seen kw1) " 7-Feb-1994 21:52:25 -0800" MESSAGE
        APPEND INBOX MESSAGE MESSAGE
        APPEND nothere MESSAGE
        SELECT INBOX
        FETCH 1:* (UID FLAGS RFC822.SIZE BODY.PEEK[])
        APPEND INBOX (\Flagged) MESSAGE
        2 EXAMINE INBOX
        APPEND INBOX MESSAGE
        2 NOOP
    """,
    "store": r"""
        APPEND INBOX MESSAGE MESSAGE MESSAGE
        SELECT INBOX
        2 SELECT INBOX
        STORE 1 +FLAGS (\Flagged)
        2 NOOP
        UID STORE 1,2 +FLAGS (kw2)
        2 NOOP
        UID STORE 1 FLAGS.SILENT (\Answered)
        2 NOOP
        UID STORE 1 -FLAGS ()
        STORE 1:2 +FLAGS (\Answered)
        STORE 1:2 FLAGS (\Answered)
        STORE 1 +FLAGS \Recent
        STORE 1 +FLAGS (\Nonsense)
        STORE 9 +FLAGS (kw2)
        UID STORE 99 +FLAGS (kw2)
        UID FETCH 1:* FLAGS
    """,
    "copy, move, expunge": r"""
        CREATE Other
        APPEND INBOX (kw1) MESSAGE MESSAGE MESSAGE
        SELECT INBOX
        2 SELECT INBOX
        COPY 1:2 Other
        UID COPY 1:2 Other
        UID COPY 99 Other
        UID COPY 1 Nowhere
        COPY 1 INBOX
        UID MOVE 2 Other
        2 NOOP
        MOVE 1 Other
        UID MOVE 99 Other
        UID MOVE 3 Nowhere
        UID MOVE 3 INBOX
        2 NOOP
        UID STORE 4,5 +FLAGS.SILENT (\Deleted)
        2 NOOP
        UID EXPUNGE 5
        UID EXPUNGE 4
        2 FETCH 1 FLAGS
        2 NOOP
        EXPUNGE
        SELECT Other
        UID FETCH 1:* FLAGS
        UID STORE 2 +FLAGS.SILENT (\Deleted)
        CLOSE
        STATUS Other (MESSAGES UIDNEXT)
    """,
    "search and fetch": r"""
        APPEND INBOX (\Seen) MESSAGE MESSAGE MESSAGE
        SELECT INBOX
        UID SEARCH RETURN (COUNT MIN MAX ALL) ALL
        UID SEARCH RETURN (COUNT MIN MAX ALL) FLAGGED
        UID SEARCH RETURN () UNSEEN
        UID SEARCH RETURN (SAVE) SEEN
        UID FETCH $ FLAGS
        SEARCH RETURN (COUNT) SUBJECT one
        SEARCH CHARSET X-NONE ALL
        SEARCH
        UID SEARCH UID 99
        SEARCH UID 1 OR SEEN FLAGGED
        FETCH 1 (FLAGS BODY.PEEK[HEADER.FIELDS (SUBJECT)]<2.5> UID)
        FETCH 1 (BODY.PEEK[]<100.5>)
        FETCH 1 (BODY.PEEK[]<18.100>)
        UID FETCH 999 FLAGS
        FETCH 999 FLAGS
        UID FETCH 3:* (UID)
    """,
    "condstore": r"""
        APPEND INBOX MESSAGE MESSAGE
        SELECT INBOX
        ENABLE CONDSTORE
        FETCH 1:* FLAGS
        UID STORE 1 (UNCHANGEDSINCE 1) +FLAGS (\Seen)
        UID STORE 1:2 (UNCHANGEDSINCE 9999) +FLAGS (\Seen)
        UID STORE 1:2 (UNCHANGEDSINCE 9999) +FLAGS.SILENT (\Flagged)
        STORE 1:2 (UNCHANGEDSINCE 1) +FLAGS (\Seen)
        UID STORE 1 (UNCHANGEDSINCE 0) +FLAGS (\Draft)
        UID STORE 1 +FLAGS.SILENT (\Draft)
        UID STORE 1 +FLAGS.SILENT (\Draft)
        UID STORE 1 (UNCHANGEDSINCE 9999) +FLAGS.SILENT (\Draft)
        UID FETCH 1:* (UID) (CHANGEDSINCE 1)
        UID FETCH 1:* (UID) (CHANGEDSINCE 9999)
        SEARCH MODSEQ 1
        UID SEARCH RETURN (COUNT MIN MAX) MODSEQ 1
        UID SEARCH RETURN (COUNT MIN MAX ALL) MODSEQ 9999
    """,
    "qresync": r"""
        APPEND INBOX MESSAGE MESSAGE MESSAGE MESSAGE
        ENABLE QRESYNC
        SELECT INBOX
        2 SELECT INBOX
        2 UID STORE 2 +FLAGS (\Deleted \Seen)
        NOOP
        2 UID EXPUNGE 2
        NOOP
        UID FETCH 1:* (FLAGS) (CHANGEDSINCE 1 VANISHED)
        UID FETCH 1:3 (FLAGS) (CHANGEDSINCE 1 VANISHED)
        UID FETCH 3:4 (FLAGS) (CHANGEDSINCE 1 VANISHED)
        UID FETCH 1:* (FLAGS) (VANISHED)
        FETCH 1:* (FLAGS) (CHANGEDSINCE 1 VANISHED)
        SELECT INBOX (QRESYNC (1 1))
        UID STORE 1 +FLAGS.SILENT (\Deleted)
        UID EXPUNGE 1
        UNSELECT
        SELECT INBOX (QRESYNC (1 1 1:4))
        SELECT INBOX (QRESYNC (UIDVALIDITY 1))
        SELECT INBOX (QRESYNC (UIDVALIDITY 1 1:4))
        SELECT INBOX (QRESYNC (UIDVALIDITY 1 2:4))
        SELECT INBOX (QRESYNC (UIDVALIDITY 9999))
        SELECT INBOX (QRESYNC (UIDVALIDITY 1 1:4 (1,2 1,3)))
    """,
    "fetching what is gone": r"""
        APPEND INBOX MESSAGE MESSAGE MESSAGE
        SELECT INBOX
        2 SELECT INBOX
        2 UID STORE 2 +FLAGS.SILENT (\Deleted)
        NOOP
        2 UID EXPUNGE 2
        FETCH 2 (FLAGS)
        FETCH 2 (UID BODY.PEEK[])
        UID FETCH 1:3 (RFC822.SIZE BODY.PEEK[] ENVELOPE FLAGS)
        UID FETCH 2 (BODY.PEEK[])
    """,
    "notify": r"""
        CREATE Zed
        SELECT INBOX
        2 SELECT INBOX
        NOTIFY SET (selected (MessageNew (UID FLAGS) MessageExpunge FlagChange)) (personal (MessageNew MessageExpunge))
        NOTIFY SET (selected (MessageNew))
        NOTIFY SET (personal (NonSuch))
        NOTIFY SET (inboxes NONE)
        NOTIFY NONE
    """,
    "quota": r"""
        GETQUOTAROOT nothere
        GETQUOTA "User quota"
        GETQUOTA nothere
    """,
}


@pytest.mark.asyncio
@pytest.mark.parametrize("name", SCRIPTS)
async def test_same_answers(connect: Connect, other: DovecotServer, name: str) -> None:
    if name == "quota" and other.version >= (2, 4):
        pytest.skip("quota is set up in the dialect of 2.3 only")
    await _compare(connect, other, SCRIPTS[name], Quota(storage_bytes=100 << 20) if name == "quota" else None)
