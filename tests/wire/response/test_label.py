"""Labels are compared by what they mean; what they do with whole answers is in `net/test_tolerance`."""

from __future__ import annotations

import pytest

from imapipe.wire.response.label import label_meaning, match_labels


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("RFC822", "BODY[]"),
        ("RFC822.HEADER", "BODY[HEADER]"),
        ("RFC822.TEXT", "BODY[ TEXT ]"),
        ("BODY[0]", "BODY[HEADER]"),
        ("BODY[]<0>", "BODY[]"),
        ("BODY[HEADER.FIELDS (B A)]", "BODY[HEADER.FIELDS(A B A)]"),
        ("BODY[HEADER.FIELDS.NOT (B A)]<5>", "BODY[HEADER.FIELDS.NOT (A B)]<5>"),
        ("ENVELOPE", "ENVELOPE"),
    ],
)
def test_the_same(first: str, second: str) -> None:
    assert label_meaning(first) == label_meaning(second)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("RFC822.SIZE", "RFC822"),
        ("BODY[1]", "BINARY[1]"),
        ("BODY[]<5>", "BODY[]"),
        ("BODY[HEADER.FIELDS (A)]", "BODY[HEADER.FIELDS.NOT (A)]"),
        ("BODY[HEADER.FIELDS (A)]", "BODY[HEADER.FIELDS (A B)]"),
        ("BODY", "BODY[]"),
        ("BODYSTRUCTURE", "BODY"),
    ],
)
def test_not_the_same(first: str, second: str) -> None:
    assert label_meaning(first) != label_meaning(second)


def test_more_fields_than_were_asked_for_hold_them_too() -> None:
    assert match_labels(["BODY[HEADER.FIELDS (A B)]"], ["X", "BODY[HEADER.FIELDS (C B A)]"]) == {
        "BODY[HEADER.FIELDS (A B)]": "BODY[HEADER.FIELDS (C B A)]"
    }
    for other in ("BODY[HEADER.FIELDS (A C)]", "BODY[HEADER.FIELDS (A B C)]<0>x", "BODY[HEADER.FIELDS (A B C)]<9>"):
        assert match_labels(["BODY[HEADER.FIELDS (A B)]"], [other]) == {}
