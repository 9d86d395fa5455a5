r"""Which mailboxes of an account a job is for. Pure.

A word is a name, a pattern of LIST (`*` stands for anything, `%` for anything but the delimiter), or a special use such
as `\Sent` (RFC 6154). `[*]` and `[%]` stand for these characters themselves (`MailboxEntry.word`). LIST has nothing for
that, and a backslash would not do, because some servers separate levels by it.

Invariants:

- A mailbox is chosen once, in the place of the first word that it fits; within a word in the order of the server.
- What is excluded by any word is not chosen, whatever names it. Neither is what cannot be opened.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from imapipe.models.mailbox import MailboxEntry
from imapipe.wire.mailbox_name import can_be_mailbox_name

_TOKEN: Final = re.compile(r"\[[*%]\]|.", re.DOTALL)
_WILDCARDS: Final = frozenset("*%")

# Of Gmail's mailboxes these alone hold messages that All Mail does not.
_BESIDE_ALL_MAIL = ("\\junk", "\\trash")


def choose(entries: Iterable[MailboxEntry], wanted: Sequence[str], excluded: Sequence[str] = ()) -> list[MailboxEntry]:
    """The mailboxes that are wanted and not excluded.

    Args:
        entries: What LIST gave.
        wanted: Words; in their order.
        excluded: Words.
    """
    left = [entry for entry in entries if entry.is_selectable and not any(fits(entry, word) for word in excluded)]
    chosen: dict[str, MailboxEntry] = {}
    for word in wanted:
        for entry in left:
            if fits(entry, word):
                chosen.setdefault(entry.name, entry)
    return list(chosen.values())


def unknown_names(entries: Iterable[MailboxEntry], wanted: Sequence[str]) -> list[str]:
    """The words that name one mailbox, which the account does not have. A pattern or a use may fit nothing."""
    there = [entry for entry in entries if entry.is_selectable]
    names = [
        word
        for word in dict.fromkeys(wanted)
        if not word.startswith("\\") and _WILDCARDS.isdisjoint(_TOKEN.findall(word))
    ]
    return [name for name in names if not any(fits(entry, name) for entry in there)]


def choose_all_mail(entries: Iterable[MailboxEntry], excluded: Sequence[str] = ()) -> list[MailboxEntry]:
    """Gmail's mailboxes, each message once: All Mail, and those of Spam and Trash; none without All Mail."""
    chosen = choose(entries, ("\\All", *_BESIDE_ALL_MAIL), excluded)
    return chosen if chosen and fits(chosen[0], "\\All") else []


def fits(entry: MailboxEntry, word: str) -> bool:
    """Whether a word speaks of a mailbox."""
    if word.startswith("\\"):
        return word.lower() in {attribute.lower() for attribute in entry.attributes}
    return _matches(word, entry.name, entry.delimiter)


def _matches(pattern: str, name: str, delimiter: str | None) -> bool:
    """Whether a pattern of LIST matches a name (RFC 9051 §6.3.9).

    All ways of reading the pattern are followed at once, so that the time is in proportion to the name, which a server
    may make as long as it likes: an expression with several stars would try them in every combination.
    """
    if pattern.upper() == "INBOX":
        return name == "INBOX"
    tokens = _TOKEN.findall(pattern)
    characters = [token if len(token) == 1 else token[1] for token in tokens]
    reached = _with_wildcards(tokens, {0})
    for character in name:
        spanning = "*" if character == delimiter else _WILDCARDS
        stays = {at for at in reached if at < len(tokens) and tokens[at] in spanning}
        goes_on = {at + 1 for at in reached if at < len(tokens) and characters[at] == character}
        reached = _with_wildcards(tokens, stays | goes_on)
    return len(tokens) in reached


def _with_wildcards(tokens: Sequence[str], reached: set[int]) -> set[int]:
    """The places in a pattern that are reached when a wildcard stands for nothing."""
    found = set(reached)
    for at in reached:
        while at < len(tokens) and tokens[at] in _WILDCARDS:
            at += 1  # noqa: PLW2901
            found.add(at)
    return found


def check_words(name: str, words: Iterable[str]) -> tuple[str, ...]:
    """Words as a tuple. Raises TypeError, ValueError."""
    if isinstance(words, str):
        raise TypeError(f"{name} takes a list of names, not one text")
    checked = tuple(words)
    for word in checked:
        if not isinstance(word, str):
            raise TypeError(f"{name} takes names, patterns and special uses of mailboxes, not {word!r}")
        if not can_be_mailbox_name(word):
            raise ValueError(f"{word!r} cannot be the name of a mailbox")
    return checked
