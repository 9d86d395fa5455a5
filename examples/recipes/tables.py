"""The metadata of every message of a mailbox as a table, for polars and DuckDB."""

import asyncio
import os

import duckdb
import polars

import imapipe
from imapipe import search as q
from imapipe import sinks


async def main() -> None:
    async with imapipe.create_pool(os.environ["IMAPIPE_URL"], password=os.environ["IMAPIPE_PASSWORD"]) as pool:
        job = pool.mailbox("INBOX").search(q.ALL).fetch("envelope", "flags", "size")
        report = await job.use(imapipe.Checkpoint("table.json"), imapipe.Retry()).run(sinks.Parquet("table"))
        if not report.complete:
            raise imapipe.Incomplete(report)
        if not report.planned:
            raise SystemExit("no messages")

    frame = polars.read_parquet("table/**/*.parquet")
    print(frame.height, "messages,", frame["size"].sum(), "bytes")
    print(duckdb.sql("SELECT year(date) AS year, count(*) FROM 'table/**/*.parquet' GROUP BY year ORDER BY year"))


asyncio.run(main())
