"""A password or a token is told by nothing: whatever a server echoes, and whatever a user gives."""

from __future__ import annotations

import asyncio
import logging
import socket
import traceback
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import aioimaplib
import pytest
from hypothesis import given
from hypothesis import strategies as st

import imapipe
from imapipe import search as q
from imapipe.errors import AuthenticationFailed, ConnectionFailed, ImapipeError
from imapipe.net.account import is_loopback_address, parse_url
from imapipe.net.authentication import Credentials
from imapipe.net.connection import Connection
from imapipe.net.dial import DialOptions, dial
from imapipe.net.options import PlaneOptions
from imapipe.net.secrets import HIDDEN, Secrets
from imapipe.net.transient import is_transient
from imapipe.testing import Fault, Inject, Reply, Server
from imapipe.wire.command.authenticate import oauthbearer, plain, xoauth2
from imapipe.wire.command.fetch import Fetch
from imapipe.wire.command.login import login
from imapipe.wire.response.limits import LONG_BYTES
from imapipe.wire.response.response import Status, Tagged, parse_response
from imapipe.wire.uid_set import UidSet
from scripted_server import ScriptedServer
from scripted_server.script import Line, Script

BY_HAND = "hunter2-by-hand"
SECRET = 'hunter2 "x/ü+\\'


def script(*lines: bytes) -> Script:
    return Script("test", tuple(Line(chr(line[0]), line[3:], number) for number, line in enumerate(lines, 1)))


def options_for(port: int, password: str | None = SECRET, **more: object) -> DialOptions:
    token = more.pop("token", None)
    account = parse_url(f"imap://ann@127.0.0.1:{port}")
    return DialOptions(account=account, credentials=Credentials("ann", password, token), **more)  # type: ignore[arg-type]


def everything(error: BaseException | None) -> str:
    """All that an exception says, and those behind it."""
    told = "".join(traceback.format_exception(error)) if error is not None else ""
    while error is not None:
        told += f"{error!s} {error!r} {error.args!r} {vars(error)!r} {getattr(error, 'object', '')!r}"
        error = error.__cause__ or error.__context__
    return told


def echoes(secret: str = SECRET, user: str = "ann") -> dict[str, bytes]:
    """What servers make of a secret."""
    data = secret.encode()
    sasl = b"\0" + user.encode() + b"\0" + data
    return {
        "as it is": data,
        "in latin-1": secret.encode("latin-1"),
        "quoted": login(user, secret).pieces[0] if secret.isascii() else b'"' + data.replace(b'"', b'\\"') + b'"',  # type: ignore[dict-item]
        "escaped": data.replace(b"\\", b"\\\\").replace(b'"', b'\\"'),
        "percent": quote(secret, safe="").encode(),
        "percent and plus": quote_plus(secret).encode(),
        "percent, all": b"".join(b"%%%02x" % byte for byte in data),
        "hexadecimal": data.hex().encode(),
        "base64": b64encode(data),
        "SASL": b64encode(sasl),
        "SASL, decoded": sasl.replace(b"\0", b" "),
        "base64 in another place": b64encode(b"ab" + data + b"c"),
        "base64 for URLs": urlsafe_b64encode(b"a" + data),
    }


def is_told(text: str, secret: str = SECRET) -> bool:
    """Whether a text shows the secret, or more than a piece of it in base64."""
    kept = text.lower()
    if any(form.decode("latin-1").lower() in kept for form in echoes(secret).values()):
        return True
    cores = [b64encode(bytes(shift) + secret.encode()).decode().strip("=")[4:-3] for shift in range(3)]
    return "hunter" in kept or any(core.lower() in kept for core in cores)


