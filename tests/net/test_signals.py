"""What a refusal means, in the words of the servers that send it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from imapipe.errors import CommandBad, CommandError, CommandNo, ConnectionLost, ServerBye, Throttled
from imapipe.net.signals import as_error_of, code_words, is_one_too_many, is_throttle_text, over_quota, to_error
from imapipe.net.transient import is_transient
from imapipe.wire.response.response import Tagged, parse_response


def error(line: bytes) -> CommandError:
    tagged = parse_response(b"A1 " + line)
    assert isinstance(tagged, Tagged)
    return to_error("UID FETCH", tagged)


@pytest.mark.parametrize(
    ("line", "kind", "refusal", "wait"),
    [
        (b"NO [ALERT] Too many simultaneous connections. (Failure)", Throttled, True, None),
        (b"NO [OVERQUOTA] Account exceeded command or bandwidth limits.", Throttled, True, None),
        (b"BAD Request is throttled. Suggested Backoff Time: 299961 milliseconds", Throttled, True, 299.961),
        (b"BAD Request is throttled. Suggested Backoff Time: 999999999 milliseconds", Throttled, True, 3600.0),
        (b"NO Server Unavailable. 15", Throttled, True, None),
        (b"NO [LIMIT] UID FETCH Rate limit hit.", Throttled, True, None),
        (
            b"NO [UNAVAILABLE] Maximum number of connections from user+IP exceeded (mail_max_userip_connections=10)",
            Throttled,
            True,
            None,
        ),
        (b"NO [UNAVAILABLE] Temporary authentication failure.", CommandNo, True, None),
        (b"NO [INUSE] somebody else", CommandNo, True, None),
        (b"NO [AUTHENTICATIONFAILED] Invalid credentials (Failure)", CommandNo, False, None),
        (b"NO [SERVERBUG] UID FETCH Server error", CommandNo, False, None),
        (b"BAD User is authenticated but not connected.", CommandBad, False, None),
        (b"BAD", CommandBad, False, None),
    ],
)
def test_replies(line: bytes, kind: type[CommandError], refusal: bool, wait: float | None) -> None:
    found = error(line)
    assert type(found) is kind
    assert is_one_too_many(found) is refusal
    if isinstance(found, Throttled):
        assert found.retry_after_seconds == wait


@pytest.mark.parametrize(
    ("line", "seconds"),
    [
        (b"NO [OVERQUOTA] Account exceeded command or bandwidth limits. (Failure)", 86_400),
        (b"BAD Request is throttled. Suggested Backoff Time: 299961 milliseconds", 299.961),
        # Of a server that nobody knows, nobody knows how long it counts; and a rate is not a quota.
        (b"NO [OVERQUOTA] You have had enough", None),
        (b"NO [LIMIT] Account exceeded command or bandwidth limits.", None),
    ],
)
def test_when_the_server_serves_again(line: bytes, seconds: float | None) -> None:
    before = datetime.now(UTC)
    found = error(line)
    assert isinstance(found, Throttled)
    assert found.is_quota is (b"OVERQUOTA" in line)
    if seconds is None:
        assert found.retry_at is None
        return
    assert found.retry_at is not None
    assert before <= found.retry_at - timedelta(seconds=seconds) <= datetime.now(UTC)
    assert f"{found.retry_at:%Y-%m-%d %H:%M} UTC" in over_quota(found)


@pytest.mark.parametrize(
    ("command", "line", "kind"),
    [
        ("APPEND", b"NO [OVERQUOTA] Quota exceeded (mailbox for user is full)", CommandNo),
        ("UID MOVE", b"NO [overquota] Quota exceeded", CommandNo),
        ("UID COPY", b"NO [OVERQUOTA] Account exceeded command or bandwidth limits.", Throttled),
        ("UID STORE", b"NO [OVERQUOTA] Quota exceeded", Throttled),
    ],
)
def test_a_full_account_is_no_throttle_where_messages_are_stored(
    command: str, line: bytes, kind: type[CommandError]
) -> None:
    tagged = parse_response(b"A1 " + line)
    assert isinstance(tagged, Tagged)
    found = to_error(command, tagged)
    assert type(found) is kind
    assert is_transient(found, fetching=False).transient is (kind is Throttled)


def test_a_throttle_can_hide_in_the_text_of_an_ok() -> None:
    """Gmail puts it into the text, not into the response code."""
    assert is_throttle_text("Success [THROTTLED]")
    assert not is_throttle_text("Success")


def test_code_words() -> None:
    tagged = parse_response(b"A1 NO [MESSAGELIMIT 1000 23221] x")
    assert isinstance(tagged, Tagged)
    assert code_words(tagged.code) == "MESSAGELIMIT 1000 23221"
    assert code_words(None) == ""


def test_the_end_of_a_connection_as_a_command_sees_it() -> None:
    bye = as_error_of("NOOP", ServerBye("connection", "X", "gone"))
    assert isinstance(bye, ServerBye)
    assert (bye.command, bye.code, bye.text) == ("NOOP", "X", "gone")
    lost = ConnectionLost("x")
    assert as_error_of("NOOP", lost) is lost
    defect = ZeroDivisionError()
    wrapped = as_error_of("NOOP", defect)
    assert isinstance(wrapped, ConnectionLost)
    assert wrapped.__cause__ is defect
