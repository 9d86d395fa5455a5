"""Connecting and logging in: TLS, STARTTLS, credentials, and everything that can go wrong on the way."""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeAlias

import pytest

from imapipe.errors import (
    AuthenticationFailed,
    CapabilityMissing,
    CommandBad,
    CommandNo,
    ConnectionFailed,
    ConnectionLost,
    ProtocolError,
    ServerBye,
    Throttled,
)
from imapipe.net.account import Account, parse_url
from imapipe.net.authentication import Credentials
from imapipe.net.connection import Connection
from imapipe.net.dial import DialOptions, dial
from imapipe.net.learned import Learned
from imapipe.net.transient import Verdict, is_transient
from imapipe.testing import (
    Bye,
    CutAfterBytes,
    Delay,
    Fault,
    Inject,
    RefuseConnection,
    RefuseLogin,
    Reply,
    Rewrite,
    Server,
)
from scripted_server import ScriptedServer
from scripted_server.script import Line, Script

Contexts: TypeAlias = tuple[ssl.SSLContext, ssl.SSLContext]


def options_for(
    url: str,
    password: str | None = "secret",
    *,
    user: str | None = None,
    token: Callable[[], Awaitable[str]] | None = None,
    **more: object,
) -> DialOptions:
    account = parse_url(url, user=user)
    options = DialOptions(account=account, credentials=Credentials(account.user, password, token))
    return dataclasses.replace(options, **more)  # type: ignore[arg-type]


@asynccontextmanager
async def dialled(options: DialOptions) -> AsyncIterator[Connection]:
    connection = await dial(options)
    try:
        yield connection
    finally:
        await connection.logout()


def script(*lines: str) -> Script:
    return Script("test", tuple(Line(line[:1], line[3:].encode(), number) for number, line in enumerate(lines, 1)))


async def works(connection: Connection) -> bool:
    await connection.noop()
    return (await connection.examine("INBOX")).exists == 3


def is_encrypted(connection: Connection) -> bool:
    transport = connection.plane.transport
    return transport is not None and transport.get_extra_info("cipher") is not None


# -- TLS ---------------------------------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_tls(contexts: Contexts) -> None:
    async with (
        Server(3, tls=contexts[0]) as server,
        dialled(options_for(server.url, ssl_context=contexts[1])) as connection,
    ):
        assert await works(connection)
        assert is_encrypted(connection)
    assert server.counters.open_connections == 0


@pytest.mark.asyncio
async def test_starttls(contexts: Contexts) -> None:
    async with (
        Server(3, starttls=contexts[0], login_disabled=True) as server,
        dialled(options_for(server.url, starttls=True, ssl_context=contexts[1])) as connection,
    ):
        assert await works(connection)
        assert is_encrypted(connection)
        assert not connection.offers("STARTTLS")
        assert connection.offers("ESEARCH")
    assert [name for name in server.commands.names if name in ("CAPABILITY", "STARTTLS", "LOGIN")] == [
        "STARTTLS",
        "CAPABILITY",
        "LOGIN",
    ]


@pytest.mark.asyncio
async def test_starttls_is_left_alone_on_loopback_and_taken_elsewhere(
    contexts: Contexts, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Server(3, starttls=contexts[0]) as server:
        options = options_for(server.url, ssl_context=contexts[1])
        async with dialled(options):
            assert "STARTTLS" not in server.commands.names
        monkeypatch.setattr(Account, "is_loopback", False)
        async with dialled(options) as connection:
            assert await works(connection)
            assert "STARTTLS" in server.commands.names
        with pytest.raises(ConnectionFailed, match=r"starttls=False forbids STARTTLS.*allow_plaintext=True"):
            await dial(dataclasses.replace(options, starttls=False))
        async with dialled(dataclasses.replace(options, starttls=False, allow_plaintext=True)) as connection:
            assert await works(connection)
    assert len(server.commands.named("STARTTLS")) == 1


@pytest.mark.asyncio
async def test_a_password_does_not_go_over_plain_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Account, "is_loopback", False)
    async with Server(3) as server:
        with pytest.raises(ConnectionFailed, match=r"offers no STARTTLS.*use imaps://.*allow_plaintext=True") as caught:
            await dial(options_for(server.url))
        assert not is_transient(caught.value).transient
        assert "LOGIN" not in server.commands.names


@pytest.mark.asyncio
async def test_starttls_that_is_demanded_and_missing() -> None:
    async with Server(3) as server:
        with pytest.raises(CapabilityMissing, match="STARTTLS"):
            await dial(options_for(server.url, starttls=True))
    assert server.counters.logins == 0


