"""QUOTA responses."""

from __future__ import annotations

import pytest

from imapipe.errors import ProtocolError
from imapipe.wire.response.quota import Quota, QuotaUse
from imapipe.wire.response.response import parse_response
from imapipe.wire.response.token import MAX_WORDS


@pytest.mark.parametrize(
    ("text", "expected", "left"),
    [
        (
            b'* QUOTA "User quota" (STORAGE 10 512 MESSAGE 7 5)',
            Quota("User quota", {"STORAGE": QuotaUse(10, 512), "MESSAGE": QuotaUse(7, 5)}),
            (502 * 1024, 0),
        ),
        (b'* quota "" ()', Quota("", {}), (None, None)),
        (b"* QUOTA root ( storage  1 2 )", Quota("root", {"STORAGE": QuotaUse(1, 2)}), (1024, None)),
    ],
)
def test_what_is_used_and_what_is_left(text: bytes, expected: Quota, left: tuple[int | None, int | None]) -> None:
    found = parse_response(text)
    assert found == expected
    assert isinstance(found, Quota)
    assert (found.bytes_left, found.messages_left) == left


@pytest.mark.parametrize(
    "text",
    [
        b"* QUOTA",
        b'* QUOTA ""',
        b'* QUOTA "" (STORAGE)',
        b'* QUOTA "" (STORAGE 1',
        b'* QUOTA "" (STORAGE x 1)',
        b'* QUOTA "" (STORAGE 1 99999999999999999999999)',
        b'* QUOTA "" (' + b" ".join(b"A%d 1 1" % number for number in range(MAX_WORDS + 1)) + b")",
    ],
)
def test_what_is_none(text: bytes) -> None:
    with pytest.raises(ProtocolError):
        parse_response(text)
