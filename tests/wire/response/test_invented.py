"""What may have been made up for a message that is gone, and what is a message."""

from __future__ import annotations

import pytest

from imapipe.wire.response.invented import UNAVAILABLE_BYTES, may_be_invented
from imapipe.wire.response.shape import compile_shape

COURIER = (
    b"From: System Administrator <root@localhost>\r\nSubject: message unavailable\r\n\r\n"
    b"This message is no longer available on the server.\r\n"
)
OTHER = b"Subject: other\r\n\r\n".ljust(UNAVAILABLE_BYTES, b".")
BODY = b"{129}\r\n"


def test_couriers_text_has_the_size_it_is_known_by() -> None:
    assert len(COURIER) == UNAVAILABLE_BYTES


@pytest.mark.parametrize(
    ("items", "literals", "size", "expected"),
    [
        ({"RFC822.SIZE": b"129", "BODY[]": BODY}, (COURIER,), 200, True),
        ({"RFC822.SIZE": b"129", "BODY[]": BODY}, (OTHER,), 200, False),
        ({"RFC822.SIZE": b"129"}, (), 50, True),
        ({"RFC822.SIZE": b"129", "BODY[HEADER]": b"{77}\r\n"}, (COURIER[:77],), 150, True),
        ({"RFC822.SIZE": b"129", "ENVELOPE": b'(NIL "message unavailable" NIL NIL)'}, (), 150, True),
        ({"RFC822.SIZE": b"129", "ENVELOPE": b'(NIL "lunch?" NIL NIL)'}, (), 150, False),
        ({"RFC822.SIZE": b"0", "ENVELOPE": b"(NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL)"}, (), 150, True),
        ({"RFC822.SIZE": b"0", "BODY[]": b"{9000}\r\n"}, (b"x" * 9000,), 9100, False),
        ({"RFC822.SIZE": b"4711", "BODY[]": BODY}, (COURIER,), 200, False),
        ({"BODY[TEXT]": b"{52}\r\n"}, (COURIER[77:],), 150, True),
        ({"FLAGS": b"()"}, (), 50, False),
    ],
)
def test_what_is_looked_for_again(
    items: dict[str, bytes], literals: tuple[bytes, ...], size: int, expected: bool
) -> None:
    assert may_be_invented(items, literals, size) is expected


@pytest.mark.parametrize("order", [("UID", "RFC822.SIZE"), ("RFC822.SIZE", "UID")])
def test_a_shape_fits_every_size_but_those_that_are_invented(order: tuple[str, ...]) -> None:
    shape = compile_shape(order)
    assert shape is not None
    for size in (*range(2000), 10**17):
        values = {"UID": b"UID 7", "RFC822.SIZE": b"RFC822.SIZE %d" % size}
        match = shape.match(b"* 1 FETCH (" + b" ".join(values[name] for name in order) + b")")
        assert (match is None) == (size in (0, UNAVAILABLE_BYTES))
        if match is not None:
            assert int(match[shape.groups["RFC822.SIZE"]]) == size
