"""A server that floods: `python -m benchmarks.flood NAME` prints its port and serves until its standard input ends.

It lives in a process of its own, so that what it takes is not counted, and sends for as long as anybody reads. Each
flood is a server that means harm; what must happen is that the client ends the connection, or the message, and
takes no memory to speak of for it.
"""

from __future__ import annotations

import itertools
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

_CHUNK: Final = 64 * 1024
# The longest line that is taken is 4 MiB, but for lists of messages, which are taken in pieces.
_LINE: Final = 3_900_000
# More than anybody has; a server may say it.
_VERY_MANY: Final = 4_000_000_000
# All that is kept is 32 MiB, of which each line takes more than its text.
_KEPT: Final = 33_000_000
_FOR_A_LINE: Final = 700

Chunks = Callable[[], Iterator[bytes]]


class Flood(NamedTuple):
    """One way of flooding.

    Attributes:
        command: The command that is answered so, "" for the greeting.
        chunks: What is sent; `TAG` at the beginning of one is the tag of the command.
        asks: What the client does: `run` fetches all messages of a mailbox, `list` lists mailboxes, `namespace` and
            `identify` say what they ask for, and `own` searches by a command of aioimaplib's.
        fetch: The preset of the fetch.
        offers: Capabilities that the server has.
        messages: How many messages it says there are.
        connections: How many connections the client may have.
        batch: How many messages it asks for at a time; 0 leaves that to it.
    """

    command: str
    chunks: Chunks
    asks: str = "run"
    fetch: str = "flags"
    offers: bytes = b""
    messages: int = 100
    connections: int = 1
    batch: int = 0


