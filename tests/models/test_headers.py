"""Header fields by name."""

from __future__ import annotations

import pytest

from imapipe.models.headers import Headers

RAW = (
    b"From ann@example.org Mon Jan  1 10:00:00 2024\r\n"
    b"Received: from a\r\n\tby b; Mon\r\n"
    b"received: second\r\n"
    b"Subject : =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n =?utf-8?q?_und_mehr?=\r\n"
    b"Not a field: at all\r\n"
    b"X-Empty:\r\n"
    b"X-Raw: Gr\xc3\xbc\xc3\x9fe\r\n"
    b"X-CR: a\rb\r\n"
    b"From: =?utf-8?q?M=C3=BCller=2C_Ann?= <ann@example.org>, b@example.org\r\n"
    b"Last: no line end"
)


def test_fields() -> None:
    headers = Headers(RAW)
    assert list(headers) == ["received", "subject", "x-empty", "x-raw", "x-cr", "from", "last"]
    assert len(headers) == 7
    assert headers["SUBJECT"] == "Grüße und mehr"
    assert headers["Received"] == "from a\tby b; Mon"
    assert headers.get_all("received") == ["from a\tby b; Mon", "second"]
    assert headers.get_all("none") == []
    assert headers["x-empty"] == ""
    assert headers["x-raw"] == "Grüße"
    assert "X-CR" in headers
    assert headers["Last"] == "no line end"
    assert "not" not in headers
    assert "a field" not in headers
    assert 3 not in headers  # type: ignore[comparison-overlap]
    assert headers.get("missing", "default") == "default"
    with pytest.raises(KeyError):
        _ = headers["missing"]
    assert headers.raw == RAW
    assert "subject" in repr(headers)


@pytest.mark.parametrize(
    ("value", "name", "email"),
    [
        (b"ann@example.org", "", "ann@example.org"),
        (b"Ann <ann@example.org>", "Ann", "ann@example.org"),
        (b'"M, Ann" <ann@example.org>, b@example.org', "M, Ann", "ann@example.org"),
        (b"Smith, John <john@example.org>", "Smith, John", "john@example.org"),
        (b"Ann [x] <ann@example.org>", "Ann [x]", "ann@example.org"),
        ("Müller <m@example.org>".encode("latin-1"), "Müller", "m@example.org"),
        (b"=?utf-8?q?M=C3=BCller=2C_Ann?=\r\n <ann@example.org>", "Müller, Ann", "ann@example.org"),
    ],
)
def test_address(value: bytes, name: str, email: str) -> None:
    address = Headers(b"From: " + value + b"\r\n").address("from")
    assert address is not None
    assert (address.name, address.email) == (name, email)


def test_addresses() -> None:
    headers = Headers(b"To: Ann <ann@example.org>, b: c@example.org;\r\nX: y\r\nto: d@example.org\r\n")
    assert [address.email for address in headers.addresses("TO")] == [
        "ann@example.org",
        "c@example.org",
        "d@example.org",
    ]
    assert headers.addresses("cc") == ()
    assert headers.get_raw("x") == b"y"
    assert headers.get_raw("z") == b""


def test_no_address() -> None:
    assert Headers(b"From: undisclosed-recipients:;\r\n").address("from") is None
    assert Headers(b"").address("from") is None
    assert len(Headers(b"")) == 0


def test_a_long_header_takes_linear_time() -> None:
    """Counted by what a regular expression must not do: go back over a long fold again and again."""
    raw = b"X: " + b"a\r\n " * 200_000 + b"\r\n" + b"no colon here " * 100_000
    assert list(Headers(raw)) == ["x"]
