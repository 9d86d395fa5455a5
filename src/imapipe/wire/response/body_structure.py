"""BODYSTRUCTURE and BODY: the MIME parts of a message as the server sees them (RFC 9051 §7.5.2, production `body`).

Invariants:
    A part nests no deeper than the lists that describe it, so never deeper than `token.MAX_DEPTH`.
    What a server leaves out, or gets wrong in a way that is known, has an empty value; only what is no structure at
    all raises.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from imapipe.errors import NestedTooDeeply, ProtocolError
from imapipe.wire.encoded_word import decode_header
from imapipe.wire.parameter import decode_parameters
from imapipe.wire.response.code import MAX_NUMBER64
from imapipe.wire.response.envelope import Envelope, envelope_of_tree, loose_envelope
from imapipe.wire.response.literal import Literal, literal_bytes
from imapipe.wire.response.repair import READINGS, is_well_quoted, requote
from imapipe.wire.response.token import Cursor, ItemSpan, Value, loose_number, malformed

__all__ = ["BodyStructure", "Part", "parse_body_structure"]

_MULTIPART: Final = frozenset(
    "alternative appledouble byteranges digest encrypted form-data mixed parallel related report signed".split()
)
_MEDIA_TYPES: Final = frozenset("application audio font image message model multipart text video".split())


MAX_PARTS: Final = 10_000
"""No mail has more parts, and each takes some 350 bytes of memory, for the two that `()` takes in the text."""


@dataclass(frozen=True, slots=True)
class BodyStructure:
    """One MIME part, with the parts in it.

    Attributes:
        number: The section to ask for, such as `1.2`. A multipart that is the whole text of a message is `TEXT`,
            or `4.TEXT` inside the message that is part 4.
        media_type: Such as `text` or `multipart`, in lower case; "" when the server does not know.
        media_subtype: Such as `plain`, in lower case.
        parameters: Of Content-Type, by lower-case name, decoded.
        id: Content-ID, with its angle brackets.
        description: Content-Description, decoded.
        encoding: Content-Transfer-Encoding in lower case.
        size: Size in bytes as it is transferred: before it is decoded.
        lines: Lines of a text or a message; None when the server does not say.
        md5: Content-MD5.
        disposition: `attachment`, `inline` or another one, in lower case.
        disposition_parameters: Of Content-Disposition, by lower-case name, decoded.
        language: Content-Language.
        location: Content-Location.
        parts: The parts of a multipart; of a message/rfc822 its one body.
        envelope: Of a message/rfc822.
    """

    number: str
    media_type: str
    media_subtype: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    id: str = ""
    description: str = ""
    encoding: str = ""
    size: int = 0
    lines: int | None = None
    md5: str = ""
    disposition: str = ""
    disposition_parameters: Mapping[str, str] = field(default_factory=dict)
    language: tuple[str, ...] = ()
    location: str = ""
    parts: tuple[BodyStructure, ...] = ()
    envelope: Envelope | None = None

    @property
    def content_type(self) -> str:
        """`type/subtype`; application/octet-stream when the server does not know."""
        return f"{self.media_type}/{self.media_subtype}" if self.media_type else "application/octet-stream"

    @property
    def is_multipart(self) -> bool:
        """Whether it only holds other parts."""
        return self.media_type == "multipart"

    @property
    def filename(self) -> str:
        """The name its sender gave it, "" when there is none. It may hold a path: never open it as it is."""
        return self.disposition_parameters.get("filename") or self.parameters.get("name", "")

    @property
    def is_attachment(self) -> bool:
        """Whether it is meant to be saved: so declared, or named and not declared inline."""
        return self.disposition == "attachment" or (
            self.disposition != "inline" and not self.is_multipart and self.filename != ""
        )

    def walk(self) -> Iterator[BodyStructure]:
        """This part and all parts in it, each before its own."""
        waiting = [self]
        while waiting:
            part = waiting.pop()
            yield part
            waiting.extend(reversed(part.parts))


Part: TypeAlias = BodyStructure
"""The root and every part below it are of one type."""


def parse_body_structure(text: bytes, literals: Sequence[Literal], span: ItemSpan) -> BodyStructure:
    """Parse the value of BODYSTRUCTURE or BODY.

    Raises:
        NestedTooDeeply: It has more levels than are taken apart.
        ProtocolError: It is no structure, not even with its strings repaired, or has more than `MAX_PARTS` parts.
    """
    start, end, index = span
    raw = text[start:end]
    deep: NestedTooDeeply | None = None
    doubtful: BodyStructure | None = None
    for reading in (None, *READINGS):
        try:
            cursor = Cursor(raw if reading is None else requote(raw, reading), 0, literals, index)
            tree = cursor.parse_value()
        except NestedTooDeeply as error:
            deep = error
            continue
        except ProtocolError:
            continue
        if not isinstance(tree, list) or not tree or not cursor.at_end():
            continue
        builder = _Builder()
        structure = builder.text_of(tree, "")
        if not builder.doubts and (reading is not None or is_well_quoted(raw)):
            return structure
        doubtful = doubtful or structure
    if doubtful is None:
        if deep is not None:
            raise deep
        raise malformed("a body structure was expected", text, start)
    return doubtful


class _Builder:
    """Builds the parts of one tree and counts what does not fit, so that another reading can be tried.

    Each call goes one list deeper, so the depth of the tree bounds the recursion.
    """

    __slots__ = ("doubts", "parts_left")

    def __init__(self) -> None:
        self.doubts = 0
        self.parts_left = MAX_PARTS

    def text_of(self, values: list[Value], prefix: str) -> BodyStructure:
        """The body of a message whose parts are numbered behind `prefix` (RFC 9051 §6.4.5.1)."""
        if _is_multipart(values):
            return self._multipart(values, f"{prefix}TEXT", prefix)
        return self._single(values, f"{prefix}1")

    def _part(self, values: list[Value], number: str) -> BodyStructure:
        return self._multipart(values, number, f"{number}.") if _is_multipart(values) else self._single(values, number)

    def _multipart(self, values: list[Value], number: str, prefix: str) -> BodyStructure:
        """`body-type-mpart`: parts, subtype, then parameters, disposition, language, location."""
        parts: list[BodyStructure] = []
        at = 0
        while at < len(values):
            value = values[at]
            if not isinstance(value, list):
                break
            self.parts_left -= 1
            if self.parts_left < 0:
                raise ProtocolError(f"a body structure has more than {MAX_PARTS} parts")
            parts.append(self._part(value, f"{prefix}{at + 1}"))
            at += 1
        if not parts and values[0] is None:
            # An empty multipart: NIL where the parts belong.
            at = 1
        rest = values[at:]
        disposition, disposition_parameters = self._disposition(_get(rest, 2))
        return BodyStructure(
            number,
            "multipart",
            _word(_get(rest, 0)),
            self._parameters(_get(rest, 1)),
            disposition=disposition,
            disposition_parameters=disposition_parameters,
            language=_language(_get(rest, 3)),
            location=_text(_get(rest, 4)),
            parts=tuple(parts),
        )

    def _single(self, values: list[Value], number: str) -> BodyStructure:
        """`body-type-1part`: basic, text or message."""
        media_type, media_subtype = _word(_get(values, 0)), _word(_get(values, 1))
        size = _number(_get(values, 6))
        if size is None and len(values) > 6 and values[6] is not None:
            self.doubts += 1
        at = 7
        envelope: Envelope | None = None
        parts: tuple[BodyStructure, ...] = ()
        if media_type == "message":
            at, envelope, parts = self._message(values, at, f"{number}.")
        lines = None
        if media_type in ("text", "message") and _number(_get(values, at)) is not None:
            lines = None if _bytes(_get(values, at)).startswith(b"-") else _number(_get(values, at))
            at += 1
        disposition, disposition_parameters = self._disposition(_get(values, at + 1))
        return BodyStructure(
            number,
            media_type,
            media_subtype,
            self._parameters(_get(values, 2)),
            _text(_get(values, 3)),
            decode_header(_bytes(_get(values, 4))),
            _word(_get(values, 5)),
            size or 0,
            lines,
            _text(_get(values, at)),
            disposition,
            disposition_parameters,
            _language(_get(values, at + 2)),
            _text(_get(values, at + 3)),
            parts,
            envelope,
        )

    def _message(
        self, values: list[Value], at: int, prefix: str
    ) -> tuple[int, Envelope | None, tuple[BodyStructure, ...]]:
        """Envelope and body of a message in a message, each of which servers leave out or send as NIL."""
        envelope: Envelope | None = None
        value, behind = _get(values, at), _get(values, at + 1)
        if isinstance(value, list):
            # No body reads as an envelope: its encoding stands where an envelope has addresses.
            envelope = envelope_of_tree(value)
            if envelope is not None:
                at += 1
        elif value is None and (
            _is_body(behind) or behind == [] or (behind is None and _number(_get(values, at + 2)) is not None)
        ):
            at += 1
        value, behind = _get(values, at), _get(values, at + 1)
        if envelope is None and isinstance(value, list) and not _is_body(value) and _is_body(behind):
            # An envelope that is not what it should be, since a body stands behind it.
            envelope = loose_envelope(value) if value else None
            at += 1
            value = behind
        if isinstance(value, list) and not value:
            # A message without a body: `()`, and the number of its lines behind it.
            return at + 1, envelope, ()
        if isinstance(value, list) and _is_body(value):
            return at + 1, envelope, (self.text_of(value, prefix),)
        if value is None and _number(_get(values, at + 1)) is not None:
            at += 1
        return at, envelope, ()

    def _parameters(self, value: Value) -> dict[str, str]:
        """`body-fld-param`: names and values by turns."""
        if not isinstance(value, list):
            if value is not None:
                self.doubts += 1
            return {}
        if len(value) % 2 or any(isinstance(item, list) for item in value):
            self.doubts += 1
        words = [_bytes(item) for item in value]
        return decode_parameters(zip(words[::2], words[1::2], strict=False))

    def _disposition(self, value: Value) -> tuple[str, dict[str, str]]:
        """`body-fld-dsp`; a bare string stands for one without parameters."""
        if not isinstance(value, list):
            return _word(value), {}
        parameters = _get(value, 1)
        if parameters is not None and not isinstance(parameters, list):
            # The parameters without a list of their own.
            parameters = value[1:]
        return _word(_get(value, 0)), self._parameters(parameters)


def _is_multipart(values: list[Value]) -> bool:
    """Whether a list describes a multipart: it begins with a part, or has the subtype of an empty one."""
    first, second = _get(values, 0), _get(values, 1)
    if isinstance(first, list):
        return True
    if first is None:
        return _word(second) in _MULTIPART
    return _word(first) in _MULTIPART and (second is None or isinstance(second, list))


def _is_body(value: Value) -> bool:
    """Whether a value can be a body: a multipart, or one that begins with a media type."""
    if not isinstance(value, list) or not value:
        return False
    return _is_multipart(value) or _word(value[0]) in _MEDIA_TYPES


def _get(values: list[Value], at: int) -> Value:
    return values[at] if at < len(values) else None


def _bytes(value: Value) -> bytes:
    return b"" if value is None or isinstance(value, list) else literal_bytes(value)


def _text(value: Value) -> str:
    return _bytes(value).decode("utf-8", "replace")


def _word(value: Value) -> str:
    return _text(value).lower()


def _number(value: Value) -> int | None:
    number = loose_number(_bytes(value))
    return None if number is None else min(number, MAX_NUMBER64)


def _language(value: Value) -> tuple[str, ...]:
    """`body-fld-lang`: one language or a list of them."""
    items = value if isinstance(value, list) else [value]
    return tuple(_text(item) for item in items if item is not None and not isinstance(item, list))
