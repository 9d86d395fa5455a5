"""Where the literals of a connection go, and what becomes of them when it dies in the middle of one.

Invariant: what came of a literal goes to the FETCH that asked for it, or is freed at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from imapipe.errors import ProtocolError
from imapipe.net.arrivals import Arrivals
from imapipe.net.command import FetchCommand
from imapipe.net.options import PlaneOptions
from imapipe.net.spool import SpoolFile
from imapipe.net.unfinished import Part, Unfinished
from imapipe.wire.response.fetch import FetchScan, scan_fetch
from imapipe.wire.response.framing import MUCH_BYTES, SMALL_BYTES
from imapipe.wire.response.label import match_labels
from imapipe.wire.response.literal import Cut, Literal
from imapipe.wire.response.token import loose_number

# What is less is not worth a command of its own.
_LEAST_BYTES: Final = 16 * 1024


class Places:
    """The places of the literals of one connection.

    Args:
        arrivals: The FETCHes in flight, and what counts as spooled.
        options: From which size on, and where, literals go to temporary files.
    """

    __slots__ = ("_arrivals", "_options")

    def __init__(self, arrivals: Arrivals, options: PlaneOptions) -> None:
        self._arrivals = arrivals
        self._options = options

    def open(self, pieces: Sequence[bytes], size: int, kept: int) -> SpoolFile | Part | None:
        """The place of a literal, None for memory.

        Args:
            pieces: The answer up to its marker.
            size: How many bytes were announced.
            kept: How many bytes of the answer are in memory.

        Raises:
            SpoolError: There is no room for a file.
            ResponseTooLarge: It is more than may go to files.
        """
        part = self._part_for(pieces, size)
        if part is not None:
            if part.is_spooled:
                self._arrivals.spooling(part.literal_size)
            return part
        spool_above = self._options.least_spooled
        if size <= (spool_above if kept + size <= MUCH_BYTES else min(spool_above, SMALL_BYTES)):
            return None
        self._arrivals.spooling(size)
        return SpoolFile(size, self._options.spool_dir)

    def room_for(self, size: int) -> bytearray | SpoolFile:
        """The place of a literal that comes in windows. Raises SpoolError."""
        return bytearray(size) if size <= self._options.least_spooled else SpoolFile(size, self._options.spool_dir)

    def _part_for(self, pieces: Sequence[bytes], size: int) -> Part | None:
        """The literal that goes on in this one, of which the beginning came over another connection."""
        for command in self._arrivals.commands:
            part = command.goes_on
            if part is not None and size == part.wanted and not (part.is_wrong or part.is_placed):
                text = b"".join(pieces)
                scan = _scan(text, text.count(b"}\r\n"))
                if scan is not None and _uid_of(scan, self._arrivals.commands) in command.pending:
                    label = max(scan.items, key=lambda name: scan.items[name].start)
                    return part if match_labels([part.rest_name], [label]) else None
        return None

    def keep(self, cut: Cut | None) -> None:
        """The connection died: give what came of an answer to the FETCH that it is for, or free it."""
        if cut is None or isinstance(cut.place, Part):
            # What was gone on with is somebody's already.
            return
        found = _find(cut, self._arrivals.commands)
        if found is None:
            _free(cut, None)
            return
        command, unfinished = found
        _free(cut, unfinished)
        if unfinished.received >= _LEAST_BYTES:
            command.unfinished = unfinished
        else:
            unfinished.discard()


def _free(cut: Cut, kept: Unfinished | None) -> None:
    """Close the files of what came of an answer, but for what is kept of it."""
    if isinstance(cut.place, SpoolFile) and (kept is None or kept.part is None):
        cut.place.discard()
    for literal in cut.literals:
        if not isinstance(literal, bytes | bytearray) and (kept is None or literal not in kept.whole.values()):
            literal.close()


def _find(cut: Cut, commands: Sequence[FetchCommand]) -> tuple[FetchCommand, Unfinished] | None:
    scan = _scan(cut.text, len(cut.literals) + 1)
    if scan is None:
        return None
    uid = _uid_of(scan, commands)
    command = next((command for command in commands if command.keeps_cut and uid in command.pending), None)
    if command is None:
        return None
    labels = {name: name for name in command.needed if name in scan.items}
    labels |= match_labels(command.needed - labels.keys(), scan.items.keys() - labels.keys())
    whole: dict[str, Literal] = {}
    name, part = "", None
    for asked, label in labels.items():
        start, end, index = scan.items[label]
        if not cut.text[start:end].endswith(b"}\r\n"):
            continue
        if index < len(cut.literals):
            whole[asked] = cut.literals[index]
        elif isinstance(cut.place, bytearray | SpoolFile):
            announced = int(cut.text[start:end].strip(b"~{}+\r\n"))
            name, part = asked, Part(cut.place, announced - cut.missing, announced)
    said = scan.items.get("RFC822.SIZE")
    size = loose_number(cut.text[said.start : said.end]) if said is not None else None
    return command, Unfinished(uid, size, whole, name, part)


def _uid_of(scan: FetchScan, commands: Sequence[FetchCommand]) -> int:
    """Whose an answer is; where the UID comes last, that of the only message that is waited for. 0 if it is unknown."""
    if scan.uid is not None:
        return scan.uid
    pending = {uid for command in commands for uid in command.pending}
    return pending.pop() if len(pending) == 1 else 0


def _scan(text: bytes, literals: int) -> FetchScan | None:
    """The items of an answer up to the marker of its last literal."""
    try:
        return scan_fetch(text + b")", (b"",) * literals)
    except ProtocolError:
        return None