@pytest.mark.asyncio
async def test_starttls_refused(contexts: Contexts) -> None:
    fault = Reply("NO", "not today", command="STARTTLS")
    async with Server(3, starttls=contexts[0], faults=[fault]) as server:
        with pytest.raises(ConnectionFailed, match="STARTTLS was refused: not today"):
            await dial(options_for(server.url, starttls=True))


@pytest.mark.asyncio
async def test_responses_put_behind_the_starttls_reply_are_an_attack(contexts: Contexts) -> None:
    fault = Inject(b"* CAPABILITY IMAP4rev1 AUTH=PLAIN\r\n", where="after", command="STARTTLS")
    async with Server(3, starttls=contexts[0], faults=[fault]) as server:
        with pytest.raises(ProtocolError, match="STARTTLS injection"):
            await dial(options_for(server.url, starttls=True, ssl_context=contexts[1]))
    assert server.counters.logins == 0


@pytest.mark.asyncio
async def test_nothing_that_was_said_before_the_handshake_is_believed_after_it(contexts: Contexts) -> None:
    """Somebody in the middle can say all of it; believed, UIDONLY would change what is sent from then on."""
    said = b"* ENABLED UIDONLY UTF8=ACCEPT\r\n* OK [ALERT] Call 555-0100 at once\r\n* CAPABILITY IMAP4rev1 X-EVIL\r\n"
    for where in ("before", "reply"):
        fault = Inject(said, where=where, command="STARTTLS")
        async with (
            Server(3, starttls=contexts[0], faults=[fault], remove_extensions=["UIDONLY"]) as server,
            dialled(options_for(server.url, starttls=True, ssl_context=contexts[1])) as connection,
        ):
            session = connection.session
            assert (session.enabled, session.alerts, session.selected) == (frozenset(), [], None)
            assert not connection.offers("X-EVIL")
            assert await works(connection)
        assert fault.fired


@pytest.mark.asyncio
async def test_preauth_before_tls_is_not_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    greeting = script("S: * PREAUTH [CAPABILITY IMAP4rev1 STARTTLS] welcome", "C: <a> LOGOUT", "S: <a> OK bye")
    async with ScriptedServer(greeting) as server:
        url = f"imap://ann@127.0.0.1:{server.port}"
        async with dialled(options_for(url)) as connection:
            assert connection.session.logged_in
    for demanded in (False, True):
        async with ScriptedServer(script("S: * PREAUTH [CAPABILITY IMAP4rev1] hi", "X:")) as server:
            with monkeypatch.context() as patch:
                if not demanded:
                    patch.setattr(Account, "is_loopback", False)
                with pytest.raises(ConnectionFailed, match="PREAUTH before TLS"):
                    await dial(options_for(f"imap://ann@127.0.0.1:{server.port}", starttls=demanded or None))


@pytest.mark.parametrize("starttls", [False, True])
@pytest.mark.asyncio
async def test_a_certificate_of_somebody_else(
    make_contexts: Callable[..., Contexts], contexts: Contexts, starttls: bool
) -> None:
    theirs, trusting = make_contexts("mail.example.org")
    kind = {"starttls": theirs} if starttls else {"tls": theirs}
    async with Server(3, **kind) as server:  # type: ignore[arg-type]
        options = options_for(server.url, starttls=starttls or None, ssl_context=trusting)
        with pytest.raises(ConnectionFailed, match=r"IP address mismatch.*; check the host name") as caught:
            await dial(options)
        assert (caught.value.host, caught.value.port) == (server.host, server.port)
        assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)
        assert not is_transient(caught.value).transient
        with pytest.raises(ConnectionFailed, match="self-signed certificate; check the host name"):
            await dial(dataclasses.replace(options, ssl_context=contexts[1]))
        with pytest.raises(ConnectionFailed, match="self-signed certificate"):
            await dial(dataclasses.replace(options, ssl_context=None))
    assert server.counters.logins == 0


@pytest.mark.asyncio
async def test_a_port_that_speaks_no_tls() -> None:
    async with Server(3) as server:
        url = server.url.replace("imap://", "imaps://")
        with pytest.raises(ConnectionFailed, match=r"TLS failed .*imap://"):
            await dial(options_for(url))