# -- what a server echoes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", echoes())
@pytest.mark.parametrize(
    "answer",
    [
        b"S: <a> NO [AUTHENTICATIONFAILED] no such user: %s",
        b"S: <a> BAD Command unrecognized: LOGIN %s",
        b"S: <a> BAD [X-ECHO %s] what",
        b"S: * BYE cannot read %s",
        b"S: * BYE [UNAVAILABLE] %s",
        b"S: * BAD %s",
        b"S: <a> %s",
    ],
)
@pytest.mark.asyncio
async def test_a_server_that_echoes_the_login(form: str, answer: bytes, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    # What it does not understand and hangs up on is tried once more, without the initial response.
    offered = b"S: * OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN LOGINDISABLED] hi"
    lines = [offered, "C: <a> AUTHENTICATE PLAIN…".encode()]
    async with ScriptedServer(script(*lines, answer.replace(b"%s", echoes()[form]), b"X:")) as server:
        options = options_for(server.port)
        with pytest.raises(ImapipeError) as caught:
            await dial(options)
    assert not is_told(everything(caught.value) + caplog.text + repr(options))


@pytest.mark.parametrize("form", echoes())
@pytest.mark.parametrize("greeting", [b"S: * BYE you are %s", b"S: 421 hello %s", b"S: * OK-%s"])
@pytest.mark.asyncio
async def test_a_server_that_greets_with_what_it_knows(form: str, greeting: bytes) -> None:
    async with ScriptedServer(script(greeting.replace(b"%s", echoes()[form]), b"X:")) as server:
        with pytest.raises(ImapipeError) as caught:
            await dial(options_for(server.port))
    assert not is_told(everything(caught.value))


@pytest.mark.parametrize("mechanism", ["OAUTHBEARER", "XOAUTH2"])
@pytest.mark.parametrize("echo", ["token", "response", "decoded"])
@pytest.mark.asyncio
async def test_a_server_that_echoes_a_token(mechanism: str, echo: str) -> None:
    """Also the one before it, which was refused."""
    tokens = iter(["hunter2-first-token", "hunter2-next-token"])
    sent: list[str] = []

    async def token() -> str:
        sent.append(next(tokens))
        return sent[-1]

    def said(token: str, port: int) -> bytes:
        made = (
            xoauth2("ann", token) if mechanism == "XOAUTH2" else oauthbearer("ann", token, host="127.0.0.1", port=port)
        )
        return {
            "token": token.encode(),
            "response": made.response.strip(),
            "decoded": b"auth=Bearer " + token.encode(),
        }[echo]

    first = [f"S: * OK [CAPABILITY IMAP4rev1 SASL-IR AUTH={mechanism}] hi".encode(), "C: <a> AUTHENTICATE …".encode()]
    async with ScriptedServer(script(*first, b"S: <a> NO expired", b"X:")) as server:
        options = options_for(server.port, None, token=token)
        with pytest.raises(ImapipeError):
            await dial(options)
    both = b" ".join(said(each, server.port) for each in ("hunter2-first-token", "hunter2-next-token"))
    options.credentials.secrets.add("hunter2-next-token")
    async with ScriptedServer(script(b"S: * BYE " + both, b"X:")) as server:
        again = DialOptions(account=parse_url(f"imap://ann@127.0.0.1:{server.port}"), credentials=options.credentials)
        with pytest.raises(ImapipeError) as caught:
            await dial(again)
    told = everything(caught.value)
    assert "hunter2" not in told
    assert b64encode(b"hunter2-").decode()[:8] not in told


_IN_A_RUN = "hunter2-secret"
_ALERTS = Inject(f"* OK [ALERT] {_IN_A_RUN}\r\n* OK [THROTTLED] {_IN_A_RUN}\r\n".encode(), command="UID FETCH")


@pytest.mark.parametrize(
    "fault",
    [
        Reply("NO", f"cannot {_IN_A_RUN}", code=f"X {_IN_A_RUN}", command="UID FETCH", times=None),
        Reply("BAD", f"cannot {_IN_A_RUN}", command="UID FETCH", times=None),
    ],
    ids=["NO", "BAD"],
)
@pytest.mark.asyncio
@pytest.mark.usefixtures("made_up_time")
async def test_a_server_that_echoes_it_in_the_middle_of_a_run(fault: Fault, caplog: pytest.LogCaptureFixture) -> None:
    """Statuses and alerts: nothing of it gets into report, events or logs."""
    caplog.set_level(logging.DEBUG)
    told: list[str] = []

    async def handle(message: imapipe.Message) -> None:
        told.append(repr(message))

    async with (
        Server(5, password=_IN_A_RUN, faults=[_ALERTS, fault]) as server,
        imapipe.create_pool(server.url, password=_IN_A_RUN, max_size=1) as pool,
    ):
        pool.events.subscribe(lambda event: told.append(repr(event)))
        report = (
            await pool.mailbox("INBOX").search(q.ALL).fetch("size", "flags").use(imapipe.Retry(attempts=1)).run(handle)
        )
        async with pool.acquire() as connection:
            told.append(repr(connection.session.alerts))
    assert report.failed
    shown = f"{report!r} {report.to_json()} {report.table()} {told!r} {caplog.text}"
    assert "hunter" not in shown
    assert shown.count("hidden") > 1


@pytest.mark.asyncio
async def test_an_answer_that_cannot_be_read_is_shown_without_it() -> None:
    """The excerpt of 1 KiB ends in the middle of the second one."""
    answer = f"* 2 FETCH (UID 2 FLAGS ({_IN_A_RUN} {'y' * 980} {_IN_A_RUN}"
    lines = [
        b"S: * PREAUTH [CAPABILITY IMAP4rev1] hi",
        "C: <a> EXAMINE …".encode(),
        b"S: * OK [UIDVALIDITY 7] valid",
        b"S: <a> OK done",
        "C: <b> UID FETCH …".encode(),
        b"S: " + answer.encode(),
        b"S: <b> OK done",
        b"X:",
    ]
    async with ScriptedServer(script(*lines)) as server:
        connection = await dial(options_for(server.port, _IN_A_RUN))
        await connection.examine("INBOX")
        command = connection.uid_fetch(UidSet.parse("2"), Fetch("flags", "size"), lambda messages: None)
        await command.finished
        connection.abort()
    excerpt = command.malformed[2].excerpt
    assert excerpt.startswith(b"* 2 FETCH (UID 2 FLAGS ((hidden) yyy")
    assert b"hunt" not in excerpt
    assert len(excerpt) <= 1024


@pytest.mark.asyncio
async def test_a_login_by_hand_is_hidden_too(caplog: pytest.LogCaptureFixture) -> None:
    """A user's own aioimaplib client, adopted before it is logged in."""
    caplog.set_level(logging.DEBUG)
    lines = [
        b"S: * OK [CAPABILITY IMAP4rev1] hi",
        b"C: <c> CAPABILITY",
        b"S: * CAPABILITY IMAP4rev1",
        b"S: <c> OK done",
        "C: <a> LOGIN …".encode(),
        b"S: * BYE hunter2-by-hand",
        b"X:",
    ]
    async with ScriptedServer(script(*lines)) as server:
        client = aioimaplib.IMAP4("127.0.0.1", server.port, timeout=60)
        await client.wait_hello_from_server()
        connection = Connection.adopt(client)
        with pytest.raises(ImapipeError) as caught:
            await client.login("ann", BY_HAND)
        connection.abort()
    assert "hunter2" not in everything(caught.value)


@pytest.mark.asyncio
async def test_a_login_by_hand_that_is_not_answered_is_hidden_too() -> None:
    lines = [
        b"S: * OK [CAPABILITY IMAP4rev1] hi",
        b"C: <c> CAPABILITY",
        b"S: * CAPABILITY IMAP4rev1",
        b"S: <c> OK done",
        "C: <a> LOGIN …".encode(),
        b"C: never",
    ]
    async with ScriptedServer(script(*lines)) as server:
        client = aioimaplib.IMAP4("127.0.0.1", server.port, timeout=60)
        await client.wait_hello_from_server()
        connection = Connection.adopt(client, PlaneOptions(command_timeout_seconds=0.1))
        with pytest.raises(aioimaplib.CommandTimeout) as caught:
            await client.protocol.login("ann", BY_HAND)
        connection.abort()
    assert "hunter2" not in everything(caught.value)


# -- what is hidden, and what is not -----------------------------------------------------------------------------------


def hiding(*secrets: str) -> Secrets:
    made = Secrets()
    for secret in secrets:
        made.add(secret)
    return made


@given(
    st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=4, max_size=20),
    st.binary(max_size=12),
    st.binary(max_size=12),
)
def test_no_form_of_any_secret_is_left(secret: str, before: bytes, after: bytes) -> None:
    secrets = hiding(secret)
    data = secret.encode()
    for form in (data, quote(secret).encode(), quote(secret, safe="").encode(), data.hex().upper().encode()):
        hidden = secrets.hide(before + form + after)
        assert form not in hidden.replace(HIDDEN, b"")
    core = b64encode(before + data + after)
    assert secrets.hide(b"<" + core + b">") in (b"<" + HIDDEN + b">", secrets.hide(b"<") + HIDDEN + secrets.hide(b">"))


