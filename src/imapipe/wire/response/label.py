"""The names under which items come back, compared by what they mean (RFC 9051 §6.4.5, §7.5.2).

Servers spell a label in their own way: another case, the header fields in another order or in quotes, the old names
of RFC 822, a range with its length, or without its origin. `scan_fetch` has taken care of the case and of quotes;
here the rest is compared.

Invariant: a label is only taken for another one when its value holds all that was asked for.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

_OLD_NAMES: Final = {
    "RFC822": "BODY[]",
    "RFC822.HEADER": "BODY[HEADER]",
    "RFC822.TEXT": "BODY[TEXT]",
    # RFC 1730 §6.4.5; Courier and UW-IMAP know it still.
    "BODY[0]": "BODY[HEADER]",
}
_FIELDS: Final = "BODY[HEADER.FIELDS("


def label_meaning(name: str) -> str:
    """One spelling for all labels that mean the same.

    Args:
        name: A label in the canonical form of `scan_fetch`: upper-case, no PEEK, of a range only the origin.
    """
    head, bracket, rest = name.partition("[")
    if not bracket:
        return _OLD_NAMES.get(name, name)
    section, _, origin = rest.rpartition("]")
    section, parenthesis, fields = section.partition("(")
    section = section.replace(" ", "")
    if parenthesis:
        section += "(" + " ".join(sorted(set(fields.rpartition(")")[0].split()))) + ")"
    # Without an origin it is the whole, which begins where `<0>` does.
    meaning = f"{head}[{section}]{'' if origin.strip() == '<0>' else origin.strip()}"
    return _OLD_NAMES.get(meaning, meaning)


def match_labels(asked: Iterable[str], found: Iterable[str]) -> dict[str, str]:
    """Which of the labels that came answers which that was asked for.

    Args:
        asked: Labels that have no answer of exactly their name.
        found: The labels that came.

    Returns:
        What was asked for, as far as it came, to the label it came under.
    """
    meanings: dict[str, str] = {}
    for name in found:
        meanings.setdefault(label_meaning(name), name)
    matched: dict[str, str] = {}
    for name in asked:
        wanted = label_meaning(name)
        came = meanings.get(wanted) or (_with_more_fields(wanted, meanings) if wanted.startswith(_FIELDS) else None)
        if came is not None:
            matched[name] = came
    return matched


def _with_more_fields(wanted: str, meanings: dict[str, str]) -> str | None:
    """The label of a list of header fields with all that were asked for and others (Tuta's bridge)."""
    fields = _fields_of(wanted)
    return next((name for m, name in meanings.items() if m.startswith(_FIELDS) and fields <= _fields_of(m)), None)


def _fields_of(meaning: str) -> set[str]:
    fields, _, origin = meaning.removeprefix(_FIELDS).rpartition(")]")
    # A part of the fields is not a part of fewer fields.
    return set(fields.split()) if not origin else {origin}
