"""The table of errors, row by row."""

from __future__ import annotations

import pytest

from imapipe.errors import (
    AuthenticationFailed,
    CapabilityMissing,
    CheckpointError,
    CommandBad,
    CommandNo,
    CommandTimeout,
    ConnectionFailed,
    ConnectionLost,
    PoolClosed,
    PoolTimeout,
    ProtocolError,
    ResponseTooLarge,
    ServerBye,
    SpoolError,
    Throttled,
    UidValidityChanged,
)
from imapipe.models.batch import Batch, BatchInterrupted, BatchResult
from imapipe.net.transient import OUTAGE, PASSING, PERHAPS_POISONED, PERMANENT, Verdict, is_transient, reason
from imapipe.wire.uid_set import UidSet

FETCH = "UID FETCH"
BATCH = Batch(1, UidSet.parse("1"))


@pytest.mark.parametrize(
    "error",
    [
        ConnectionLost(),
        CommandTimeout(FETCH, timeout_seconds=60),
        ProtocolError("a parenthesis is missing"),
        ServerBye(FETCH, "", "Session expired, please login again."),
        CommandNo(FETCH, "UNAVAILABLE", "UID FETCH Server error"),
        CommandNo(FETCH, "unavailable"),
        CommandNo(FETCH, "SERVERBUG", "Internal error occurred"),
        CommandNo(FETCH, "CORRUPTION"),
        CommandNo(FETCH, "", "FETCH failed"),
    ],
)
def test_what_may_be_the_fault_of_one_message_is_asked_again_and_then_halved(error: Exception) -> None:
    assert is_transient(error) == Verdict(transient=True, bisect=True)


@pytest.mark.parametrize(
    "error",
    [
        PoolTimeout(timeout_seconds=30, max_size=4),
        CommandNo(FETCH, "INUSE"),
        CommandNo(FETCH, "EXPUNGEISSUED"),
        CommandNo(FETCH, "", "Server Unavailable. 15"),
        CommandNo(FETCH, "", "Temporary failure, try again later"),
        CommandBad(FETCH, "", "Server busy"),
    ],
)
def test_what_is_nobodys_fault_is_asked_again_and_not_halved(error: Exception) -> None:
    assert is_transient(error) == Verdict(transient=True)


@pytest.mark.parametrize(
    "error",
    [
        ConnectionFailed("connection refused", host="imap.example.org", port=993),
        # It ended while it was made ready: a proxy that accepts and closes.
        ConnectionLost("the server closed the connection", host="imap.example.org", port=993),
        AuthenticationFailed("LOGIN", "NO", "UNAVAILABLE", "Temporary authentication failure."),
        AuthenticationFailed("AUTHENTICATE", "NO", "UNAVAILABLE", "token() raised HTTPError"),
        ServerBye("LOGIN", "", "Server shutting down"),
        CommandNo("LOGIN", "UNAVAILABLE", "the directory is down"),
        CommandNo("LIST", "UNAVAILABLE"),
        CommandNo("STATUS", "UNAVAILABLE"),
        CommandNo("EXAMINE", "UNAVAILABLE"),
        CommandNo("EXAMINE", "SERVERBUG", "Internal error occurred"),
        CommandNo("EXAMINE", "", "Mailbox is temporarily not available"),
        CommandNo("UID SEARCH", "UNAVAILABLE"),
        CommandNo("SELECT", "", "Server Unavailable. 15"),
        ServerBye("EXAMINE", "UNAVAILABLE", "restarting"),
        CommandTimeout("UID SEARCH", timeout_seconds=60),
    ],
)
def test_before_a_fetch_it_is_the_server_and_no_message(error: Exception) -> None:
    assert is_transient(error) == OUTAGE
    assert is_transient(error, fetching=False) == OUTAGE


@pytest.mark.parametrize(
    "error",
    [
        ConnectionLost(),
        CommandTimeout(FETCH, timeout_seconds=60),
        ServerBye(FETCH, "", "Session expired, please login again."),
        ServerBye(FETCH, "UNAVAILABLE"),
        ServerBye(FETCH, "", "Please try again"),
    ],
)
def test_where_no_byte_came_no_message_is_at_fault(error: Exception) -> None:
    assert is_transient(error, bytes_came=False) == OUTAGE
    assert not is_transient(error).is_outage


