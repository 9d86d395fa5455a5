"""Comparing an account with its copy: every message of both sides is read, and told by its content."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from imapipe.errors import ImapipeError
from imapipe.middleware.base import Middleware
from imapipe.models.message import Message
from imapipe.net.connection import Connection
from imapipe.pipeline.delivery.stream import Runs
from imapipe.pipeline.digest import digest_of_file
from imapipe.pipeline.pipeline import Pipeline
from imapipe.pipeline.specification import Specification
from imapipe.sinks.account import Labels
from imapipe.sinks.comparison import CopyDifferences, Seen, comparison
from imapipe.sinks.folder_map import Folder, FolderMap
from imapipe.sinks.likeness import seconds_of
from imapipe.sinks.survey import Target

# Smaller ones cost less than it takes to hand them to a thread.
_THREAD_BYTES: Final = 256 * 1024

Places = Callable[[Message], Sequence[str]]


async def verify_copy(
    source: Target,
    target: Target,
    folders: FolderMap,
    mailboxes: Sequence[str],
    *,
    labels: Labels | None = "each",
    use: Sequence[Middleware] = (),
) -> CopyDifferences:
    r"""Compare mailboxes of an account with their copies in another: content, dates, and flags but `\Recent`.

    Every message of both sides is fetched whole, and none is kept: what is known of it goes to a temporary file.

    Args:
        source: The pool of the account that was copied.
        target: The pool of the other one.
        folders: The places, as they were given to `sinks.Account`.
        mailboxes: The names of the mailboxes that were copied.
        labels: As it was given to `sinks.Account`; None where All Mail was copied as one mailbox, without its labels.
        use: Middleware for the reading, such as `Retry()`; each may be of one kind that serves several runs.

    Returns:
        The differences. What cannot be read of a mailbox is in its `errors`.

    Raises:
        ImapipeError: The target's mailboxes could not be listed.

    Cancelled, it leaves nothing behind.
    """
    by_label = folders.all_mail if labels is not None and folders.all_mail in mailboxes else ""
    names, merges = await target.connections.perform(_names)

    def name_of(folder: Folder) -> str:
        return folder.plain_name if folder.plain_name in names and folder.name not in names else folder.name

    def places_of(message: Message) -> Sequence[str]:
        if message.mailbox != by_label:
            return [name_of(folders.place_of(message.mailbox))]
        places = folders.places_of(message.gmail.labels)
        return [name_of(folder) for folder in (places[:1] if labels == "first" else places)]

    # The places of the labels are known when their messages are; those of empty mailboxes before.
    wanted = dict.fromkeys(name_of(folders.place_of(mailbox)) for mailbox in mailboxes if mailbox != by_label)
    errors: dict[str, str] = {}
    with comparison() as compared:

        async def read(
            account: Target, mailbox: str, take: Callable[[Seen], None], places: Places, *, with_labels: bool = False
        ) -> None:
            async def handle(message: Message) -> None:
                for seen in await _seen(message, places(message)):
                    wanted.setdefault(seen.folder)
                    take(seen)

            job = Pipeline(Specification(mailbox), account.connections, account.account, Runs()).use(*use)
            job = job.fetch("full", "gmail") if with_labels else job.fetch("full")
            try:
                report = await job.run(handle)
            except ImapipeError as error:
                errors[f"{account.account} {mailbox}"] = str(error)
                return
            if not report.complete:
                errors[f"{account.account} {mailbox}"] = f"{report.failed} messages could not be read"

        async def read_source() -> None:
            for mailbox in mailboxes:
                await read(source, mailbox, compared.here, places_of, with_labels=mailbox == by_label)

        async def read_target(places: Sequence[str]) -> None:
            for folder in places:
                if folder in names:
                    await read(target, folder, compared.there, lambda message: [message.mailbox])

        known = list(wanted)
        async with asyncio.TaskGroup() as group:
            group.create_task(read_source())
            group.create_task(read_target(known))
        await read_target([name for name in wanted if name not in known])
        return await asyncio.to_thread(compared.result, list(wanted), errors, merges=merges)


async def _names(connection: Connection) -> tuple[frozenset[str], bool]:
    entries = await connection.list()
    return frozenset(str(entry.name) for entry in entries if entry.is_selectable), connection.offers("X-GM-EXT-1")


async def _seen(message: Message, folders: Sequence[str]) -> list[Seen]:
    with message.open() as file:
        size = file.seek(0, 2)
        file.seek(0)
        digest = await asyncio.to_thread(digest_of_file, file) if size > _THREAD_BYTES else digest_of_file(file)
    flags = " ".join(sorted(flag.lower() for flag in message.flags if flag.lower() != "\\recent"))
    arrived = seconds_of(message)
    return [Seen(folder, message.mailbox, message.uid, digest, size, arrived, flags) for folder in folders]
