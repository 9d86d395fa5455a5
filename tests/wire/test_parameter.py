"""MIME parameters, with the standard library as the judge where it agrees with the RFC."""

from __future__ import annotations

from email.utils import encode_rfc2231
from urllib.parse import quote

from hypothesis import given
from hypothesis import strategies as st

from imapipe.wire.parameter import decode_parameters

_TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=40)


@given(_TEXT)
def test_an_extended_value_is_read_back(value: str) -> None:
    encoded = encode_rfc2231(value, "utf-8", "en").encode()
    assert decode_parameters([(b"name*", encoded)]) == {"name": value}


@given(_TEXT, st.integers(1, 10))
def test_sections_are_put_together_in_order(value: str, size: int) -> None:
    escaped = quote(value, safe="").encode()
    # A section may end within an escape only where the sender is broken, so cut behind whole ones.
    units = [escaped[at : at + 3] if escaped[at : at + 1] == b"%" else escaped[at : at + 1] for at in _starts(escaped)]
    cut = [b"".join(units[at : at + size]) for at in range(0, len(units), size)]
    pairs = [(b"Name*%d*" % number, piece) for number, piece in enumerate(cut)]
    pairs[0] = (pairs[0][0], b"utf-8''" + pairs[0][1])
    assert decode_parameters(reversed(pairs)) == {"name": value}


def _starts(escaped: bytes) -> list[int]:
    starts, at = [], 0
    while at < len(escaped):
        starts.append(at)
        at += 3 if escaped[at : at + 1] == b"%" else 1
    return starts


@given(st.lists(st.tuples(st.text("ab*01'", max_size=5).map(str.encode), st.binary(max_size=12)), max_size=6))
def test_any_parameters_give_text(pairs: list[tuple[bytes, bytes]]) -> None:
    for name, value in decode_parameters(pairs).items():
        assert name == name.lower().strip()
        value.encode()
