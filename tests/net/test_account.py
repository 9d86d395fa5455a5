"""URLs of accounts."""

from __future__ import annotations

import pytest

from imapipe.errors import InvalidURL
from imapipe.net.account import Account, parse_url


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("imaps://ann@imap.example.org", Account(True, "ann", "imap.example.org", 993)),
        ("imap://ann@imap.example.org", Account(False, "ann", "imap.example.org", 143)),
        ("IMAPS://ann@example.org@imap.example.org:1993/", Account(True, "ann@example.org", "imap.example.org", 1993)),
        ("imaps://ann%40example.org@imap.example.org", Account(True, "ann@example.org", "imap.example.org", 993)),
        ("imaps://a%3Ab%2Fc%3F@h", Account(True, "a:b/c?", "h", 993)),
        ("imap://ann@[::1]:1143", Account(False, "ann", "::1", 1143)),
        ("imap://ann@[::1]", Account(False, "ann", "::1", 143)),
        ("imaps://imap.example.org", Account(True, "", "imap.example.org", 993)),
        ("imaps://ann@bücher.example.", Account(True, "ann", "bücher.example.", 993)),
        ("imaps://ann@" + "x" * 63, Account(True, "ann", "x" * 63, 993)),
    ],
)
def test_urls(url: str, expected: Account) -> None:
    assert parse_url(url) == expected


def test_what_is_given_apart_wins_as_it_is() -> None:
    account = parse_url("imaps://ann@one.example.org:99", user="b%40b", host="two.example.org")
    assert account == Account(True, "b%40b", "two.example.org", 99)
    assert account.key == "b%40b@two.example.org:99"
    assert parse_url("imaps://", user="ann", host="h") == Account(True, "ann", "h", 993)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("imap.example.org", "must begin with imaps:// or imap://"),
        ("pop3://ann@h", "must begin with imaps:// or imap://"),
        ("imaps://ann:secret@h", "holds a password"),
        ("imaps://ann@h/INBOX", "name the mailbox on its own"),
        ("imaps://ann@h?x", "must end after the host"),
        ("imaps://ann@", "names no host"),
        ("imaps://ann@h:port", "is not a port"),
        ("imaps://ann@h:0", "is not a port"),
        ("imaps://ann@h:65536", "is not a port"),
        ("imaps://ann@h:９９", "is not a port"),
        ("imaps://ann@h:" + "9" * 5000, "is not a port"),
        ("imaps://ann@mail..example.org", "no name on the net"),
        ("imaps://ann@.example.org", "no name on the net"),
        ("imaps://ann@" + "x" * 64 + ".org", "no name on the net"),
        ("imaps://ann@" + "abc." * 64, "no name on the net"),
        ("imaps://ann@" + "ü" * 60 + ".org", "no name on the net"),
        ("imaps://ann@h\udcff", "half a surrogate pair"),
        ("imaps://\udcff@h", "half a surrogate pair"),
        ("imaps://ann@[::1", "no closing bracket"),
        ("imaps://ann@[::1]x", "only :port may follow"),
        ("imaps://ann@a%20b", "holds a space"),
        ("imaps://a%0Ab@h", "holds a line end or NUL"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_sentence(url: str, words: str) -> None:
    with pytest.raises(InvalidURL, match=words) as caught:
        parse_url(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("host", "expected"), [("localhost", True), ("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("h", False)]
)
def test_loopback(host: str, expected: bool) -> None:
    assert Account(False, "ann", host, 143).is_loopback is expected