def test_a_connection_lost_between_fetches_is_nobodys_fault() -> None:
    assert is_transient(ConnectionLost(), fetching=False) == OUTAGE


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (CommandNo("EXAMINE", "INUSE", "Mailbox is locked"), OUTAGE),
        (CommandNo("EXAMINE", "TEMPFAIL", "SELECT Temporary failure on server [CODE: WBL]"), OUTAGE),
        (CommandNo("EXAMINE", "", "System Error (Failure)"), OUTAGE),
        (CommandNo("UID SEARCH", "", "Internal error occurred. Refer to server log."), OUTAGE),
        (AuthenticationFailed("LOGIN", "NO", "UNAVAILABLE", "Account is temporarily unavailable."), OUTAGE),
        (AuthenticationFailed("LOGIN", "NO", "SERVERBUG", "LOGIN Server error - Please try again later"), OUTAGE),
        (AuthenticationFailed("LOGIN", "NO", "", "System error"), OUTAGE),
        (AuthenticationFailed("LOGIN", "NO", "", "Temporary authentication failure."), OUTAGE),
        (AuthenticationFailed("LOGIN", "NO", "AUTHENTICATIONFAILED", "System error"), PERMANENT),
        (AuthenticationFailed("LOGIN", "NO", "", "Invalid credentials, please try again"), PERMANENT),
        (AuthenticationFailed("LOGIN", "NO", "", "Your account is temporarily locked"), PERMANENT),
        # The server works: the answer was no IMAP.
        (CommandNo("EXAMINE", "CORRUPTION"), PASSING),
        (ProtocolError("a parenthesis is missing"), PASSING),
        # Half of it cannot be asked for.
        (CommandBad("UID SEARCH", "", "Command line too long"), PERMANENT),
        (CommandNo("UID SEARCH", "TOOBIG"), PERMANENT),
        (ResponseTooLarge("a line", size=100, limit=10), PERMANENT),
        # There is no such mailbox, and many servers say so without a code.
        (CommandNo("EXAMINE", "", "Mailbox doesn't exist"), PERMANENT),
        (CommandNo("STATUS", "NONEXISTENT"), PERMANENT),
        (CommandBad("UID SEARCH", "", "Unknown key"), PERMANENT),
        (Throttled("EXAMINE", "NO", "LIMIT", "Rate limit hit."), Verdict(transient=True, wait_at_least=5.0)),
        (Throttled("LOGIN", "NO", "ALERT", "Too many simultaneous connections"), Verdict(True, wait_at_least=5.0)),
        (
            CommandBad("EXAMINE", "", "User is authenticated but not connected."),
            Verdict(transient=True, wait_at_least=10.0, is_outage=True),
        ),
        (ConnectionFailed("the certificate was not accepted", is_permanent=True), PERMANENT),
    ],
)
def test_the_same_words_before_a_fetch(error: Exception, verdict: Verdict) -> None:
    assert is_transient(error, fetching=False) == verdict


def test_words_that_mean_the_server_may_mean_one_message_in_a_fetch() -> None:
    for error in (CommandNo(FETCH, "", "System Error (Failure)"), CommandNo(FETCH, "TEMPFAIL", "Temporary failure")):
        assert is_transient(error) == PERHAPS_POISONED


def test_bad_to_what_the_server_took_before_is_no_fault_of_grammar() -> None:
    error = CommandBad(FETCH, "", "Unknown command")
    assert is_transient(error, taken_before=True) == Verdict(transient=True, bisect=True)
    # Whether it is, one message tells.
    assert is_transient(error) == Verdict(transient=False, probe=True)
    assert is_transient(CommandBad("UID SEARCH", "", "Unknown command"), taken_before=True) == PERMANENT


@pytest.mark.parametrize(
    "error",
    [
        CommandBad(FETCH, "", "Command line too long"),
        CommandBad(FETCH, "TOOBIG"),
        CommandBad(FETCH, "", "Too many arguments"),
        ResponseTooLarge("a line", size=100, limit=10),
    ],
)
def test_what_is_too_much_is_split_at_once(error: Exception) -> None:
    assert is_transient(error) == Verdict(transient=True, bisect=True, split_now=True)


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (Throttled(FETCH, "NO", "", "Request is throttled", retry_after_seconds=12.5), 12.5),
        (Throttled(FETCH, "BAD", "", "Request is throttled", retry_after_seconds=0.0), 0.0),
        (Throttled(FETCH, "NO", "THROTTLED"), 5.0),
        (Throttled(FETCH, "NO", "OVERQUOTA", "Account exceeded command or bandwidth limits."), 60.0),
        (CommandNo(FETCH, "OVERQUOTA"), 60.0),
        (CommandNo(FETCH, "LIMIT", "Rate limit hit."), 5.0),
        (CommandNo(FETCH, "LIMIT 1000"), 5.0),
        (CommandBad(FETCH, "", "User is authenticated but not connected."), 10.0),
    ],
)
def test_what_asks_for_time_gets_it(error: Exception, seconds: float) -> None:
    assert is_transient(error) == Verdict(transient=True, wait_at_least=seconds)


@pytest.mark.parametrize(
    "error",
    [
        AuthenticationFailed("LOGIN", "NO", "AUTHENTICATIONFAILED", "Invalid credentials"),
        AuthenticationFailed("LOGIN", "NO", "", "try again"),
        CommandNo(FETCH, "NONEXISTENT", "Mailbox does not exist"),
        CommandNo(FETCH, "NOPERM", "try again"),
        CommandNo(FETCH, "CONTACTADMIN"),
        CommandNo(FETCH, "CLIENTBUG"),
        CommandBad("UID SEARCH", "", "Unknown command"),
        ServerBye(FETCH, "CONTACTADMIN", "account disabled"),
        UidValidityChanged("INBOX", expected=1, found=2),
        CapabilityMissing("UIDONLY"),
        PoolClosed(),
        SpoolError("No space left on device"),
        CheckpointError("it cannot be written"),
        BatchInterrupted(BATCH, BatchResult(BATCH)),
        # What handlers raise, even where it sounds like a network.
        ValueError("no such day"),
        ConnectionResetError(),
        TimeoutError(),
        OSError(),
    ],
)
def test_what_comes_back_however_often_one_asks_is_permanent(error: Exception) -> None:
    assert is_transient(error) == Verdict(transient=False)


def test_reasons_are_codes_or_class_names() -> None:
    assert reason(CommandNo(FETCH, "UNAVAILABLE")) == "UNAVAILABLE"
    assert reason(CommandNo(FETCH, "overquota 5 minutes")) == "OVERQUOTA"
    assert reason(CommandNo(FETCH)) == "CommandNo"
    # They are kept for each message that failed: a server is not to say how many there are, and how long.
    assert {reason(CommandNo(FETCH, f"X{number} {'y' * 500}")) for number in range(1000)} == {"CommandNo"}
    assert reason(ConnectionLost()) == "ConnectionLost"
