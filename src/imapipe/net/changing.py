"""The part of a connection that changes mailboxes and what is in them; `Connection` is the whole.

Invariant: nothing here expunges a message that was not named. There is no CLOSE and no EXPUNGE without UIDs.

A command takes as many UIDs as its line has room for (`wire.command.encoder.uid_text_room`): whoever calls cuts his
set, because he has to know what was done when one of several commands failed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from functools import partial
from typing import TypeVar

from imapipe.net.command import Company
from imapipe.net.watching import Watching
from imapipe.wire.command.append import NewMessage, append
from imapipe.wire.command.copy import read_copy_uid, uid_copy
from imapipe.wire.command.create import create
from imapipe.wire.command.delete import delete
from imapipe.wire.command.expunge import uid_expunge
from imapipe.wire.command.move import uid_move
from imapipe.wire.command.rename import rename
from imapipe.wire.command.store import FlagChange, read_modified, uid_store
from imapipe.wire.command.subscribe import subscribe
from imapipe.wire.command.unsubscribe import unsubscribe
from imapipe.wire.response.code import AppendUid, CopyUid
from imapipe.wire.response.limits import LONG_BYTES
from imapipe.wire.response.response import Response, Status, Tagged
from imapipe.wire.uid_set import UidSet

_Result = TypeVar("_Result")


class Changing(Watching):
    """What changes something on the server. Every method raises as `execute` does, and ValueError for its arguments."""

    __slots__ = ()

    async def create(self, mailbox: str, *, special_use: str = "") -> None:
        r"""CREATE a mailbox.

        Args:
            mailbox: Its name.
            special_use: What it is to be for, such as `\Sent`; needs CREATE-SPECIAL-USE.

        Raises CapabilityMissing, ValueError for its arguments, else raises as `execute` does.
        """
        if special_use:
            self.require(["CREATE-SPECIAL-USE"])
        await self._ask(create(mailbox, self._dialect, special_use=special_use))

    async def delete(self, mailbox: str) -> None:
        """DELETE a mailbox, with all that is in it.

        Raises ValueError for its arguments, else raises as `execute` does.
        """
        await self._ask(delete(mailbox, self._dialect))

    async def rename(self, mailbox: str, new_name: str) -> None:
        """RENAME a mailbox.

        Raises ValueError for its arguments, else raises as `execute` does.
        """
        await self._ask(rename(mailbox, new_name, self._dialect))

    async def subscribe(self, mailbox: str) -> None:
        """SUBSCRIBE to a mailbox.

        Raises ValueError for its arguments, else raises as `execute` does.
        """
        await self._ask(subscribe(mailbox, self._dialect))

    async def unsubscribe(self, mailbox: str) -> None:
        """UNSUBSCRIBE from a mailbox.

        Raises ValueError for its arguments, else raises as `execute` does.
        """
        await self._ask(unsubscribe(mailbox, self._dialect))

    async def uid_store(
        self,
        uids: UidSet,
        change: FlagChange,
        flags: Iterable[str],
        *,
        silent: bool = True,
        unchanged_since: int | None = None,
    ) -> UidSet:
        r"""UID STORE: change flags in the selected mailbox, in several commands where the server stops early.

        Args:
            uids: Which messages.
            change: Whether flags are added, removed, or take the place of all others.
            flags: Such as `\Seen` and `$Junk`.
            silent: The server does not tell the flags that result.
            unchanged_since: Leave messages alone whose mod-sequence is above this; needs CONDSTORE.

        Returns:
            The UIDs of messages left alone because somebody else had changed them.

        Raises CapabilityMissing, ValueError for its arguments, else raises as `execute` does.
        """
        if unchanged_since is not None:
            self.require(["CONDSTORE"])
        flags = [*flags] if not isinstance(flags, str) else flags
        modified = UidSet()
        while True:
            request = uid_store(uids, change, flags, silent=silent, unchanged_since=unchanged_since)
            tagged, _ = await self._ask(request)
            modified |= await _read(partial(read_modified, tagged), tagged)
            if not (uids := _left_out(tagged, uids)):
                return modified

    async def uid_copy(self, uids: UidSet, mailbox: str) -> CopyUid | None:
        """UID COPY into another mailbox; gives which UIDs became which, where the server tells.

        Raises ValueError for its arguments, else raises as `execute` does.
        """
        tagged, responses = await self._ask(uid_copy(uids, mailbox, self._dialect))
        return await _read(partial(read_copy_uid, responses, tagged), tagged, *responses)

    async def uid_move(self, uids: UidSet, mailbox: str) -> CopyUid | None:
        """UID MOVE into another mailbox; needs MOVE. Gives which UIDs became which, where the server tells.

        Raises CapabilityMissing, ValueError for its arguments, else raises as `execute` does.
        """
        self.require(["MOVE"])
        tagged, responses = await self._ask(uid_move(uids, mailbox, self._dialect))
        return await _read(partial(read_copy_uid, responses, tagged), tagged, *responses)

    async def uid_expunge(self, uids: UidSet) -> None:
        r"""UID EXPUNGE: remove those of these messages that have `\Deleted`; needs UIDPLUS.

        It is sent at once behind UID FETCHes that are in flight, which the server answers first; again for the rest
        where the server stops early.

        Raises CapabilityMissing, ValueError for its arguments, else raises as `execute` does.
        """
        self.require(["UIDPLUS"])
        # The command refuses a set of none.
        left = uids
        while True:
            tagged, _ = await self._ask(uid_expunge(left), company=Company.EXPUNGE)
            left = _left_out(tagged, left)
            if not left:
                return

    @property
    def message_limit(self) -> int | None:
        """The most messages in one command (MESSAGELIMIT and SAVELIMIT, RFC 9738), where the server says so."""
        return min((n for n in map(self._number_of, ("MESSAGELIMIT", "SAVELIMIT")) if n), default=None)

    @property
    def append_limit(self) -> int | None:
        """The bytes of the largest message that the server takes (APPENDLIMIT, RFC 7889), where it says so."""
        return self._number_of("APPENDLIMIT")

    def _number_of(self, capability: str) -> int | None:
        for name in self.capabilities:
            word, _, number = name.partition("=")
            if word.upper() == capability and number.isdecimal():
                return int(number)
        return None

    async def append(self, mailbox: str, *messages: NewMessage) -> AppendUid | None:
        """APPEND messages, all or none of them; several need MULTIAPPEND.

        A `Body` is read while it is sent, never faster than the server takes it; when its source fails, or does not
        give as many bytes as was said, the connection ends and the source's own exception is raised.

        Returns:
            Where they are, if the server tells (UIDPLUS).

        Raises CapabilityMissing, ValueError for its arguments, else raises as `execute` does.
        """
        if len(messages) > 1:
            self.require(["MULTIAPPEND"])
        tagged, _ = await self._ask(append(mailbox, messages, self._dialect), company=Company.APPEND)
        return tagged.code.append_uid if tagged.code is not None else None


def _left_out(tagged: Tagged, uids: UidSet) -> UidSet:
    """The messages that a command did not come to (MESSAGELIMIT); raises ProtocolError where that has no end."""
    limit = tagged.code.message_limit if tagged.code is not None else None
    return limit.left_out(uids) if limit is not None else UidSet()


async def _read(read: Callable[[], _Result], *responses: Response) -> _Result:
    """Read the sets of UIDs in the codes of responses, by a thread where they are long."""
    codes = [response.code for response in responses if isinstance(response, Status | Tagged)]
    if sum([len(code.arguments) for code in codes if code is not None]) > LONG_BYTES:
        return await asyncio.to_thread(read)
    return read()
