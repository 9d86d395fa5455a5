"""What type checkers must refuse: an ignore that is not needed is an error of its own. Never run."""

from __future__ import annotations

import imapipe


def blocking(message: imapipe.Message) -> int:
    return message.uid


async def refused(pool: imapipe.Pool) -> None:
    job = pool.mailbox("INBOX").search()
    await job.run(blocking)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await job.run(len)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    job.fetch(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    job.use("Retry")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    job.search("UNSEEN")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await job.run(blocking, on_error="ignore")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    job.batch("many")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    pool.mailbox(b"INBOX")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    imapipe.create_pool("imaps://x", token=lambda: "x")  # type: ignore[arg-type, return-value]  # pyright: ignore[reportArgumentType]
    job.move_to(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    job.add_flags(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await job.run(print, on_done="Processed")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await job.move_to("A").run(on_done=imapipe.delete())  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