def _again(data: bytes) -> Iterator[bytes]:
    return itertools.repeat(data * max(1, _CHUNK // len(data)))


def _behind(head: bytes, data: bytes) -> Iterator[bytes]:
    return itertools.chain([head], _again(data))


def _numbered(form: bytes, count: int | None = None) -> Iterator[bytes]:
    """Ever new ones, in chunks; so many of them, and then the end of the answer."""
    for number in range(1, count, 500) if count is not None else itertools.count(1, 500):
        yield b"".join(form % each for each in range(number, number + 500))
    yield b"TAG OK done\r\n"


def _as_many(form: bytes) -> Iterator[bytes]:
    """As many different ones as are kept, and the end of the answer."""
    return _numbered(form, _KEPT // (len(form % 100_000) + _FOR_A_LINE))


def _once(*pieces: bytes) -> Iterator[bytes]:
    return iter(pieces)


def _list(head: bytes, form: bytes, step: int, count: int | None = None) -> Iterator[bytes]:
    """A list of so many scattered numbers, and the end of the answer; one without an end."""
    numbers = itertools.count(1_000_000_000, step)
    yield head
    while count is None or count > 0:
        yield b"".join(form % number for number in itertools.islice(numbers, 5000))
        count = None if count is None else count - 5000
    yield b"\r\n"
    yield b"TAG OK done\r\n"


def _one_line(head: bytes, form: bytes, tail: bytes = b"") -> Iterator[bytes]:
    """A line as long as is taken, of ever new words, and the end of the answer."""
    count = _LINE // len(form % 1_000_000)
    return _once(head + b"".join(form % number for number in range(1, count)) + tail + b"\r\n", b"TAG OK done\r\n")


_ITEMS: Final = b'* 1 FETCH (UID 1 FLAGS () INTERNALDATE "17-Jul-1996 02:44:25 -0700" RFC822.SIZE 9 '
_LARGE_LITERAL: Final = b" {1100000}\r\n" + b"x" * 1_100_000
_NAMES: Final = b"* 1 FETCH (UID 1 X-%d {3000}\r\n" + b"x" * 3000 + b")\r\n"
_SUBJECT: Final = b'ENVELOPE (NIL "' + b'\\"' * (_LINE // 2) + b'" NIL NIL NIL NIL NIL NIL NIL NIL))\r\n'
_DONE: Final = b"TAG OK done\r\n"

FLOODS: Final[dict[str, Flood]] = {
    # Before login.
    "greeting": Flood("", lambda: _behind(b"* OK ", b"x")),
    "blank greeting": Flood("", lambda: _again(b"\r\n")),
    "requests": Flood("AUTHENTICATE", lambda: _again(b"+ \r\n"), offers=b"AUTH=PLAIN LOGINDISABLED"),
    "long requests": Flood("AUTHENTICATE", lambda: _behind(b"+ ", b"x"), offers=b"AUTH=PLAIN LOGINDISABLED"),
    "capabilities": Flood("CAPABILITY", lambda: _again(b"* CAPABILITY IMAP4rev1 X\r\n")),
    "alerts": Flood("LOGIN", lambda: _again(b"* OK [ALERT] " + b"x" * 5000 + b"\r\n")),
    # During a command that runs alone.
    "untagged": Flood("EXAMINE", lambda: _again(b"* 1 EXISTS\r\n")),
    "waits": Flood("EXAMINE", lambda: _again(b"* OK wait\r\n")),
    "lists": Flood("UID SEARCH", lambda: _again(b'* LIST () "/" "folder"\r\n')),
    "line": Flood("UID SEARCH", lambda: _behind(b"* SEARCH", b" 1")),
    "literals": Flood("UID SEARCH", lambda: _behind(b"* LIST", b" {1000000}\r\n" + b"x" * 1_000_000)),
    # Answers that end, as long as they may be.
    "names": Flood("LIST", lambda: _as_many(b'* LIST () "/" f%d\r\n'), asks="list"),
    "attributes": Flood("LIST", lambda: _one_line(b"* LIST (", b"\\a%d ", b') "/" f'), asks="list"),
    "status": Flood("STATUS", lambda: _as_many(b"* STATUS f%d (MESSAGES 1)\r\n"), asks="list"),
    "status items": Flood("STATUS", lambda: _one_line(b"* STATUS INBOX (", b"A%d 1 ", b")"), asks="list"),
    "namespaces": Flood(
        "NAMESPACE", lambda: _one_line(b"* NAMESPACE (", b'("%d" "/")', b") NIL NIL"), "namespace", offers=b"NAMESPACE"
    ),
    "id": Flood("ID", lambda: _one_line(b"* ID (", b'"%d" "x" ', b")"), asks="identify", offers=b"ID"),
    "enabled": Flood("ENABLE", lambda: _one_line(b"* ENABLED", b" X%d"), offers=b"ENABLE UIDONLY"),
    "more capabilities": Flood("EXAMINE", lambda: _one_line(b"* CAPABILITY", b" X%d")),
    "flags": Flood("EXAMINE", lambda: _one_line(b"* FLAGS (", b"a%d ", b")")),
    "code": Flood("EXAMINE", lambda: _one_line(b"* OK [PERMANENTFLAGS (", b"a%d ", b")] so")),
    "tagged code": Flood("EXAMINE", lambda: _once(b"TAG OK [CAPABILITY" + b" X" * (_LINE // 2) + b"] so\r\n")),
    "found": Flood("UID SEARCH", lambda: _as_many(b"* SEARCH %d7\r\n")),
    "scattered": Flood("UID SEARCH", lambda: _one_line(b"* SEARCH", b" %d7")),
    "endless": Flood("UID SEARCH", lambda: _list(b"* SEARCH", b" %d", 2), messages=_VERY_MANY),
    "endless numbers": Flood("UID SEARCH", lambda: _list(b"* SEARCH", b" %d", 1), messages=_VERY_MANY),
    "endless ranges": Flood(
        "UID SEARCH", lambda: _list(b"* ESEARCH UID ALL 1", b",%d", 3), offers=b"ESEARCH", messages=_VERY_MANY
    ),
    "endless vanished": Flood("UID SEARCH", lambda: _list(b"* VANISHED 1", b",%d", 3), messages=_VERY_MANY),
    "endless line": Flood("UID SEARCH", lambda: _behind(b"* LIST (", b"x "), messages=_VERY_MANY),
    "endless answer to a user's own": Flood(
        "UID SEARCH", lambda: _list(b"* SEARCH", b" %d", 2), asks="own", messages=_VERY_MANY
    ),
    "millions": Flood("UID SEARCH", lambda: _list(b"* SEARCH", b" %d", 2, 1_300_000), messages=_VERY_MANY),
    "millions of ranges": Flood(
        "UID SEARCH",
        lambda: _list(b"* ESEARCH UID ALL 1", b",%d", 3, 1_300_000),
        offers=b"ESEARCH",
        messages=_VERY_MANY,
    ),
    "backwards": Flood("UID SEARCH", lambda: _list(b"* SEARCH", b" %d", -2, 1_300_000), messages=_VERY_MANY),
    "ranges": Flood("UID SEARCH", lambda: _one_line(b"* ESEARCH UID ALL 1", b",%d3"), offers=b"ESEARCH"),
    "esearches": Flood("UID SEARCH", lambda: _as_many(b"* ESEARCH UID COUNT 1 ALL %d3\r\n"), offers=b"ESEARCH"),
    "vanished": Flood("UID SEARCH", lambda: _again(b"* VANISHED 1:4294967295\r\n")),
    "vanished ranges": Flood("UID SEARCH", lambda: _one_line(b"* VANISHED 1", b",%d3")),
    # Answers to a FETCH.
    "new items": Flood("UID FETCH", lambda: _numbered(_NAMES)),
    "new items of all": Flood("UID FETCH", lambda: _numbered(_NAMES), connections=8, messages=100_000),
    "unasked messages": Flood("UID FETCH", lambda: _numbered(b"* 1 FETCH (UID 9%d FLAGS ())\r\n")),
    "broken messages": Flood(
        "UID FETCH",
        lambda: _numbered(b"* 1 FETCH (UID %d FLAGS (((" + b"x" * 2000 + b"\r\n", 100_000),
        messages=100_000,
    ),
    "refusals": Flood("UID FETCH", lambda: _once(b"TAG NO " + b"x" * 1_000_000 + b"\r\n"), messages=3000, batch=1),
    "new labels": Flood("UID FETCH", lambda: _one_line(b"* 1 FETCH (UID 1", b" X%d 1", b")")),
    "small literals": Flood("UID FETCH", lambda: _behind(b"* 1 FETCH (UID 1 X (", b" {18000}\r\n" + b"x" * 18_000)),
    "small literals of all": Flood(
        "UID FETCH",
        lambda: _behind(b"* 1 FETCH (UID 1 X (", b" {15000}\r\n" + b"x" * 15_000),
        connections=8,
        messages=100_000,
    ),
    "large literals": Flood("UID FETCH", lambda: _behind(b"* 1 FETCH (UID 1 X (", _LARGE_LITERAL)),
    "many flags": Flood("UID FETCH", lambda: _one_line(b"* 1 FETCH (UID 1 FLAGS (", b"a%d ", b"))")),
    "subject": Flood("UID FETCH", lambda: _once(_ITEMS + _SUBJECT, _DONE), fetch="envelope"),
    "addresses": Flood(
        "UID FETCH",
        lambda: _one_line(_ITEMS + b"ENVELOPE (NIL NIL (", b'(NIL NIL "%d" "b")', b") NIL NIL NIL NIL NIL NIL NIL))"),
        fetch="envelope",
    ),
    "structure": Flood(
        "UID FETCH",
        lambda: _once(_ITEMS + b"BODYSTRUCTURE (" + b"()" * (_LINE // 2) + b"))\r\n", _DONE),
        fetch="structure",
    ),
    "parameters": Flood(
        "UID FETCH",
        lambda: _one_line(_ITEMS + b'BODYSTRUCTURE ("TEXT" "PLAIN" (', b'"a%d" "x" ', b') NIL NIL "7BIT" 5 1))'),
        fetch="structure",
    ),
}


def serve(name: str, listener: socket.socket) -> None:
    """Serve every client that comes, each in a thread."""
    while True:
        client, _ = listener.accept()
        threading.Thread(target=_talk, args=(FLOODS[name], client), daemon=True).start()


def _talk(flood: Flood, client: socket.socket) -> None:
    with client, client.makefile("rb") as lines:
        try:
            if not flood.command:
                _send(client, flood.chunks(), b"")
            told = b"" if flood.command == "CAPABILITY" else b"[CAPABILITY IMAP4rev1 %b] " % flood.offers
            client.sendall(b"* OK " + told + b"ready\r\n")
            for line in lines:
                tag, _, asked = line.partition(b" ")
                if asked.upper().startswith(flood.command.encode()):
                    _send(client, flood.chunks(), tag)
                else:
                    client.sendall(_usual(asked.upper(), flood) + tag + b" OK %bdone\r\n" % told)
        except OSError:
            # The client has had enough, which is what it should.
            return


def _send(client: socket.socket, chunks: Iterator[bytes], tag: bytes) -> None:
    for chunk in chunks:
        client.sendall(tag + chunk[3:] if chunk.startswith(b"TAG") else chunk)


def _usual(asked: bytes, flood: Flood) -> bytes:
    count = flood.messages
    if asked.startswith(b"EXAMINE"):
        return b"* %d EXISTS\r\n* OK [UIDVALIDITY 1] so\r\n* OK [UIDNEXT %d] so\r\n" % (count, count + 1)
    if asked.startswith(b"UID SEARCH"):
        if count == _VERY_MANY:
            return b"* SEARCH\r\n"
        if b"ESEARCH" in flood.offers:
            return b"* ESEARCH UID COUNT %d ALL 1:%d\r\n" % (count, count)
        return b"* SEARCH" + b"".join(b" %d" % uid for uid in range(1, count + 1)) + b"\r\n"
    if asked.startswith(b"LIST"):
        return b'* LIST () "/" INBOX\r\n'
    return b"* BYE so\r\n" if asked.startswith(b"LOGOUT") else b""


def main() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        threading.Thread(target=serve, args=(sys.argv[1], listener), daemon=True).start()
        sys.stdin.read()


if __name__ == "__main__":
    main()