# -- credentials -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("password", ["secret", 'se"c\\ret', "", "a b {3}", "pässwörd", "密码"])
@pytest.mark.parametrize("mechanisms", [("PLAIN",), ()])
@pytest.mark.parametrize("sasl_ir", [True, False])
@pytest.mark.asyncio
async def test_passwords(password: str, mechanisms: tuple[str, ...], sasl_ir: bool) -> None:
    """LOGIN with quotes; what is not ASCII by PLAIN, or by LOGIN with literals."""
    user = "ann@example.org" if password.isascii() else "änn"
    removed = () if sasl_ir else ("SASL-IR",)
    async with (
        Server(3, user=user, password=password, mechanisms=mechanisms, remove_extensions=removed) as server,
        dialled(options_for(f"imap://127.0.0.1:{server.port}", password, user=user)) as connection,
    ):
        assert await works(connection)
    ways = [name for name in server.commands.names if name in ("LOGIN", "AUTHENTICATE")]
    assert ways == ["LOGIN" if password.isascii() or not mechanisms else "AUTHENTICATE"]


@pytest.mark.parametrize("mechanism", ["XOAUTH2", "OAUTHBEARER"])
@pytest.mark.parametrize("sasl_ir", [True, False])
@pytest.mark.asyncio
async def test_tokens(mechanism: str, sasl_ir: bool) -> None:
    asked = 0

    async def token() -> str:
        nonlocal asked
        asked += 1
        return "good" if asked == 1 else "expired"

    removed = () if sasl_ir else ("SASL-IR",)
    user = "ann=1,2@example.org"
    async with Server(3, user=user, token="good", mechanisms=(mechanism,), remove_extensions=removed) as server:
        options = options_for(f"imap://127.0.0.1:{server.port}", None, user=user, token=token)
        async with dialled(options) as connection:
            assert await works(connection)
        # The server sends the reason for its refusal as a challenge and waits for an answer to it.
        with pytest.raises(AuthenticationFailed) as caught:
            await dial(options)
    assert (caught.value.status, caught.value.code) == ("NO", "AUTHENTICATIONFAILED")
    # The refused one was asked for anew, and being the same it was not sent again.
    assert asked == 3
    assert (server.counters.logins, server.counters.failed_logins) == (1, 1)


@pytest.mark.asyncio
async def test_a_token_where_none_can_be_used() -> None:
    async def token() -> str:
        return "good"

    async with Server(3, mechanisms=("PLAIN",)) as server:
        with pytest.raises(CapabilityMissing, match="AUTH=OAUTHBEARER or AUTH=XOAUTH2"):
            await dial(options_for(server.url, None, token=token))


@pytest.mark.parametrize(
    ("raised", "kind", "words"),
    [
        (LookupError("secret-token"), AuthenticationFailed, r"\[UNAVAILABLE\] token\(\) raised LookupError$"),
        (OSError(113, "No route to host"), ConnectionFailed, r"token\(\) could not reach its server: No route to host"),
        (TimeoutError(), ConnectionFailed, r"token\(\) could not reach its server: TimeoutError"),
    ],
)
@pytest.mark.asyncio
async def test_what_the_token_callback_raises_is_told_with_its_cause(
    raised: Exception, kind: type[Exception], words: str
) -> None:
    async def token() -> str:
        raise raised

    async with Server(3) as server:
        with pytest.raises(kind, match=words) as caught:
            await dial(options_for(server.url, None, token=token))
    assert server.counters.open_connections == 0
    assert raised in (caught.value.__cause__, getattr(caught.value.__cause__, "__cause__", None))
    # The token's server may work again in a moment.
    assert is_transient(caught.value).is_outage
    assert "secret-token" not in str(caught.value)


@pytest.mark.parametrize("given", [None, "", b"t", "a\r\nb LOGOUT"])
@pytest.mark.asyncio
async def test_a_token_callback_that_gives_no_token(given: object) -> None:
    async def token() -> str:
        return given  # type: ignore[return-value]

    async with Server(3) as server:
        with pytest.raises(AuthenticationFailed, match=r"and no token|holds a control character") as caught:
            await dial(options_for(server.url, None, token=token))
    assert not is_transient(caught.value).transient
    assert server.counters.failed_logins == 0


@pytest.mark.asyncio
async def test_a_token_that_is_refused_is_asked_for_anew() -> None:
    """On another connection: some servers hang up behind a refusal."""
    tokens = iter(["expired", "good"])

    async def token() -> str:
        return next(tokens)

    async with Server(3, token="good") as server:
        async with dialled(options_for(server.url, None, token=token)) as connection:
            assert await works(connection)
        assert (server.counters.connections, server.counters.logins, server.counters.failed_logins) == (2, 1, 1)


@pytest.mark.asyncio
async def test_a_token_is_asked_for_anew_once() -> None:
    tokens = iter(["expired", "expired-too", "good"])

    async def token() -> str:
        return next(tokens)

    async with Server(3, token="good") as server:
        with pytest.raises(AuthenticationFailed):
            await dial(options_for(server.url, None, token=token))
        assert server.counters.failed_logins == 2
    assert next(tokens) == "good"


