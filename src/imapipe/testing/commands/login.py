"""Commands of any state and of login: CAPABILITY to COMPRESS."""

from __future__ import annotations

import base64
import binascii
import json

from ..arguments import Arguments, BadCommand, Refused
from ..faults import RefuseCredentials
from ..session import Done, Entry, Session

_ENABLEABLE = ("CONDSTORE", "QRESYNC", "UIDONLY", "UTF8=ACCEPT")


async def capability(session: Session, arguments: Arguments) -> Done:
    """CAPABILITY."""
    arguments.end()
    session.untagged(session.capability_text.encode("ascii"))
    return Done("CAPABILITY completed")


async def noop(session: Session, arguments: Arguments) -> Done:
    """NOOP and CHECK: pending changes are told with the reply."""
    arguments.end()
    return Done(f"{session.record.name} completed")


async def logout(session: Session, arguments: Arguments) -> Done:
    """LOGOUT."""
    arguments.end()
    session.untagged(b"BYE Logging out")
    session.log_out()
    session.over = True
    return Done("LOGOUT completed")


async def identify(session: Session, arguments: Arguments) -> Done:
    """ID (RFC 2971)."""
    if not arguments.take(b"NIL"):
        arguments.expect(b"(")
        pairs: list[str] = []
        while not arguments.take(b")"):
            if pairs:
                arguments.space()
            key = arguments.string().decode("utf-8", "replace")
            arguments.space()
            value = arguments.nstring()
            pairs.append(key)
            session.server.client_ids.setdefault(session.number, {})[key] = (
                None if value is None else value.decode("utf-8", "replace")
            )
    arguments.end()
    session.untagged(b'ID ("name" "imapipe.testing")')
    return Done("ID completed")


async def enable(session: Session, arguments: Arguments) -> Done:
    """ENABLE (RFC 5161)."""
    asked = [arguments.word()]
    while arguments.take(b" "):
        asked.append(arguments.word())
    arguments.end()
    now = [name for name in asked if name in _ENABLEABLE and session.has(name) and name not in session.enabled]
    session.enabled.update(now)
    if "QRESYNC" in now:
        session.enabled.add("CONDSTORE")
    if "CONDSTORE" in now and session.mailbox is not None:
        session.write_highest_modseq()
    session.untagged(" ".join(["ENABLED", *now]).encode("ascii"))
    return Done("ENABLE completed")


async def starttls(session: Session, arguments: Arguments) -> Done:
    """STARTTLS: the reply goes out in plain text, then the handshake starts."""
    arguments.end()
    context = session.server.starttls
    if context is None or session.link.tls:
        raise BadCommand("STARTTLS is not available")
    record = session.record
    record.outcome, record.reply = "OK", "Begin TLS negotiation now"
    reply = f"{record.tag} OK {record.reply}\r\n".encode("ascii") + session.injected_after()
    await session.link.start_tls(context, reply)
    session.answered = True
    return Done(record.reply)


def _log_in(session: Session, user: str) -> Done:
    server = session.server
    if server.max_connections is not None and server.logged_in_sessions >= server.max_connections:
        server.counters.failed_logins += 1
        code, text = server.too_many_connections
        raise Refused(text, code)
    server.counters.logins += 1
    session.log_in(user)
    if server.capability_codes:
        return Done("Logged in", session.capability_text)
    return Done("Logged in")


def _refuse(session: Session, text: str = "Authentication failed.") -> Refused:
    session.server.counters.failed_logins += 1
    return Refused(text, "AUTHENTICATIONFAILED")


def _check_plain_allowed(session: Session) -> None:
    if session.server.login_disabled and not session.link.tls:
        raise Refused("Plaintext authentication disallowed on non-secure connections.", "PRIVACYREQUIRED")


async def login(session: Session, arguments: Arguments) -> Done:
    """LOGIN."""
    user = arguments.astring().decode("utf-8", "replace")
    arguments.space()
    password = arguments.astring().decode("utf-8", "replace")
    arguments.end()
    _check_plain_allowed(session)
    if (user, password) != (session.server.user, session.server.password) or session.fired.of(RefuseCredentials):
        raise _refuse(session)
    return _log_in(session, user)