@pytest.mark.parametrize("secret", ["a", "in", "NO", "OK", "1", "1234", "limit", "IMAP4rev1", "uidvalidity"])
def test_what_a_status_says_to_us_stays_whatever_the_secret_is(secret: str) -> None:
    secrets = hiding(secret)
    for line in (
        b"* OK [UIDVALIDITY 1234] UIDs valid",
        b"* OK [UIDNEXT 1] next",
        b"P1 OK [CAPABILITY IMAP4rev1 NO IN LIMIT] in",
        b"P1 NO [LIMIT] a",
        b"P1 NO [MODIFIED 1,1234] conditional",
        b"* BYE [UNAVAILABLE] a in 1",
        b"* [UIDVALIDITY 1234]",
    ):
        before, after = parse_response(line), parse_response(secrets.hide_in_status(line))
        assert isinstance(before, Tagged | Status)
        assert isinstance(after, Tagged | Status)
        # Whatever it is called, the text is the only thing in which they may differ.
        assert after._replace(text="") == before._replace(text="")


@pytest.mark.parametrize(
    ("line", "hidden"),
    [
        (b"P1 NO [X hunter2] a hunter2 b", b"P1 NO [X (hidden)] a (hidden) b"),
        (b"P1 OK [X hunter2] done", b"P1 OK [X (hidden)] done"),
        (b"P1 NO [hunter2] no", b"P1 NO no"),
        (b"* BYE HUNTER2", b"* BYE (hidden)"),
        (b"* OK [ALERT] hunter2", b"* OK [ALERT] (hidden)"),
        (b"* [ALERT] hunter2", b"* [ALERT] (hidden)"),
        (b"OK hunter2", b"OK (hidden)"),
        (b"no IMAP hunter2", b"no IMAP (hidden)"),
        (b"P1 NO nothing of it", b"P1 NO nothing of it"),
    ],
)
def test_lines(line: bytes, hidden: bytes) -> None:
    assert hiding("hunter2").hide_in_status(line) == hidden