@pytest.mark.parametrize("refusal", ["BAD Unknown command", "NO Unsupported authentication mechanism"])
@pytest.mark.asyncio
async def test_a_mechanism_that_the_server_does_not_understand_is_followed_by_the_next(refusal: str) -> None:
    async def token() -> str:
        return "t"

    lines: tuple[str, ...] = (
        "S: * OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=OAUTHBEARER AUTH=XOAUTH2 AUTH=PLAIN] hi",
        "C: <a> AUTHENTICATE OAUTHBEARER …",
        f"S: <a> {refusal}",
        "C: <b> AUTHENTICATE XOAUTH2 …",
        "S: <b> OK [CAPABILITY IMAP4rev1] done",
        "C: <c> LOGOUT",
        "S: <c> OK bye",
    )
    async with (
        ScriptedServer(script(*lines)) as server,
        dialled(options_for(f"imap://ann@127.0.0.1:{server.port}", None, token=token)) as connection,
    ):
        assert connection.session.logged_in
    lines = (
        "S: * OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] hi",
        "C: <a> AUTHENTICATE PLAIN …",
        f"S: <a> {refusal}",
        'C: <b> LOGIN "ann" {3}',
        "S: + go on",
        "C: …",
        "S: <b> OK [CAPABILITY IMAP4rev1] done",
        "C: <c> LOGOUT",
        "S: <c> OK bye",
    )
    async with (
        ScriptedServer(script(*lines)) as server,
        dialled(options_for(f"imap://ann@127.0.0.1:{server.port}", "üx")) as connection,
    ):
        assert connection.session.logged_in


@pytest.mark.asyncio
async def test_login_that_the_server_does_not_understand_is_followed_by_plain() -> None:
    async with Server(3, faults=[Reply("BAD", "Unknown command", command="LOGIN")]) as server:
        async with dialled(options_for(server.url)) as connection:
            assert await works(connection)
        assert [name for name in server.commands.names if name in ("LOGIN", "AUTHENTICATE")] == [
            "LOGIN",
            "AUTHENTICATE",
        ]


@pytest.mark.parametrize("mechanism", ["PLAIN", "XOAUTH2"])
@pytest.mark.asyncio
async def test_an_initial_response_that_is_not_understood_is_sent_when_it_is_asked_for(mechanism: str) -> None:
    async def token() -> str:
        return "token"

    initial = Reply("BAD", "Too many arguments", command="AUTHENTICATE", times=1)
    forbidden = Reply("BAD", "Unknown command", command="LOGIN")
    async with Server(3, mechanisms=[mechanism], faults=[initial, forbidden]) as server:
        options = options_for(server.url) if mechanism == "PLAIN" else options_for(server.url, None, token=token)
        async with dialled(options) as connection:
            assert await works(connection)
        attempts = server.commands.named("AUTHENTICATE")
        assert [(record.outcome, record.continuations) for record in attempts] == [("BAD", 0), ("OK", 1)]


@pytest.mark.parametrize("fault", [CutAfterBytes(0, command="AUTHENTICATE"), Bye("go away", command="AUTHENTICATE")])
@pytest.mark.asyncio
async def test_a_refusal_counts_more_than_the_end_of_the_connection_behind_it(fault: Fault) -> None:
    bad = Reply("BAD", "not with me", command="LOGIN")
    async with Server(3, faults=[bad, fault]) as server:
        with pytest.raises(AuthenticationFailed, match="not with me"):
            await dial(options_for(server.url))
        # On the second connection what was refused is not sent again.
        assert server.commands.names.count("LOGIN") == 1
        assert server.commands.names.count("AUTHENTICATE") == 2


@pytest.mark.asyncio
async def test_where_nothing_is_understood_each_way_is_tried_once() -> None:
    bad = Reply("BAD", "not with me", command=("LOGIN", "AUTHENTICATE"))
    async with Server(3, faults=[bad]) as server:
        with pytest.raises(AuthenticationFailed, match="not with me"):
            await dial(options_for(server.url))
        asked = [name for name in server.commands.names if name in ("LOGIN", "AUTHENTICATE")]
        # The mechanism with its response at once, and without.
        assert asked == ["LOGIN", "AUTHENTICATE", "AUTHENTICATE"]
        assert server.counters.connections == 1


