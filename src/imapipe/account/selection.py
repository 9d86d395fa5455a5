r"""Which mailboxes of an account a job is for. Pure.

A word is a name, a pattern of LIST (`*` stands for anything, `%` for anything but the delimiter), or a special use such
as `\Sent` (RFC 6154).

Invariants:

- A mailbox is chosen once, in the place of the first word that it fits; within a word in the order of the server.
- What is excluded by any word is not chosen, whatever names it. Neither is what cannot be opened.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

from imapipe.models.mailbox import MailboxEntry

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


def choose_all_mail(entries: Iterable[MailboxEntry], excluded: Sequence[str] = ()) -> list[MailboxEntry]:
    """Gmail's mailboxes, each message once: All Mail, and those of Spam and Trash; none without All Mail."""
    chosen = choose(entries, ("\\All", *_BESIDE_ALL_MAIL), excluded)
    return chosen if chosen and fits(chosen[0], "\\All") else []


def fits(entry: MailboxEntry, word: str) -> bool:
    """Whether a word speaks of a mailbox."""
    if word.startswith("\\"):
        return word.lower() in {attribute.lower() for attribute in entry.attributes}
    return _pattern(word, entry.delimiter).fullmatch(entry.name) is not None


@lru_cache(maxsize=1024)
def _pattern(word: str, delimiter: str | None) -> re.Pattern[str]:
    if word.upper() == "INBOX":
        return re.compile("INBOX")
    within = f"[^{re.escape(delimiter)}]*" if delimiter else ".*"
    parts = (".*" if part == "*" else within if part == "%" else re.escape(part) for part in re.split(r"([*%])", word))
    # Several stars in a row mean what one does, and would be tried in every combination.
    return re.compile(re.sub(r"(?:\.\*){2,}", ".*", "".join(parts)), re.DOTALL)


def check_words(name: str, words: Iterable[str]) -> tuple[str, ...]:
    """Words as a tuple. Raises TypeError, ValueError."""
    if isinstance(words, str):
        raise TypeError(f"{name} takes a list of names, not one text")
    checked = tuple(words)
    for word in checked:
        if not isinstance(word, str):
            raise TypeError(f"{name} takes names, patterns and special uses of mailboxes, not {word!r}")
        if not word or any(character in word for character in "\r\n\0"):
            raise ValueError(f"{word!r} cannot be the name of a mailbox")
    return checked
