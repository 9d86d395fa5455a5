"""The commands, by the name they have on the wire."""

from __future__ import annotations

from ..session import Entry
from . import append, fetch, listing, login, mailbox, notify, quota, search, store, transfer

COMMANDS: dict[str, Entry] = {
    **login.COMMANDS,
    **mailbox.COMMANDS,
    **listing.COMMANDS,
    **quota.COMMANDS,
    **notify.COMMANDS,
    **fetch.COMMANDS,
    **search.COMMANDS,
    **store.COMMANDS,
    **transfer.COMMANDS,
    **append.COMMANDS,
}
"""Every command the server knows."""