@pytest.mark.asyncio
async def test_a_server_that_hangs_up_behind_a_mechanism_gets_the_next_one_on_a_new_connection() -> None:
    """Migadu's proxy (himalaya 625)."""
    bad = Reply("BAD", "not with me", command="LOGIN")
    hangs_up = CutAfterBytes(0, command="AUTHENTICATE", nth=1)
    async with Server(3, faults=[bad, hangs_up]) as server:
        async with dialled(options_for(server.url)) as connection:
            assert await works(connection)
        assert [name for name in server.commands.names if name in ("LOGIN", "AUTHENTICATE")] == [
            "LOGIN",
            "AUTHENTICATE",
            "AUTHENTICATE",
        ]


@pytest.mark.parametrize("status", ["NO", "BAD"])
@pytest.mark.asyncio
async def test_a_server_that_does_not_say_what_it_offers_is_asked_for_nothing_more(status: str) -> None:
    fault = Reply(status, "no", command="CAPABILITY")  # type: ignore[arg-type]
    async with (
        Server(3, capability_codes=False, faults=[fault]) as server,
        dialled(options_for(server.url)) as connection,
    ):
        assert connection.capabilities == frozenset()
        assert await works(connection)
        assert [entry.name for entry in await connection.list(status_items=["MESSAGES"])] == ["INBOX"]


@pytest.mark.asyncio
async def test_a_password_that_is_refused_is_sent_once() -> None:
    async with Server(3) as server:
        with pytest.raises(AuthenticationFailed):
            await dial(options_for(server.url, "wrong"))
        assert server.counters.failed_logins == 1


