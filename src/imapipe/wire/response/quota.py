"""QUOTA: how much an account may hold, and how much it does (RFC 9208 §4.2.1, production `quota-response`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from imapipe.wire.response.code import MAX_NUMBER64
from imapipe.wire.response.token import MAX_WORDS, Cursor, loose_number

_KIBIBYTE: Final = 1024


class QuotaUse(NamedTuple):
    """One resource of a quota: how much of it is used, and how much may be."""

    usage: int
    limit: int

    @property
    def left(self) -> int:
        """How much is left."""
        return max(0, self.limit - self.usage)


class Quota(NamedTuple):
    """A limit that mailboxes share.

    Attributes:
        root: Its name.
        resources: By name in capitals, in the units of the RFC: STORAGE counts 1,024 bytes, MESSAGE messages.
    """

    root: str
    resources: Mapping[str, QuotaUse]

    @property
    def bytes_left(self) -> int | None:
        """How many bytes there is room for, or None where that is not limited."""
        storage = self.resources.get("STORAGE")
        return storage.left * _KIBIBYTE if storage is not None else None

    @property
    def messages_left(self) -> int | None:
        """How many messages there is room for, or None where that is not limited."""
        messages = self.resources.get("MESSAGE")
        return messages.left if messages is not None else None


def parse_quota(cursor: Cursor) -> Quota:
    """`quota-root-name SP "(" [quota-resource *(SP quota-resource)] ")"`, the cursor standing behind QUOTA.

    Raises:
        ProtocolError: It cannot be read.
    """
    root = cursor.astring()
    cursor.spaces()
    cursor.expect(b"(")
    cursor.spaces()
    resources: dict[str, QuotaUse] = {}
    while not cursor.accept(b")"):
        if len(resources) >= MAX_WORDS:
            raise cursor.error(f"no more than {MAX_WORDS} resources were expected")
        name = cursor.atom().decode("ascii", "replace").upper()
        numbers: list[int] = []
        for _ in range(2):
            cursor.spaces()
            start = cursor.pos
            cursor.skip_value()
            number = loose_number(cursor.text[start : cursor.pos])
            if number is None or not 0 <= number <= MAX_NUMBER64:
                raise cursor.error("a number was expected")
            numbers.append(number)
        resources[name] = QuotaUse(*numbers)
        cursor.spaces()
    return Quota(root.decode("utf-8", "replace"), resources)
