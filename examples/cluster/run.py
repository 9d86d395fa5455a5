"""A cluster on one machine that is troubled all the time, and the proof that nothing was lost.

    python examples/cluster/run.py                                   # half a minute
    python examples/cluster/run.py --messages 4000 --times 90 --json # 200,000 messages

It starts PostgreSQL (from the distribution's package), a mail server for each account and the workers (`imapipe
worker`), all on loopback, and asks for one job for each account. Again and again, as they get on, something goes wrong:
a worker is killed (`kill -9`), frozen for longer than its lease, or its event loop blocked; the database is restarted;
the network to it is cut. When all jobs have ended, it compares what the handlers wrote down, what the mail servers saw
and what the database was told with what is promised. The exit status is 0 where every promise was kept.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

# The starter of a real PostgreSQL, which the tests use too.
sys.path.append(str(Path(__file__).parents[2] / "tools"))

from experiment import Result, run
from stage import Setting
from trouble import KINDS


def table(result: Result) -> str:
    """What came of it, for people."""
    lines = [
        f"{'held' if finding.holds else 'BROKEN':7} {finding.promise}\n        {finding.measured}"
        for finding in result.findings
    ]
    figures = result.figures
    troubles = ", ".join(f"{count} x {kind}" for kind, count in result.trouble.items()) or "none"
    total, seconds = f"{figures['messages']:,.0f} messages", f"{figures['seconds']:.1f} s"
    pace = f"{total} in {seconds}, {figures['messages_per_second']:,.0f} a second"
    rest = f"{figures['tasks']:.0f} tasks, {figures['repeated']:,.0f} messages handled twice"
    lines += [f"trouble: {troubles}", f"{pace}; {rest}"]
    return "\n".join(lines)


def main() -> int:
    """Read the arguments, run, and tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--accounts", type=int, default=50)
    parser.add_argument("--messages", type=int, default=400, help="of each account, on average")
    parser.add_argument("--concurrency", type=int, default=10, help="tasks that a worker has in hand at once")
    parser.add_argument("--lease-seconds", type=float, default=3.0)
    parser.add_argument("--connection-bytes-per-second", type=float, default=100_000.0, help="of a mail server")
    parser.add_argument("--latency-ms", type=float, default=5.0, help="of a mail server")
    parser.add_argument(
        "--trouble", default=",".join(KINDS), metavar="KINDS", help=f"some of {','.join(KINDS)}, or none"
    )
    parser.add_argument("--times", type=int, default=15, help="how often there is trouble, evenly over the messages")
    parser.add_argument("--seed", type=int, default=1, help="chooses the trouble")
    parser.add_argument("--no-rates", action="store_true", help="no account has a rate")
    parser.add_argument("--only-look", action="store_true", help="leave all mailboxes out: what a look costs")
    parser.add_argument("--idle-seconds", type=float, default=0.0, help="watch idle workers first")
    parser.add_argument("--timeout-seconds", type=float, default=1800.0)
    parser.add_argument("--folder", type=Path, help="keep what is written: logs, and what was handled")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args()
    trouble = () if options.trouble == "none" else tuple(options.trouble.split(","))
    if unknown := set(trouble) - set(KINDS):
        parser.error(f"there is no trouble of the kind {', '.join(sorted(unknown))}")
    setting = Setting(
        workers=options.workers,
        accounts=options.accounts,
        messages=options.messages,
        concurrency=options.concurrency,
        lease_seconds=options.lease_seconds,
        connection_bytes_per_second=options.connection_bytes_per_second,
        latency_ms=options.latency_ms,
        trouble=trouble,
        times=options.times,
        seed=options.seed,
        has_rates=not options.no_rates,
        only_look=options.only_look,
        idle_seconds=options.idle_seconds,
        timeout_seconds=options.timeout_seconds,
    )

    def tell(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    with TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        result = run(setting, folder, tell)
    if options.json:
        document = {
            "setting": asdict(setting),
            "holds": result.holds,
            "findings": [asdict(finding) for finding in result.findings],
            "trouble": result.trouble,
            "figures": result.figures,
        }
        print(json.dumps(document, indent=2))
    else:
        print(table(result))
    return 0 if result.holds else 1


if __name__ == "__main__":
    sys.exit(main())