# -- what may be left out ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["NO", "BAD"])
@pytest.mark.asyncio
async def test_optional_commands_that_are_refused_end_nothing(status: str, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("ID", "ENABLE", "COMPRESS", "NAMESPACE")
    monkeypatch.setattr(Account, "is_loopback", False)
    faults = [Reply(status, "not today", command=names)]  # type: ignore[arg-type]
    async with Server(3, extensions="everything", faults=faults) as server:
        options = options_for(server.url, identify={"name": "x"}, allow_plaintext=True)
        connection = await dial(options, slow_link=True)
        try:
            assert await works(connection)
            assert connection.ways.refused == {"ID", "UIDONLY", "COMPRESS=DEFLATE"}
            assert not any(connection.offers(name) for name in connection.ways.refused)
            assert await connection.namespace() is None
            assert await connection.namespace() is None
        finally:
            await connection.logout()
        # Each of them was asked once, and not again.
        assert [name for name in server.commands.names if name in names] == ["ID", "ENABLE", "COMPRESS", "NAMESPACE"]
        plain = options_for(server.url, allow_plaintext=True)
        for demanding in (dataclasses.replace(plain, uidonly=True), dataclasses.replace(plain, compress=True)):
            with pytest.raises(CommandNo if status == "NO" else CommandBad):
                await dial(demanding)


@pytest.mark.asyncio
async def test_enable_that_is_answered_ok_and_enables_nothing() -> None:
    """iCloud does so with QRESYNC (MailKit 1871): what is demanded is missing, what is not is not used."""
    nothing = Rewrite(lambda line: b"" if line.startswith(b"* ENABLED") else line, command="ENABLE")
    async with Server(3, extensions="everything", faults=[nothing]) as server:
        async with dialled(options_for(server.url)) as connection:
            assert "UIDONLY" not in connection.session.enabled
        with pytest.raises(CapabilityMissing, match="UIDONLY"):
            await dial(options_for(server.url, uidonly=True))


@pytest.mark.asyncio
async def test_who_we_are_is_said_after_the_login_only() -> None:
    """o2.pl and mail.de offer ID from the beginning and know it only then (emailjs-imap-client 116, Wino-Mail 263)."""
    async with Server(3) as server, dialled(options_for(server.url, identify={"name": "x"})):
        names = server.commands.names
        assert names.index("ID") > names.index("LOGIN")


@pytest.mark.asyncio
async def test_an_answer_to_id_that_nobody_can_read_ends_nothing() -> None:
    lines = (
        "S: * PREAUTH [CAPABILITY IMAP4rev1 ID] hi",
        "C: <a> ID …",
        "S: * ID (name (Courier",
        "S: <a> OK done",
        "C: <b> LOGOUT",
        "S: <b> OK bye",
    )
    async with ScriptedServer(script(*lines)) as server:
        options = options_for(f"imap://ann@127.0.0.1:{server.port}", identify={"name": "x"})
        async with dialled(options) as connection:
            assert connection.is_open


@pytest.mark.parametrize("status", ["NO", "BAD"])
@pytest.mark.asyncio
async def test_starttls_that_is_offered_and_refused(
    contexts: Contexts, monkeypatch: pytest.MonkeyPatch, status: str
) -> None:
    monkeypatch.setattr(Account, "is_loopback", False)
    fault = Reply(status, "not today", command="STARTTLS")  # type: ignore[arg-type]
    async with Server(3, starttls=contexts[0], faults=[fault]) as server:
        with pytest.raises(ConnectionFailed, match=r"STARTTLS was refused \(not today\), and a password must not go"):
            await dial(options_for(server.url))
        assert "LOGIN" not in server.commands.names
        async with dialled(options_for(server.url, allow_plaintext=True)) as connection:
            assert await works(connection)
            assert not connection.offers("STARTTLS")


@pytest.mark.asyncio
async def test_a_wrong_password_is_refused_and_shown_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with Server(3) as server:
        options = options_for(server.url, "hunter2")
        with pytest.raises(AuthenticationFailed) as caught:
            await dial(options)
    assert (caught.value.command, caught.value.status, caught.value.code) == ("LOGIN", "NO", "AUTHENTICATIONFAILED")
    assert "hunter2" not in f"{caught.value!r} {options!r} {caplog.text}"


@pytest.mark.parametrize("mechanism", ["XOAUTH2", "PLAIN"])
@pytest.mark.asyncio
async def test_a_server_that_overlooks_the_initial_response_gets_it_again(mechanism: str) -> None:
    async def token() -> str:
        return "t"

    dialogue = script(
        f"S: * OK [CAPABILITY IMAP4rev1 SASL-IR LOGINDISABLED AUTH={mechanism}] ready",
        f"C: <a> AUTHENTICATE {mechanism} …",
        "S: + ",
        "C: …",
        "S: <a> OK [CAPABILITY IMAP4rev1] done",
        "C: <b> LOGOUT",
        "S: <b> OK bye",
    )
    async with ScriptedServer(dialogue) as server:
        url = f"imap://ann@127.0.0.1:{server.port}"
        uses_token = mechanism == "XOAUTH2"
        options = options_for(url, None, token=token) if uses_token else options_for(url)
        async with dialled(options) as connection:
            assert connection.session.logged_in


@pytest.mark.asyncio
async def test_passwords_that_the_server_forbids() -> None:
    async with Server(3, login_disabled=True) as server:
        with pytest.raises(CapabilityMissing, match="forbids passwords on this connection; use imaps://"):
            await dial(options_for(server.url))


@pytest.mark.parametrize("words", [{}, {"password": "x", "token": lambda: None}])
def test_credentials_are_one_of_two(words: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="either password= or token="):
        Credentials("ann", words.get("password"), words.get("token"))  # type: ignore[arg-type]


def test_credentials_need_a_user() -> None:
    with pytest.raises(ValueError, match="name the user"):
        Credentials("", "x", None)
    assert repr(Credentials("ann", "hunter2", None)) == "<Credentials 'ann' with a password>"


@pytest.mark.asyncio
async def test_too_many_connections_is_no_wrong_password() -> None:
    async with Server(3, faults=[RefuseLogin()]) as server:
        with pytest.raises(Throttled, match="Too many simultaneous connections"):
            await dial(options_for(server.url))
    async with Server(3, max_connections=1) as server, dialled(options_for(server.url)):
        with pytest.raises(Throttled) as caught:
            await dial(options_for(server.url))
    assert caught.value.code == "UNAVAILABLE"


# -- the way there -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
@pytest.mark.asyncio
async def test_a_refused_port(host: str) -> None:
    async with Server(1) as server:
        port = server.port
    with pytest.raises(ConnectionFailed, match="the port refused it") as caught:
        await dial(options_for(f"imap://ann@{host}:{port}"))
    assert (caught.value.host, caught.value.port) == (host, port)


def resolve_nothing(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def look_up(*_: object, **__: object) -> None:
        raise socket.gaierror(number, "what the system says")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)


@pytest.mark.parametrize(
    ("number", "words", "is_permanent"),
    [(socket.EAI_NONAME, "the host name is not known", True), (socket.EAI_AGAIN, "no name server answered", False)],
)
@pytest.mark.asyncio
async def test_a_name_that_leads_nowhere_is_waited_for_only_where_it_may_be_right(
    monkeypatch: pytest.MonkeyPatch, number: int, words: str, *, is_permanent: bool
) -> None:
    resolve_nothing(monkeypatch, number)
    options = options_for("imap://ann@imap.exmaple.org")
    with pytest.raises(ConnectionFailed, match=words) as caught:
        await dial(options, learned=Learned())
    assert caught.value.is_permanent is is_permanent


@pytest.mark.asyncio
async def test_a_name_that_led_to_the_server_before_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    learned = Learned()
    async with Server(1) as server:
        options = options_for(server.url)
        await (await dial(options, learned=learned)).logout()
        resolve_nothing(monkeypatch, socket.EAI_NONAME)
        elsewhere = dataclasses.replace(options, account=dataclasses.replace(options.account, host="imap.example.org"))
        with pytest.raises(ConnectionFailed, match="the host name is not known") as caught:
            await dial(elsewhere, learned=learned)
    assert not caught.value.is_permanent


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["S: HTTP/1.1 400 Bad Request", "X:"], "does not speak IMAP"),
        (["S: * BYE out of order", "X:"], "the server refused it: out of order"),
        (["X:"], "the server closed the connection"),
        (["S: 421 Server is busy, try again later.", "X:"], 'it says "421 Server is busy, try again later."$'),
        (["S: -ERR \x1b\x07[31m", "X:"], 'it says "-ERR \ufffd\ufffd\\[31m"$'),
        (["S: 220 " + "x" * 500, "X:"], 'it says "220 x{116}…"$'),
    ],
)
@pytest.mark.asyncio
async def test_greetings_that_are_none(lines: list[str], words: str) -> None:
    async with ScriptedServer(script(*lines)) as server:
        with pytest.raises(ConnectionFailed, match=words) as caught:
            await dial(options_for(f"imap://ann@127.0.0.1:{server.port}"))
    assert caught.value.port == server.port
    assert is_transient(caught.value) == Verdict(transient=True, is_outage=True)


