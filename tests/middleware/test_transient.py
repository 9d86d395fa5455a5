"""The table of errors, row by row."""

from __future__ import annotations

import pytest
from tests.middleware.fakes import uids

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
from imapipe.middleware.transient import Verdict, is_transient, reason
from imapipe.models.batch import Batch, BatchInterrupted, BatchResult

FETCH = "UID FETCH"
BATCH = Batch(1, uids("1"))


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
        ConnectionFailed("connection refused", host="imap.example.org", port=993),
        PoolTimeout(timeout_seconds=30, max_size=4),
        CommandNo(FETCH, "INUSE"),
        CommandNo(FETCH, "EXPUNGEISSUED"),
        CommandNo(FETCH, "", "Server Unavailable. 15"),
        CommandNo(FETCH, "", "Temporary failure, try again later"),
        CommandBad(FETCH, "", "Server busy"),
        AuthenticationFailed("LOGIN", "NO", "UNAVAILABLE", "Temporary authentication failure."),
    ],
)
def test_what_is_nobodys_fault_is_asked_again_and_not_halved(error: Exception) -> None:
    assert is_transient(error) == Verdict(transient=True)


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
        CommandBad(FETCH, "", "Unknown command"),
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
    assert reason(CommandNo(FETCH)) == "CommandNo"
    assert reason(ConnectionLost()) == "ConnectionLost"
