"""All texts into a slow async function, 32 in flight; killed and started again it goes on, and skips what is poison."""

import asyncio
import os

import imapipe
from imapipe import search as q


async def classify(text: str) -> None:
    await asyncio.sleep(0.01)
    if "unreadable" in text:
        raise ValueError("no language is this")


async def handle(message: imapipe.Message) -> None:
    await classify(message.text)


async def main() -> None:
    async with imapipe.create_pool(os.environ["IMAPIPE_URL"], password=os.environ["IMAPIPE_PASSWORD"]) as pool:
        job = pool.mailbox("INBOX").search(q.ALL).fetch("text")
        kept = imapipe.Checkpoint("texts.json", retry_failed=False)
        report = await job.use(kept, imapipe.Retry()).run(handle, concurrency=32)
    print(report.done, "done,", report.skipped, "before,", report.failed, "failed", report.failed_uids.text())


asyncio.run(main())