@pytest.mark.asyncio
async def test_a_greeting_in_another_language_that_says_too_many() -> None:
    async with ScriptedServer(script("S: 421 Too many connections from your host", "X:")) as server:
        with pytest.raises(Throttled, match="421 Too many connections from your host"):
            await dial(options_for(f"imap://ann@127.0.0.1:{server.port}"))


@pytest.mark.asyncio
async def test_a_greeting_that_says_too_many() -> None:
    async with Server(1, faults=[RefuseConnection(text="Too many connections")]) as server:
        with pytest.raises(Throttled):
            await dial(options_for(server.url))


@pytest.mark.asyncio
async def test_silence_ends_at_the_connect_timeout() -> None:
    async with Server(1, faults=[Delay(60, command="LOGIN")]) as server:
        with pytest.raises(ConnectionFailed, match=r"nothing usable in 0\.2 seconds"):
            await dial(options_for(server.url, connect_timeout_seconds=0.2))


@pytest.mark.parametrize("kind", ["plain", "tls", "starttls"])
@pytest.mark.asyncio
async def test_cancelled_at_any_moment_it_leaves_no_socket_and_no_task(
    kind: str, contexts: Contexts, other_tasks: Callable[[], set[str]]
) -> None:
    before = other_tasks()
    arguments = {} if kind == "plain" else {kind: contexts[0]}
    async with Server(1, **arguments) as server:  # type: ignore[arg-type]
        url = server.url
        options = options_for(url, ssl_context=contexts[1], starttls=True if kind == "starttls" else None)
        turns = 0
        while True:
            task = asyncio.ensure_future(dial(options))
            for _ in range(turns):
                await asyncio.sleep(0)
            if task.done():
                break
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            turns += 1
        (await task).abort()
        for _ in range(1000):
            await asyncio.sleep(0)
            if not server.counters.open_connections:
                break
        assert server.counters.open_connections == 0
        assert turns > 5
    assert other_tasks() == before


@pytest.mark.parametrize("trusted", [True, False])
@pytest.mark.asyncio
async def test_a_socket_that_somebody_else_opened(contexts: Contexts, trusted: bool) -> None:
    opened: list[socket.socket] = []

    async def open_socket(host: str, port: int) -> socket.socket:
        opened.append(socket.socket())
        opened[-1].setblocking(False)
        await asyncio.get_running_loop().sock_connect(opened[-1], (host, port))
        return opened[-1]

    async with Server(3, tls=contexts[0]) as server:
        options = options_for(server.url, ssl_context=contexts[1] if trusted else None, open_socket=open_socket)
        if trusted:
            async with dialled(options) as connection:
                assert await works(connection)
                assert is_encrypted(connection)
        else:
            with pytest.raises(ConnectionFailed, match="certificate was not accepted"):
                await dial(options)
    assert [each.fileno() for each in opened] == [-1]


