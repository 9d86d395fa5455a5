"""What connections find out about their server: the length of commands."""

from __future__ import annotations

import pytest

from imapipe.errors import CommandBad, CommandNo, CommandTimeout, ConnectionLost, ImapipeError, ServerBye, Throttled
from imapipe.net.learned import Learned
from imapipe.wire.command.encoder import MAX_COMMAND_BYTES

BAD = CommandBad("UID FETCH", "", "what?")
GONE = ConnectionLost()


def test_a_command_that_is_refused_makes_the_next_ones_shorter() -> None:
    learned = Learned()
    assert learned.room(7900) == 7900
    assert learned.is_too_long(7950, BAD)
    assert learned.room(7900) + (MAX_COMMAND_BYTES - 7900) == learned.max_command_bytes == 990
    assert learned.is_too_long(980, BAD)
    assert learned.max_command_bytes == 490
    # Of those that were on their way before it was known.
    assert learned.is_too_long(7950, BAD)
    assert learned.max_command_bytes == 490


def test_there_is_always_room_for_some() -> None:
    learned = Learned()
    learned.is_too_long(500, BAD)
    assert learned.room(1000) == 100


@pytest.mark.parametrize("error", [BAD, GONE, ServerBye("UID FETCH"), CommandTimeout("UID FETCH", timeout_seconds=1)])
def test_what_was_taken_before_is_not_too_long(error: ImapipeError) -> None:
    learned = Learned()
    learned.taken(5000)
    assert not learned.is_too_long(5000, error)
    assert learned.max_command_bytes == MAX_COMMAND_BYTES
    assert learned.is_too_long(5001, error)


@pytest.mark.parametrize(
    ("error", "too_long"),
    [
        (CommandNo("UID FETCH", "", "no"), False),
        (CommandNo("UID FETCH", "UNAVAILABLE", "later"), False),
        (CommandNo("UID FETCH", "TOOBIG", "no"), True),
        (CommandNo("UID FETCH", "", "Command line too large"), True),
        (CommandBad("UID FETCH", "", "Error in IMAP command received by server."), True),
        (Throttled("UID FETCH", "BAD", "", "Request is throttled."), False),
    ],
)
def test_what_may_be_said_of_a_length(error: ImapipeError, too_long: bool) -> None:
    assert Learned().is_too_long(3000, error) is too_long


def test_where_short_ones_are_refused_too_it_was_not_the_length() -> None:
    learned = Learned()
    for line_bytes in (7950, 980):
        assert learned.is_too_long(line_bytes, BAD)
    assert not learned.is_too_long(480, BAD)
    assert learned.max_command_bytes == MAX_COMMAND_BYTES


def test_where_short_ones_were_taken_it_was_the_length() -> None:
    learned = Learned()
    learned.is_too_long(7950, BAD)
    learned.taken(20)
    learned.taken(900)
    assert not learned.is_too_long(400, BAD)
    assert learned.max_command_bytes == 990
