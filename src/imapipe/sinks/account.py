r"""Another account as a sink: messages are appended to its mailboxes, with their flags and the time they arrived.

Invariants:

- A message is done when the other server has confirmed it, and the state, where there is one, says so durably.
- What an earlier run copied is skipped before anything of it is fetched: by the state, or, where that was lost, by
  what the target holds.
- Once the other account is full nothing more is sent: the run ends with `SinkError`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from operator import and_
from pathlib import Path
from typing import Final, Literal, TypeAlias

from imapipe.durable_file import named_in
from imapipe.errors import NotFetched, ProtocolError, SinkError
from imapipe.middleware.base import Run
from imapipe.models.message import Message
from imapipe.pipeline.findings import JobPlan
from imapipe.runtime.completion import to_the_end
from imapipe.runtime.large_sets import beside_the_loop
from imapipe.sinks.awaiting import Awaiting
from imapipe.sinks.copied import Copied
from imapipe.sinks.copying import MailboxCopy
from imapipe.sinks.folder_map import Folder, FolderMap
from imapipe.sinks.outgoing import Outgoing
from imapipe.sinks.place import Place
from imapipe.sinks.survey import OUTAGE_SECONDS, Target
from imapipe.wire.uid_set import UidSet

Labels: TypeAlias = Literal["each", "first"]
Folders: TypeAlias = FolderMap | Mapping[str, str] | Callable[[str], str]

_LABELS: Final = ("each", "first")


class Account:
    r"""Copies messages to another account.

    Args:
        pool: The pool of the other account.
        folders: The mailbox there for one here: what `map_folders` found, a mapping, or a function; whatever it does
            not name keeps its name.
        state: A file that remembers what was copied, so that a run need not look at the whole target.
        labels: Where a message of Gmail's All Mail goes, with what `map_folders` found: `"each"` puts a copy into the
            mailbox of each of its labels, `"first"` one copy into the first of them, INBOX before all others.
        outage_seconds: How long to wait for the other server while it does not work. One that works and asks for less
            is given the time that it asks for.

    The job fetches `"full"`. Mailboxes that are missing there are made. `\Recent` is not copied; a keyword that the
    other server does not take is left out. What it refuses (too large, not allowed) fails, by name.
    """

    def __init__(
        self,
        pool: Target,
        folders: Folders | None = None,
        *,
        state: str | os.PathLike[str] | None = None,
        labels: Labels = "each",
        outage_seconds: float = OUTAGE_SECONDS,
    ) -> None:
        if labels not in _LABELS:
            raise ValueError(f'labels must be "each" or "first", not {labels!r}')
        self._pool = pool
        self._folders = folders
        self._labels: Labels = labels
        self._copied = Copied(Path(state) if state is not None else None)
        self._outage_seconds = outage_seconds
        self._run: Run | None = None
        self._copies: dict[str, MailboxCopy] = {}
        self._resources = AsyncExitStack()

    def __repr__(self) -> str:
        return f"<Account {self._pool.account}>"

    def for_mailbox(self, name: str, delimiter: str | None) -> Account:
        """The sink for one mailbox of a whole account: the same state."""
        sink = Account(self._pool, self._folders, labels=self._labels, outage_seconds=self._outage_seconds)
        sink._copied = self._copied
        return sink

    async def copied(self, account: str, plan: JobPlan) -> UidSet:
        """What the state says of a mailbox that is to be copied: those of its messages that are there; for a dry run.

        Args:
            account: The account that the mailbox is of.
            plan: What a run on it would do.

        Raises:
            SinkError: The state cannot be used.
        """
        await asyncio.to_thread(self._in_files, self._copied.look)
        known = await self._copied.known(Place(account, plan.mailbox, plan.uidvalidity))
        return await beside_the_loop(partial(and_, known, plan.uids), known, plan.uids)

    async def open(self, run: Run) -> None:
        """See `Sink`: the mailbox is made where it is missing, and looked at as far as its state is not known.

        Raises:
            SinkError: The state cannot be used, another run has the sink, or the other account is full.
            ValueError: The job does not fetch what is to be copied, or source and target are the same mailbox.
            ImapipeError: The other server could not be asked.
        """
        if self._run is not None:
            raise SinkError("another run has this sink; give each run one of its own", path=repr(self))
        if "BODY[]" not in run.items:
            raise ValueError('Account copies whole messages: put .fetch("full") into the job')
        self._run = run
        self._resources.callback(self._copied.close)
        # Cancelled in the middle it would be open behind its closing.
        await to_the_end(asyncio.to_thread(self._in_files, self._copied.open))
        if self._copied.is_full is not None:
            raise self._copied.is_full
        folder = self._folder_of(run.mailbox)
        if (run.account, run.mailbox) == (self._pool.account, folder.name):
            raise ValueError(f"{folder.name!r} would be copied into itself; choose another mailbox with folders=")
        if self._goes_by_labels:
            await run.plan.skip(self._copied.whole(Place.of(run)))
            return
        copy = await self._copy_to(folder)
        await run.plan.skip(await self._copied.known(Place.of(run)))
        if copy.has_candidates and not copy.compares_content:
            if left := await run.plan.left():
                await run.plan.skip(await copy.match(await run.identities(left)))
                await self.commit()

    async def write(self, messages: Sequence[Message]) -> Mapping[int, Exception]:
        """See `Sink`. Raises SinkError where the other account is full, ImapipeError where its server is gone."""
        failed: dict[int, Exception] = {}
        todo: dict[MailboxCopy, list[Outgoing]] = {}
        for message in messages:
            try:
                new = Outgoing(message)
                copies = [await self._copy_to(folder) for folder in self._folders_of(message)]
            except (NotFetched, ProtocolError) as error:
                failed[message.uid] = error
                continue
            for copy in copies:
                todo.setdefault(copy, []).append(new)
        for copy, group in todo.items():
            try:
                failed.update(await copy.write(group))
            except SinkError as error:
                self._copied.is_full = error
                raise
        if self._goes_by_labels:
            done = {message.uid for message in messages} - failed.keys()
            self._copied.note_whole(self._place, done)
        return failed

    async def commit(self) -> None:
        """See `Sink`. Raises SinkError."""
        lines = b"".join([await copy.settle() for copy in list(self._copies.values())])
        if self._goes_by_labels:
            lines += self._copied.whole_line(self._place)
        if lines:
            await asyncio.to_thread(self._in_files, lambda: self._copied.save(lines))

    async def close(self) -> None:
        """See `Sink`. What was sent and not committed is found again by the next run."""
        self._run = None
        self._copies.clear()
        await self._resources.aclose()

    @property
    def _place(self) -> Place:
        assert self._run is not None
        return Place.of(self._run)

    @property
    def _goes_by_labels(self) -> bool:
        """Whether the run brings Gmail's All Mail with labels, which say where its messages go."""
        run, folders = self._run, self._folders
        assert run is not None
        return isinstance(folders, FolderMap) and run.mailbox == folders.all_mail and "X-GM-LABELS" in run.items

    def _folders_of(self, message: Message) -> list[Folder]:
        folders = self._folders
        if isinstance(folders, FolderMap) and self._goes_by_labels:
            places = folders.places_of(message.gmail.labels)
            return places[:1] if self._labels == "first" else places
        return [self._folder_of(message.mailbox)]

    def _folder_of(self, mailbox: str) -> Folder:
        folders = self._folders
        if folders is None:
            return Folder(mailbox)
        if isinstance(folders, FolderMap):
            return folders.place_of(mailbox)
        if callable(folders):
            return Folder(folders(mailbox))
        return Folder(folders.get(mailbox, mailbox))

    async def _copy_to(self, folder: Folder) -> MailboxCopy:
        """The copying into a mailbox, begun when it is first needed."""
        copy = self._copies.get(folder.name)
        if copy is None:
            awaiting = Awaiting(self._outage_seconds, self._pool.connections.events)
            copy = MailboxCopy(self._pool, self._place, folder, self._copied, awaiting)
            await copy.begin()
            self._copies[folder.name] = copy
        return copy

    def _in_files(self, work: Callable[[], None]) -> None:
        try:
            work()
        except OSError as error:
            if isinstance(error, SinkError):
                raise
            where = named_in(error) or self._copied.path or self
            raise SinkError(error.strerror or str(error), path=str(where)) from error
