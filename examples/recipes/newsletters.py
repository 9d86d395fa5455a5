"""Move 50,000 newsletters out of the way: look first, then move, and take it back with `newsletters.py undo`."""

import asyncio
import os
import sys

import imapipe
from imapipe import search as q

JOURNAL = "newsletters.jsonl"


async def main() -> None:
    async with imapipe.create_pool(os.environ["IMAPIPE_URL"], password=os.environ["IMAPIPE_PASSWORD"]) as pool:
        if "undo" in sys.argv:
            print((await imapipe.undo(JOURNAL, pool)).undone, "moved back")
            return
        moving = pool.mailbox("INBOX").search(q.from_("news@example.org")).use(imapipe.Retry()).move_to("Newsletters")
        plan = await moving.plan()
        print(plan.messages, "messages,", plan.total_bytes, "bytes:", *plan.commands[:1])
        if "move" in sys.argv:
            report = await moving.run(journal=JOURNAL, max_messages=60_000)
            print(report.done, "moved,", report.vanished, "gone before,", report.failed, "failed")


asyncio.run(main())
