"""Arguments of the wrong kind."""

from __future__ import annotations

import pytest

from imapipe.models.argument import check_number, check_whole


@pytest.mark.parametrize("value", ["1", None, 1.5, True])
def test_what_is_no_whole_number(value: object) -> None:
    with pytest.raises(TypeError, match=r"^size takes a whole number, not "):
        check_whole("size", value)


@pytest.mark.parametrize("value", ["1", None, False])
def test_what_is_no_number(value: object) -> None:
    with pytest.raises(TypeError, match=r"^seconds takes a number, not "):
        check_number("seconds", value)


def test_what_is_one() -> None:
    check_whole("size", 0)
    check_number("seconds", 0.5)
    check_number("seconds", 3)
