"""The parts of a message of which only BODYSTRUCTURE is known, in the same list as `part.parse_parts` makes.

So the same rules say which of them are text and which are attachments, before any of them is fetched.
"""

from __future__ import annotations

from imapipe.mime.selection import PLAIN
from imapipe.wire.response.body_structure import BodyStructure


class StructurePart:
    """One part as BODYSTRUCTURE describes it.

    Attributes:
        parent: The multipart it is in; None for the message itself.
        structure: What the server says of it.
    """

    __slots__ = ("parent", "structure")

    def __init__(self, parent: StructurePart | None, structure: BodyStructure) -> None:
        self.parent = parent
        self.structure = structure

    @property
    def section(self) -> str:
        """The section to ask the server for, such as `1.2`."""
        return self.structure.number

    @property
    def content_type(self) -> str:
        """Such as `text/plain`, which is also what a type is that the server cannot read (RFC 2045 §5.2)."""
        structure = self.structure
        if not structure.media_type and not structure.disposition and not structure.filename:
            return PLAIN
        return structure.content_type

    @property
    def is_multipart(self) -> bool:
        """Whether it holds other parts."""
        return self.structure.is_multipart and bool(self.structure.parts)

    @property
    def is_message(self) -> bool:
        """Whether it is a message in a message."""
        return self.structure.content_type in {"message/rfc822", "message/global", "message/news"}

    @property
    def charset(self) -> str:
        """The charset that it names, for `text.decode_text`; "" where it names none."""
        return self.structure.parameters.get("charset", "")

    @property
    def encoding(self) -> str:
        """Content-Transfer-Encoding in lower case."""
        return self.structure.encoding

    @property
    def disposition(self) -> str:
        """Content-Disposition in lower case, "" when absent."""
        return self.structure.disposition

    @property
    def filename(self) -> str:
        """The name its sender gave it, "" when there is none."""
        return self.structure.filename

    @property
    def content_id(self) -> str:
        """Content-ID with its angle brackets, "" when absent."""
        return self.structure.id

    @property
    def location(self) -> str:
        """Content-Location, "" when absent."""
        return self.structure.location


def parts_of(structure: BodyStructure) -> list[StructurePart]:
    """All parts, each behind the multipart it is in; an attached message is one part, whatever is in it."""
    found: list[StructurePart] = []
    waiting: list[tuple[StructurePart | None, BodyStructure]] = [(None, structure)]
    while waiting:
        parent, described = waiting.pop()
        part = StructurePart(parent, described)
        found.append(part)
        if described.is_multipart:
            waiting.extend((part, inner) for inner in reversed(described.parts))
    return found
