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
from typing import Final

MESSAGES: Final = 100
_CHUNK: Final = 64 * 1024
# The longest line that is taken is 4 MiB.
_LINE: Final = 3_900_000

Flood = Callable[[], Iterator[bytes]]


def _again(data: bytes) -> Iterator[bytes]:
    return itertools.repeat(data * max(1, _CHUNK // len(data)))


def _behind(head: bytes, data: bytes) -> Iterator[bytes]:
    return itertools.chain([head], _again(data))


def _new_names() -> Iterator[bytes]:
    for number in itertools.count():
        yield b"* 1 FETCH (UID 1 X-%d {3000}\r\n%b)\r\n" % (number, b"x" * 3000)


def _once(*pieces: bytes) -> Iterator[bytes]:
    return iter(pieces)


_ITEMS: Final = b'* 1 FETCH (UID 1 FLAGS () INTERNALDATE "17-Jul-1996 02:44:25 -0700" RFC822.SIZE 9 '
_LARGE_LITERAL: Final = b" {1100000}\r\n" + b"x" * 1_100_000
# What is sent without end, by the command that it answers; "" is the greeting.
FLOODS: Final[dict[str, tuple[str, Flood]]] = {
    "greeting": ("", lambda: _behind(b"* OK ", b"x")),
    "requests": ("AUTHENTICATE", lambda: _again(b"+ \r\n")),
    "capabilities": ("CAPABILITY", lambda: _again(b"* CAPABILITY IMAP4rev1 X\r\n")),
    "untagged": ("EXAMINE", lambda: _again(b"* 1 EXISTS\r\n")),
    "lists": ("UID SEARCH", lambda: _again(b'* LIST () "/" "folder"\r\n')),
    "line": ("UID SEARCH", lambda: _behind(b"* SEARCH", b" 1")),
    "names": ("UID FETCH", _new_names),
    "refusals": ("UID FETCH", lambda: _once(b"TAG NO " + b"x" * 1_000_000 + b"\r\n")),
    "small literals": ("UID FETCH", lambda: _behind(b"* 1 FETCH (UID 1 X (", b" {18000}\r\n" + b"x" * 18_000)),
    "large literals": ("UID FETCH", lambda: _behind(b"* 1 FETCH (UID 1 X (", _LARGE_LITERAL)),
    "subject": (
        "UID FETCH",
        lambda: _once(
            _ITEMS + b'ENVELOPE (NIL "' + b'\\"' * (_LINE // 2) + b'" NIL NIL NIL NIL NIL NIL NIL NIL))\r\n',
            b"TAG OK done\r\n",
        ),
    ),
    "structure": (
        "UID FETCH",
        lambda: _once(_ITEMS + b"BODYSTRUCTURE (" + b"()" * (_LINE // 2) + b"))\r\n", b"TAG OK done\r\n"),
    ),
}


def serve(name: str, listener: socket.socket) -> None:
    """Serve every client that comes, each in a thread."""
    while True:
        client, _ = listener.accept()
        threading.Thread(target=_talk, args=(name, client), daemon=True).start()


def _talk(name: str, client: socket.socket) -> None:
    command, flood = FLOODS[name]
    with client, client.makefile("rb") as lines:
        try:
            if not command:
                _send(client, flood(), b"")
            offered = b"AUTH=PLAIN LOGINDISABLED" if command == "AUTHENTICATE" else b""
            told = b"" if command == "CAPABILITY" else b"[CAPABILITY IMAP4rev1 %b] " % offered
            client.sendall(b"* OK " + told + b"ready\r\n")
            for line in lines:
                tag, _, asked = line.partition(b" ")
                if asked.upper().startswith(command.encode()):
                    _send(client, flood(), tag)
                else:
                    client.sendall(_usual(asked.upper()) + tag + b" OK done\r\n")
        except OSError:
            # The client has had enough, which is what it should.
            return


def _send(client: socket.socket, chunks: Iterator[bytes], tag: bytes) -> None:
    for chunk in chunks:
        client.sendall(tag + chunk[3:] if chunk.startswith(b"TAG") else chunk)


def _usual(asked: bytes) -> bytes:
    if asked.startswith(b"EXAMINE"):
        return b"* %d EXISTS\r\n* OK [UIDVALIDITY 1] so\r\n* OK [UIDNEXT %d] so\r\n" % (MESSAGES, MESSAGES + 1)
    if asked.startswith(b"UID SEARCH"):
        return b"* SEARCH" + b"".join(b" %d" % uid for uid in range(1, MESSAGES + 1)) + b"\r\n"
    return b"* BYE so\r\n" if asked.startswith(b"LOGOUT") else b""


def main() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        threading.Thread(target=serve, args=(sys.argv[1], listener), daemon=True).start()
        sys.stdin.read()


if __name__ == "__main__":
    main()