def test_short_secrets_are_words_of_their_own() -> None:
    secrets = hiding("abc")
    assert secrets.hide(b"abcd abc, x=abc") == b"abcd (hidden), x=(hidden)"
    assert secrets.hide(b"xabc abc abc1 abc") == b"xabc (hidden) abc1 (hidden)"
    assert Secrets().hide(b"abc") == b"abc"
    secrets.add("")
    assert secrets.hide(b"") == b""


def test_the_last_tokens_are_remembered_and_no_more() -> None:
    secrets = hiding(*(f"token-{number:03}" for number in range(100)))
    text = b"token-099 token-096"
    assert secrets.hide(text) == b"(hidden) (hidden)"
    for text in (b"token-095", b"token-001 " * 1000):
        assert secrets.hide(text) is text
        assert secrets.hide_in_status(text) is text
    assert "token" not in repr(secrets)


def test_an_excerpt_shows_no_beginning_of_a_secret() -> None:
    text = b"x" * 10 + b"hunter2-secret"
    assert hiding("hunter2-secret").excerpt(text, 14) == b"x" * 10 + b"(hid"


# -- what a user gives -------------------------------------------------------------------------------------------------

_WRONG = [
    "hunter2\0",
    "hunter2\x01",
    "hunter2\r\nX LOGOUT",
    "hunter2\n",
    "hunter2\udcff",
    "\ud800hunter2",
    "\x7fhunter2",
]


_MAKERS: dict[str, Callable[[str], object]] = {
    "password": lambda secret: Credentials("ann", secret, None),
    "user": lambda secret: Credentials(secret, "x", None),
    "PLAIN, password": lambda secret: plain("ann", secret),
    "PLAIN, user": lambda secret: plain(secret, "x"),
    "XOAUTH2, token": lambda secret: xoauth2("ann", secret),
    "XOAUTH2, user": lambda secret: xoauth2(secret, "x"),
    "OAUTHBEARER, token": lambda secret: oauthbearer("ann", secret, host="h", port=1),
    "OAUTHBEARER, host": lambda secret: oauthbearer("ann", "x", host=secret, port=1),
    "pool": lambda secret: imapipe.create_pool("imaps://ann@h", password=secret),
}


@pytest.mark.parametrize("secret", _WRONG)
@pytest.mark.parametrize("maker", _MAKERS)
def test_what_cannot_be_sent_is_refused_and_not_told(maker: str, secret: str) -> None:
    with pytest.raises(ValueError, match=r"holds a control character|holds what is no text") as caught:
        _MAKERS[maker](secret)
    assert "hunter2" not in everything(caught.value)
    assert caught.value.__context__ is None


@pytest.mark.parametrize("secret", ["hunter2\0", "hunter2\r\nX LOGOUT", "hunter2\n", "hunter2\udcff", "\ud800hunter2"])
def test_a_login_that_cannot_be_written_is_refused_and_not_told(secret: str) -> None:
    with pytest.raises(ValueError, match=r"a text holds half|CR, LF and NUL") as caught:
        login("ann", secret)
    assert "hunter2" not in everything(caught.value)
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    "given", [None, "", b"t", 7, " ", "a b", "Bearer x", "t\n", "t\x01", "t\0", "tökén", "t\udcff", ["t"]]
)
@pytest.mark.asyncio
async def test_a_token_that_is_none_is_not_sent(given: object) -> None:
    async def token() -> str:
        return given  # type: ignore[return-value]

    async with Server(3) as server:
        with pytest.raises(AuthenticationFailed) as caught:
            await dial(options_for(server.port, None, token=token))
    assert not is_transient(caught.value).transient
    assert (server.counters.logins, server.counters.failed_logins) == (0, 0)
    assert "AUTHENTICATE" not in server.commands.names
    assert "\\udcff" not in everything(caught.value)


