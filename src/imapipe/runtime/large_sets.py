"""Computing with sets of UIDs that are too large for the event loop.

Two sets of a million UIDs at random take a tenth of a second to join, to cut or to subtract; whoever else lives in the
loop would wait for as long. Small ones are not worth a thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, TypeVar

from imapipe.wire.uid_set import UidSet

T = TypeVar("T")

LARGE: Final = 16_384
"""So many ranges take a few milliseconds."""


async def beside_the_loop(compute: Callable[[], T], *sets: UidSet) -> T:
    """Compute something of sets: in a thread where they are large, else here and now.

    The thread goes on when this is cancelled; what it computes is then dropped. So it must change nothing: sets never
    do, and whoever awaits this looks afterwards whether what it began with still holds.

    Args:
        compute: What gives the result; what it raises is raised.
        sets: What it goes through.
    """
    if sum(uids.range_count for uids in sets) < LARGE:
        return compute()
    return await asyncio.to_thread(compute)
