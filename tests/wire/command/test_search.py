"""Putting the answers to a search together."""

from __future__ import annotations

import pytest

from fuzz.growth import superlinear
from imapipe.errors import ProtocolError
from imapipe.wire.command.search import read_search
from imapipe.wire.response.response import Response, Tagged, parse_response
from imapipe.wire.uid_set import UidSet

DONE = Tagged("a", "OK", None, "")


def test_an_answer_of_many_lines_is_one_answer() -> None:
    lines = [
        b"* SEARCH 5 9",
        b"* SEARCH",
        b"* 3 EXISTS",
        b"* SEARCH 1 5 (MODSEQ 7)",
        b'* ESEARCH (TAG "a") UID ALL 20:22',
    ]
    answer = read_search([parse_response(line) for line in lines], DONE)
    assert answer.uids == UidSet.parse("1,5,9,20:22")
    assert answer.modseq == 7


@pytest.mark.no_cover
@pytest.mark.parametrize("step", [1, -1, 2, -2])
def test_the_time_for_many_lines_is_linear(step: int) -> None:
    """Each was joined to those before it."""

    def lines(count: int) -> list[Response]:
        uids = range(1, count + 1)[::step]
        return [parse_response(b"* SEARCH %d" % uid) for uid in uids]

    assert superlinear(lambda responses: read_search(responses, DONE), lines, (64, 512, 4096, 32_768)) is None


@pytest.mark.parametrize(
    "line",
    [
        b'* ESEARCH (TAG "a") UID COUNT 10 ALL 1:4294967295',
        b'* ESEARCH (TAG "a") UID PARTIAL (1:10 1:4294967295)',
        b'* ESEARCH (TAG "a") UID PARTIAL (-1:-10 1:11)',
        b'* ESEARCH (TAG "a") UID PARTIAL (5:5 7,9)',
    ],
)
def test_an_answer_with_more_messages_than_it_says_is_not_believed(line: bytes) -> None:
    with pytest.raises(ProtocolError):
        parse_response(line)


def test_a_whole_window_is_believed() -> None:
    found = parse_response(b'* ESEARCH (TAG "a") UID PARTIAL (-1:-10 1:10)')
    assert read_search([found], DONE).uids == UidSet.parse("1:10")
