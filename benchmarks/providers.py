"""A job on a server like each provider's: how long it takes, and how often it is refused and throttled.

    python -m benchmarks.providers [--messages 20000] [--write docs/rate_limits.md]

The servers are those of `imapipe.testing.provider_server`, with the words and limits of the provider, a hidden rate,
and sessions that end in the middle; the job has the layers that the documentation names, and is told nothing of the
limits: it has more connections than are allowed, and has to find the rate. `--write` puts the table into a page.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import imapipe
from benchmarks.table import markdown
from imapipe import search as q
from imapipe.testing import PROVIDERS, Bye, SyntheticMailbox, provider_server

MESSAGES: Final = 20_000
SIZE: Final = 2_000
CONNECTIONS: Final = 5
ALLOWED: Final = 3
# The FETCH commands at which a session ends.
SESSION_ENDS: Final = (4, 14, 24)
RATE: Final = 2_000
HEAD: Final = ("", "seconds", "messages/s", "connections refused", "batches throttled", "sessions ended", "complete")
_BEGIN: Final = "<!-- made by python -m benchmarks.providers -->\n"
_END: Final = "<!-- end -->\n"


@dataclass(frozen=True, slots=True)
class Figures:
    """What a job on one server came to.

    Attributes:
        report: Its report.
        refused: Logins that were refused.
        throttled: Commands that were answered with a throttle.
    """

    report: imapipe.RunReport
    refused: int
    throttled: int

    def cells(self, name: str) -> Sequence[str]:
        """The row of the table."""
        report = self.report
        return (
            name,
            f"{report.elapsed_seconds:.1f}",
            f"{report.messages_per_second:,.0f}",
            f"{self.refused}",
            f"{self.throttled}",
            f"{report.reconnects}",
            "yes" if report.complete else "no",
        )


async def measure(name: str, messages: int, *, rate: float = RATE) -> Figures:
    """Run the job on a server of this name."""
    words = PROVIDERS[name].session_words
    server = provider_server(
        name,
        SyntheticMailbox(messages, size=SIZE),
        max_connections=ALLOWED,
        messages_per_second=rate,
        faults=[Bye(words, command="UID FETCH", nth=number) for number in SESSION_ENDS],
    )
    async with server, imapipe.create_pool(server.url, password=server.password, max_size=CONNECTIONS) as pool:
        job = pool.mailbox("INBOX").search(q.ALL).fetch("full").use(imapipe.Retry(), imapipe.AdaptiveRateLimit())
        report = await job.run(_nothing)
    return Figures(report, server.counters.failed_logins, server.counters.throttled)


async def _nothing(message: imapipe.Message) -> None:
    """Take a message."""


def table(figures: dict[str, Figures]) -> str:
    """The table of the documentation."""
    return markdown(HEAD, [each.cells(name) for name, each in figures.items()])


def put(text: str, made: str) -> str:
    """A page with the table in the place that is marked for it."""
    before, begin, rest = text.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not (begin and end):
        raise ValueError("the page has no place that is marked for the table")
    return f"{before}{begin}\n{made}\n\n{end}{after}"


def main() -> None:
    """Measure one after the other, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=MESSAGES)
    parser.add_argument("--write", type=Path, metavar="PAGE")
    options = parser.parse_args()
    figures = {name: asyncio.run(measure(name, options.messages)) for name in PROVIDERS}
    made = table(figures)
    print(made)
    if options.write:
        options.write.write_text(put(options.write.read_text(encoding="utf-8"), made), encoding="utf-8")


if __name__ == "__main__":
    main()