@pytest.mark.parametrize(
    ("raised", "words"),
    [
        (RuntimeError("the proxy\r\nsays no"), r"open_socket\(\) raised RuntimeError: the proxy\ufffd\ufffdsays no$"),
        (TimeoutError("proxy"), r"open_socket\(\) raised TimeoutError: proxy$"),
    ],
)
@pytest.mark.asyncio
async def test_what_open_socket_raises_is_a_failed_connection(raised: Exception, words: str) -> None:
    async def open_socket(host: str, port: int) -> socket.socket:
        raise raised

    with pytest.raises(ConnectionFailed, match=words) as caught:
        await dial(options_for("imap://ann@127.0.0.1:1", open_socket=open_socket))
    assert caught.value.__cause__ is raised
    assert is_transient(caught.value).is_outage


@pytest.mark.asyncio
async def test_what_open_socket_raises_in_a_cancellation_passes() -> None:
    async def open_socket(host: str, port: int) -> socket.socket:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await dial(options_for("imap://ann@127.0.0.1:1", open_socket=open_socket))


@pytest.mark.asyncio
async def test_open_socket_that_gives_no_socket() -> None:
    async def open_socket(host: str, port: int) -> socket.socket:
        return object()  # type: ignore[return-value]

    with pytest.raises(ConnectionFailed, match=r"open_socket\(\) gave no socket, but object") as caught:
        await dial(options_for("imap://ann@127.0.0.1:1", open_socket=open_socket))
    assert not is_transient(caught.value).transient


@pytest.mark.asyncio
async def test_a_proxy_that_fails() -> None:
    async def open_socket(host: str, port: int) -> socket.socket:
        raise ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")

    with pytest.raises(ConnectionFailed, match="the port refused it"):
        await dial(options_for("imap://ann@127.0.0.1:1", open_socket=open_socket))


@pytest.mark.asyncio
async def test_the_system_watches_over_silent_connections() -> None:
    async with Server(3) as server, dialled(options_for(server.url)) as connection:
        assert connection.plane.transport is not None
        used = connection.plane.transport.get_extra_info("socket")
        assert used.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


# -- after the login ---------------------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_compression_where_it_is_demanded_or_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Server(3) as server:
        options = options_for(server.url, compress=True)
        async with dialled(options) as connection:
            assert await works(connection)
            assert connection.plane.is_compressed
        auto = dataclasses.replace(options, compress="auto")
        for slow_link, loopback, expected in ((False, False, False), (True, True, False), (True, False, True)):
            with monkeypatch.context() as patch:
                patch.setattr(Account, "is_loopback", loopback)
                plain = dataclasses.replace(auto, allow_plaintext=True)
                connection = await dial(plain, slow_link=slow_link)
            assert connection.plane.is_compressed is expected
            assert await works(connection)
            await connection.logout()
        server.faults.add(Reply("NO", "no zlib", command="COMPRESS"))
        with pytest.raises(CommandNo, match="no zlib"):
            await dial(options)
    async with Server(3, remove_extensions=["COMPRESS=DEFLATE"]) as server:
        with pytest.raises(CapabilityMissing, match="COMPRESS=DEFLATE"):
            await dial(options_for(server.url, compress=True))


@pytest.mark.asyncio
async def test_who_we_are_is_said_where_that_is_asked_for() -> None:
    fields = {"name": 'a "b" \\', "version": "1", "vendor": None}
    async with Server(3) as server:
        async with dialled(options_for(server.url)):
            assert server.client_ids == {}
        async with dialled(options_for(server.url, identify=fields)):
            assert server.client_ids == {2: fields}


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("S: * BYE", ServerBye),
        ("S: * BYE [ALERT] Too many simultaneous connections", Throttled),
        ("S: * 3 EXISTS", ConnectionLost),
    ],
)
@pytest.mark.asyncio
async def test_a_connection_that_ends_during_the_login(line: str, kind: type[Exception]) -> None:
    lines = ("S: * OK [CAPABILITY IMAP4rev1] hi", "C: <a> LOGIN …", line, "X:")
    async with ScriptedServer(script(*lines)) as server:
        with pytest.raises(kind) as caught:
            await dial(options_for(f"imap://ann@127.0.0.1:{server.port}"))
    assert type(caught.value) is kind


@pytest.mark.parametrize(
    "more",
    [
        {"connect_timeout_seconds": 0},
        {"command_timeout_seconds": -1},
        {"stall_timeout_seconds": 0.0},
        {"max_age_seconds": 0},
        {"max_held_bytes": 10},
        {"spool_above": 1},
        {"max_spool_bytes": 0},
        {"compress": "yes"},
    ],
)
def test_what_can_be_refused_before_anything_is_sent(more: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(more))):
        dataclasses.replace(options_for("imap://ann@h"), **more).check()  # type: ignore[arg-type]