# -- plain text goes to this machine only ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "is_here"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("::ffff:192.0.2.1", False),
        ("192.0.2.1", False),
        ("fe80::1%eth0", False),
        ("0.0.0.0", False),
        ("localhost", False),
        ("", False),
    ],
)
def test_addresses_of_this_machine(address: str, is_here: bool) -> None:
    assert is_loopback_address(address) is is_here


class _Elsewhere(socket.socket):
    """A socket whose other end is said to be another machine."""

    def getpeername(self) -> tuple[str, int]:
        return ("192.0.2.1", 143)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
@pytest.mark.parametrize("greeting", ["OK", "PREAUTH"])
@pytest.mark.asyncio
async def test_localhost_of_another_machine_gets_no_password_in_the_open(host: str, greeting: str) -> None:
    async def open_socket(host: str, port: int) -> socket.socket:
        opened = _Elsewhere()
        opened.setblocking(False)
        await asyncio.get_running_loop().sock_connect(opened, ("127.0.0.1", server.port))
        return opened

    lines = [f"S: * {greeting} [CAPABILITY IMAP4rev1 AUTH=PLAIN SASL-IR] hi".encode(), "C: <a> …".encode(), b"X:"]
    async with ScriptedServer(script(*lines)) as server:
        account = parse_url(f"imap://ann@{host}:{server.port}")
        options = DialOptions(account=account, credentials=Credentials("ann", "hunter2", None), open_socket=open_socket)
        with pytest.raises(ConnectionFailed, match=r"plain text|PREAUTH before TLS") as caught:
            await dial(options)
    assert caught.value.is_permanent


@pytest.mark.asyncio
async def test_a_socket_that_is_no_network_gets_no_password_in_the_open() -> None:
    """Where a UNIX socket leads nobody can tell by its address."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)

    async def open_socket(host: str, port: int) -> socket.socket:
        return ours

    theirs.setblocking(False)
    theirs.sendall(b"* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN SASL-IR] hi\r\n")
    with theirs:
        options = DialOptions(
            account=parse_url("imap://ann@localhost"),
            credentials=Credentials("ann", "hunter2", None),
            open_socket=open_socket,
        )
        with pytest.raises(ConnectionFailed, match="plain text"):
            await dial(options)
        assert await asyncio.get_running_loop().sock_recv(theirs, 1000) == b""


@pytest.mark.asyncio
async def test_a_socket_to_this_machine_is_trusted_as_before() -> None:
    async def open_socket(host: str, port: int) -> socket.socket:
        opened = socket.socket()
        opened.setblocking(False)
        await asyncio.get_running_loop().sock_connect(opened, ("127.0.0.1", server.port))
        return opened

    async with Server(3, password="hunter2") as server:
        connection = await dial(options_for(server.port, "hunter2", open_socket=open_socket))
        await connection.logout()
    assert server.counters.logins == 1


def test_a_status_of_megabytes_is_cut_before_anything_is_looked_for_in_it() -> None:
    """4 MB with a secret in every word took seconds, in one callback."""
    secrets = Secrets()
    secrets.add("hunter22")
    for head in (b"* NO ", b"P1 BAD ", b"* BYE [ALERT] ", b"* OK [X ", b"* [", b"+ "):
        shown = secrets.hide_in_status(head + b"hunter22 " * 500_000)
        assert b"hunter22" not in shown.lower()
        assert shown.startswith(head.split(b" ")[0])
        assert len(shown) <= 2 * LONG_BYTES


def test_the_sets_of_a_long_status_stay_whole() -> None:
    secrets = Secrets()
    secrets.add("hunter22")
    uids = b",".join(b"%d" % (2 * number) for number in range(1, 50_000))
    shown = secrets.hide_in_status(b"P1 OK [COPYUID 7 %b %b] done by hunter22 %b" % (uids, uids, b"x" * 100_000))
    reply = parse_response(shown)
    assert isinstance(reply, Tagged)
    assert reply.code is not None
    assert reply.code.copy_uid is not None
    assert len(reply.code.copy_uid.source) == 49_999
    assert "hunter22" not in reply.text
    assert len(reply.text) <= LONG_BYTES
