r"""Which mailboxes are meant by names, patterns and special uses."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzz.growth import superlinear
from imapipe.account.selection import check_words, choose, choose_all_mail, fits, unknown_names
from imapipe.models.mailbox import MailboxEntry


def _entry(name: str, *attributes: str, delimiter: str | None = "/") -> MailboxEntry:
    return MailboxEntry(name, delimiter, frozenset(attributes))


ENTRIES = [
    _entry("INBOX"),
    _entry("Trash", "\\Trash"),
    _entry("Sent", "\\Sent"),
    _entry("Lists", "\\Noselect"),
    _entry("Lists/python"),
    _entry("Lists/python/dev"),
    _entry("a+b"),
    _entry("Junk", "\\JUNK"),
]


def _names(wanted: tuple[str, ...], excluded: tuple[str, ...] = ()) -> list[str]:
    return [entry.name for entry in choose(ENTRIES, wanted, excluded)]


def test_everything_but_what_cannot_be_opened() -> None:
    assert _names(("*",)) == ["INBOX", "Trash", "Sent", "Lists/python", "Lists/python/dev", "a+b", "Junk"]


def test_the_order_is_that_of_the_words_and_each_is_there_once() -> None:
    assert _names(("\\Sent", "Lists/*", "inbox", "*"))[:5] == [
        "Sent",
        "Lists/python",
        "Lists/python/dev",
        "INBOX",
        "Trash",
    ]
    assert len(_names(("*", "*"))) == 7


def test_percent_stays_within_a_level() -> None:
    assert _names(("Lists/%",)) == ["Lists/python"]
    assert _names(("%",)) == ["INBOX", "Trash", "Sent", "a+b", "Junk"]


def test_what_is_excluded_is_not_chosen_by_any_name() -> None:
    assert _names(("*", "Trash"), ("Trash", "\\junk", "Lists/*")) == ["INBOX", "Sent", "a+b"]


def test_a_wildcard_in_a_name_is_written_in_brackets() -> None:
    odd = [_entry(name) for name in ("50%", "500", "*", "x", "[*]", "[Gmail]/All")]

    def names(*words: str) -> list[str]:
        return [entry.name for entry in choose(odd, words)]

    assert names("50%") == ["50%", "500"]
    assert (names("50[%]"), names("[*]"), names("[[*]]")) == (["50%"], ["*"], ["[*]"])
    assert names("[Gmail]/*") == ["[Gmail]/All"]
    assert [entry.name for entry in choose(odd, ("*",), ("[*]", "50[%]"))] == ["500", "x", "[*]", "[Gmail]/All"]
    assert all(names(entry.word) == [entry.name] for entry in odd)
    # It names one mailbox, which must be there.
    assert unknown_names(odd, ("50[%]", "60[%]", "60%")) == ["60[%]"]


def test_a_name_is_no_regular_expression() -> None:
    assert _names(("a+b",)) == ["a+b"]
    assert _names(("a.b",)) == []
    assert _names(("a" + "*" * 300 + "b",)) == ["a+b"]


@given(st.text("ab/*%[]", max_size=8), st.text("ab/%*[]", max_size=10), st.sampled_from(["/", None]))
def test_patterns_are_those_of_list(word: str, name: str, delimiter: str | None) -> None:
    parts = {"*": ".*", "%": "[^/]*" if delimiter else ".*", "[*]": "[*]", "[%]": "[%]"}
    tokens = re.split(r"(\[[*%]\]|[*%])", word)
    oracle = re.compile("".join(parts.get(token, re.escape(token)) for token in tokens), re.DOTALL)
    assert fits(_entry(name, delimiter=delimiter), word) is (oracle.fullmatch(name) is not None)


@pytest.mark.no_cover
@pytest.mark.parametrize("word", ["*a*a*a*b", "%a%a%a%b", "*%*%x", "a*"])
def test_the_time_for_a_long_name_is_linear(word: str) -> None:
    """The name is the server's."""

    def entry(size: int) -> MailboxEntry:
        return _entry("a" * size)

    assert superlinear(lambda made: fits(made, word), entry, (4, 32, 256, 2048)) is None


def test_flat_names_have_no_levels() -> None:
    flat = [_entry("x/y", delimiter=None)]
    assert choose(flat, ("%",)) == flat


def test_all_mail_with_what_it_does_not_hold() -> None:
    gmail = [
        _entry("INBOX"),
        _entry("[Gmail]", "\\Noselect"),
        _entry("[Gmail]/Spam", "\\Junk"),
        _entry("[Gmail]/All Mail", "\\All"),
        _entry("[Gmail]/Trash", "\\Trash"),
        _entry("Label"),
    ]
    assert [e.name for e in choose_all_mail(gmail)] == ["[Gmail]/All Mail", "[Gmail]/Spam", "[Gmail]/Trash"]
    assert [e.name for e in choose_all_mail(gmail, ("\\Junk",))] == ["[Gmail]/All Mail", "[Gmail]/Trash"]
    assert choose_all_mail(ENTRIES) == []
    assert choose_all_mail(gmail, ("\\All",)) == []


@pytest.mark.parametrize("words", ["INBOX", ["a\r\nb"], [""], [3]])
def test_words_that_are_none_are_refused(words: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        check_words("each()", words)  # type: ignore[arg-type]


def test_a_name_that_no_mailbox_has_is_known_as_such() -> None:
    words = ["inbox", "Lists", "Lists/%", "\\Flagged", "a+b", "Typo", "Typo"]
    assert unknown_names(ENTRIES, words) == ["Lists", "Typo"]
