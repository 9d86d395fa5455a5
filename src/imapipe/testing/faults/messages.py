"""Faults of single messages in a FETCH."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

from .base import Fault

PartialLie = Literal["shifted", "relabelled", "longer", "whole", "unlabelled"]


@dataclass(eq=False)
class OmitUids(Fault):
    """Leave these UIDs out of the FETCH; the reply is OK all the same (seen at Exchange)."""

    uids: Collection[int]


@dataclass(eq=False)
class NilBodies(Fault):
    """Answer NIL for every body section of these UIDs."""

    uids: Collection[int]


@dataclass(eq=False)
class LieAboutLength(Fault):
    """Announce literals of these UIDs as ``by`` bytes longer (or shorter) than they are."""

    uids: Collection[int]
    by: int = 10


@dataclass(eq=False)
class ReplaceResponses(Fault):
    """Send these raw bytes, CRLF included, instead of the FETCH response of a UID.

    ``%(seq)d`` is not expanded: the bytes go out as they are.
    """

    responses: Mapping[int, bytes]


@dataclass(eq=False)
class PoisonUids(Fault):
    """A FETCH that contains one of these UIDs fails.

    Attributes:
        uids: The poisoned ones.
        action: ``NO`` replies with the code and the text; ``cut`` and ``reset`` end the connection.
        text: Text of the NO.
        code: Response code of the NO.
        deliver_before: Whether the messages before the poisoned one are sent first.
    """

    uids: Collection[int]
    action: Literal["NO", "cut", "reset"] = "NO"
    text: str = "UID FETCH Server error"
    code: str = "SERVERBUG"
    deliver_before: bool = False


@dataclass(eq=False)
class OmitItems(Fault):
    """Leave items out of FETCH responses: ``OmitItems({"INTERNALDATE"}, uids={3})``.

    Attributes:
        items: Names such as ``RFC822.SIZE``; ``BODY[]`` stands for every section.
        uids: Only of these messages, None for all.
    """

    items: Collection[str]
    uids: Collection[int] | None = None


@dataclass(eq=False)
class WrongPartial(Fault):
    """Answer a partial FETCH (``BODY[]<offset.count>``) wrongly.

    Attributes:
        kind: ``shifted``: bytes from another offset under the right label; ``relabelled``: the same with a label
            that says so; ``longer``: more bytes than were asked for; ``whole``: the whole section under the
            label that was asked for; ``unlabelled``: the whole section, labelled so.
        by: By how many bytes it is shifted or longer.
        uids: Only of these messages, None for all.
    """

    kind: PartialLie
    by: int = 10
    uids: Collection[int] | None = None
