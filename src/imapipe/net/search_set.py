"""The sets of UIDs in SEARCH commands: cut to the length that a command may have."""

from __future__ import annotations

from typing import Final

from imapipe.wire.uid_set import UidSet

MAX_SEARCH_COMMANDS: Final = 8
"""A search within a set that would take more commands than this is made within a rougher set, by one command."""

_MAX_RANGE_BYTES: Final = len("4294967294:4294967295,")


def pack(uids: UidSet, max_text_bytes: int) -> list[UidSet]:
    """Cut a set into pieces whose text fits.

    Where that makes too many, gaps of the set are filled until one piece holds it all: what a search then finds in
    the gaps is left out by whoever asked, and costs less than hundreds of round trips.

    Args:
        uids: The set.
        max_text_bytes: How long the text of a piece may be.
    """
    pieces: list[UidSet] = []
    rank = 0
    while rank < len(uids):
        if len(pieces) == MAX_SEARCH_COMMANDS:
            return [_rougher(uids, max_text_bytes // _MAX_RANGE_BYTES)]
        end = uids.fit(rank, len(uids), max_text_bytes)
        pieces.append(uids[rank:end])
        rank = end
    return pieces


def _rougher(uids: UidSet, max_ranges: int) -> UidSet:
    step = -(-len(uids) // max_ranges)
    slices = (uids[start : start + step] for start in range(0, len(uids), step))
    return UidSet.from_ranges((part.min, part.max) for part in slices)