async def authenticate(session: Session, arguments: Arguments) -> Done:
    """AUTHENTICATE PLAIN, XOAUTH2 and OAUTHBEARER, with or without an initial response (RFC 4959)."""
    mechanism = arguments.word()
    if mechanism not in session.server.mechanisms:
        raise Refused("Unsupported authentication mechanism.", "CANNOT")
    _check_plain_allowed(session)
    if arguments.take(b" "):
        if not session.has("SASL-IR"):
            raise BadCommand("An initial response is not supported")
        coded = arguments.rest().strip()
        data = b"" if coded == b"=" else _decode(coded)
    else:
        await session.continuation(b"")
        session.record.continuations += 1
        data = _decode(await session.read_line())
    if mechanism == "PLAIN":
        fields = data.split(b"\0")
        if len(fields) != 3:
            raise BadCommand("Malformed PLAIN response")
        user, password = fields[1].decode("utf-8", "replace"), fields[2].decode("utf-8", "replace")
        if (user, password) != (session.server.user, session.server.password) or session.fired.of(RefuseCredentials):
            raise _refuse(session)
        return _log_in(session, user)
    user, token = _parse_bearer(mechanism, data)
    if token != session.server.token or user != session.server.user or session.fired.of(RefuseCredentials):
        scheme = {"status": "invalid_token" if mechanism == "OAUTHBEARER" else "400", "schemes": "bearer"}
        await session.continuation(base64.b64encode(json.dumps(scheme).encode("ascii")))
        # RFC 7628 3.2.3: the client answers with a dummy (AQ== or an empty line) and only then comes the NO.
        await session.read_line()
        raise _refuse(session, "Invalid credentials (Failure)")
    return _log_in(session, user)


def _decode(coded: bytes) -> bytes:
    if coded.strip() == b"*":
        raise BadCommand("Authentication cancelled by the client")
    try:
        return base64.b64decode(coded, validate=True)
    except binascii.Error:
        raise BadCommand("Invalid base64") from None


def _parse_bearer(mechanism: str, data: bytes) -> tuple[str, str]:
    fields = data.decode("utf-8", "replace").split("\x01")
    user = token = ""
    for field in fields:
        if field.startswith("auth=Bearer "):
            token = field.removeprefix("auth=Bearer ")
        elif mechanism == "XOAUTH2" and field.startswith("user="):
            user = field.removeprefix("user=")
        elif mechanism == "OAUTHBEARER" and field.startswith("n,"):
            name = next((part[2:] for part in field.split(",") if part.startswith("a=")), "")
            user = name.replace("=2C", ",").replace("=3D", "=")
    return user, token


async def compress(session: Session, arguments: Arguments) -> Done:
    """COMPRESS DEFLATE (RFC 4978)."""
    if arguments.word() != "DEFLATE":
        raise BadCommand("Unknown compression")
    arguments.end()
    if session.link.compressed:
        raise Refused("Compression is active already", "COMPRESSIONACTIVE")
    record = session.record
    record.outcome, record.reply = "OK", "Compression active"
    session.link.write(f"{record.tag} OK {record.reply}\r\n".encode("ascii"))
    await session.link.flush()
    session.link.start_compression()
    session.answered = True
    return Done(record.reply)


async def namespace(session: Session, arguments: Arguments) -> Done:
    """NAMESPACE (RFC 2342)."""
    arguments.end()
    session.untagged(b'NAMESPACE (("" "/")) NIL NIL')
    return Done("NAMESPACE completed")


async def idle(session: Session, arguments: Arguments) -> Done:
    """IDLE (RFC 2177): changes are told as they happen until the client says DONE."""
    arguments.end()
    await session.continuation(b"idling")
    while True:
        line = session.link.next_line(session.server.max_command_bytes)
        if line is not None:
            break
        session.write_updates(True)
        session.write_watched()
        await session.tell_pushed()
        await session.link.flush()
        await session.say_bye_if_due()
        await session.link.wait()
    if line.strip().upper() != b"DONE":
        raise BadCommand("Expected DONE")
    return Done("IDLE terminated")


COMMANDS: dict[str, Entry] = {
    "CAPABILITY": Entry(capability, "any"),
    "NOOP": Entry(noop, "any"),
    "LOGOUT": Entry(logout, "any"),
    "ID": Entry(identify, "any", "ID"),
    "STARTTLS": Entry(starttls, "login"),
    "LOGIN": Entry(login, "login"),
    "AUTHENTICATE": Entry(authenticate, "login"),
    "ENABLE": Entry(enable, "auth", "ENABLE"),
    "COMPRESS": Entry(compress, "auth", "COMPRESS=DEFLATE"),
    "NAMESPACE": Entry(namespace, "auth", "NAMESPACE"),
    "IDLE": Entry(idle, "auth", "IDLE"),
    "CHECK": Entry(noop, "selected"),
}
