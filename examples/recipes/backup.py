"""Three accounts into Maildirs: run every night, it brings only what is new. For cron: `backup.py accounts.toml`."""

import asyncio
import sys
from pathlib import Path

import imapipe
from imapipe import search as q
from imapipe import sinks


async def back_up(account: imapipe.AccountSettings) -> bool:
    async with account.open_pool() as pool:
        job = pool.each("*", exclude=(r"\Junk", r"\Trash")).search(q.ALL).fetch("full")
        kept = imapipe.Checkpoint(f"backup/{account.name}.json")
        report = await job.use(kept, imapipe.Retry()).run(sinks.Maildir(f"backup/{account.name}"))
    print(account.name, report.done, "new,", report.failed, "failed")
    return report.complete


async def main() -> int:
    accounts = imapipe.load_accounts(sys.argv[1]).values()
    ended = await asyncio.gather(*map(back_up, accounts), return_exceptions=True)
    for account, end in zip(accounts, ended, strict=True):
        if isinstance(end, BaseException):
            print(account.name, end, file=sys.stderr)
    return 0 if all(end is True for end in ended) else 1


Path("backup").mkdir(exist_ok=True)
sys.exit(asyncio.run(main()))
