"""Documents: values that are told as JSON, such as reports, snapshots and events.

What a document holds follows from its class: its fields, and the properties named in `derived`. The published schemas
are made from the same classes (`imapipe.contrib.models`), so what is told and what is said of it cannot differ.

Invariant: what `to_dict` gives can be encoded: texts that UTF-8 cannot hold are written out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import fields
from datetime import datetime
from typing import ClassVar

from imapipe.models.json_value import JSON
from imapipe.wire.uid_set import UidSet


class Document:
    """The base of dataclasses that are told as JSON.

    Attributes:
        derived: Names of properties that are told beside the fields.
        told_as: Fields that have another name in JSON.
    """

    __slots__ = ()

    derived: ClassVar[Sequence[str]] = ()
    told_as: ClassVar[Mapping[str, str]] = {}

    def to_dict(self) -> dict[str, JSON]:
        """As a JSON-ready value: fields and derived values by name; its schema is published.

        Times are ISO 8601, sets of UIDs are IMAP sequence sets, mappings are keyed by text.
        """
        return {self.told_as.get(name, name): json_value(getattr(self, name)) for name in self._names()}

    def to_json(self) -> str:
        """As one JSON object; see `to_dict`."""
        # A job that prints no JSON does without; it brings uuid, json and more.
        import orjson  # noqa: PLC0415

        return orjson.dumps(self.to_dict(), option=orjson.OPT_INDENT_2).decode()

    def _names(self) -> Iterator[str]:
        yield from (field.name for field in fields(self))  # type: ignore[arg-type]  # every class of it is a dataclass
        yield from self.derived


def json_value(value: object) -> JSON:
    """A value of a document as JSON has it.

    Raises:
        TypeError: A document holds nothing of this kind.
    """
    match value:
        case None | bool() | int() | float():
            return value
        case str():
            return printable(value)
        case bytes():
            return value.decode("ascii", "backslashreplace")
        case datetime():
            return value.isoformat()
        case Document():
            return value.to_dict()
        case UidSet():
            return value.text()
        case BaseException():
            return {"type": type(value).__name__, "text": printable(str(value))}
        case Mapping():
            return {printable(str(key)): json_value(each) for key, each in value.items()}
        case Set():
            return [*sorted(printable(str(each)) for each in value)]
        case Sequence():
            return [json_value(each) for each in value]
        case _:
            raise TypeError(f"a document cannot hold a {type(value).__name__}")


def printable(text: str) -> str:
    """Text that UTF-8 can hold: surrogates from undecodable names are written out."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
