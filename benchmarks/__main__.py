"""The command line: `nox -s bench`, or `python -m benchmarks`."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Final

from benchmarks.calibration import calibrate
from benchmarks.changes import expected_of
from benchmarks.databases import Databases
from benchmarks.environment import commit, environment
from benchmarks.goals import verdicts
from benchmarks.job import CHANGES
from benchmarks.mailboxes import Mailboxes, mail_folder
from benchmarks.pairs import measure
from benchmarks.peers import ROOT, Peers
from benchmarks.publish import RESULTS, publish
from benchmarks.results import Results
from benchmarks.row import Row
from benchmarks.runner import Runner
from benchmarks.server import configuration_text, new_server
from benchmarks.sweeps import sweeps
from benchmarks.table import calibration_text, row_table, verdict_table
from benchmarks.works import works
from dovecot_server import find_dovecot

PAIRS: Final = 9
QUICK_PAIRS: Final = 3
DOCS: Final = ROOT / "docs"
_STORED_AS: Final = {"large": "bodies", "copy": "bodies"}  # works that are the same but for the size of the messages


def main() -> int:
    options = _parser().parse_args()
    rows = _chosen([*works(quick=options.quick), *sweeps(quick=options.quick)], options.only)
    if options.list:
        for row in rows:
            print(f"{row.name:24}{row.title}: {', '.join(entry.label for entry in row.entries)}")
        return 0
    if not rows:
        print(f"no row is called {', '.join(options.only)}; --list names them", file=sys.stderr)
        return 2
    if options.publish_only:
        publish(Results.load(DOCS / RESULTS), DOCS)
        return 0
    if find_dovecot() is None:
        print("Dovecot is not installed; on Debian and Ubuntu: apt install dovecot-imapd", file=sys.stderr)
        return 1
    results = _run(rows, options)
    if options.publish:
        publish(results, DOCS)
    return _judge(results) if options.check else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nox -s bench --", description="Measure imapipe against a Dovecot of its own."
    )
    parser.add_argument("--quick", action="store_true", help="smaller works, fewer peers: three minutes")
    parser.add_argument(
        "--check",
        action="store_true",
        help="compare with the goals; exit status 1 if one is missed that the ceiling meets",
    )
    parser.add_argument(
        "--only", action="append", default=[], metavar="NAME", help="a row, or a sweep such as rtt; repeat"
    )
    parser.add_argument(
        "--pairs", type=int, metavar="N", help=f"rounds of each row; {PAIRS}, or {QUICK_PAIRS} with --quick"
    )
    parser.add_argument("--list", action="store_true", help="name the rows and end")
    parser.add_argument("--publish", action="store_true", help="put the figures, tables and charts into docs/")
    parser.add_argument(
        "--publish-only", action="store_true", help="make tables and charts anew from the published figures"
    )
    parser.add_argument("--cache", type=Path, default=ROOT / ".bench", metavar="DIR", help="keeps mailboxes and peers")
    return parser


def _chosen(rows: list[Row], names: list[str]) -> list[Row]:
    """The rows of those names; a sweep's name stands for all of it."""
    if not names:
        return rows
    return [row for row in rows if any(row.name == name or row.name.startswith(f"{name}-") for name in names)]


def _run(rows: list[Row], options: argparse.Namespace) -> Results:
    rounds = options.pairs or (QUICK_PAIRS if options.quick else PAIRS)
    version = commit()
    mail = mail_folder(options.cache)
    with new_server(mail) as server, Databases() as databases:
        mailboxes = Mailboxes(options.cache, server)
        expected = {row.mailbox: mailboxes.prepare(row.mailbox) for row in rows if row.mailbox is not None}
        results = Results(environment=environment(server, configuration_text(server, mail)))
        for name, value in results.environment.items():
            print(f"{name}: {value}")
        for link in dict.fromkeys(row.link for row in rows if row.link is not None):
            results.calibration.append(calibrate(link))
            print(calibration_text(results.calibration[-1]))
        runner = Runner(server, Peers(options.cache), mail, databases)
        for row in rows:
            started = time.monotonic()
            wanted = expected[row.mailbox].get(_STORED_AS.get(row.work, row.work)) if row.mailbox else None
            if row.work in CHANGES and row.mailbox is not None:
                wanted = expected_of(row.mailbox.count)
            measured = measure(
                row,
                runner,
                wanted,
                port=server.tls_port if row.tls else server.port,
                rounds=rounds,
                quick=options.quick,
                commit=version,
            )
            results.rows[row.name] = measured
            print(
                f"\n{row.name}: {row.title} ({time.monotonic() - started:.0f} s)\n\n{row_table(measured)}", flush=True
            )
            # What was measured is not lost when the run is ended early.
            results.save(options.cache / "results.json")
    return results


def _judge(results: Results) -> int:
    judged = list(verdicts(results))
    print(f"\n{verdict_table(judged)}")
    beyond = sum(each.out_of_reach for each in judged)
    missed = sum(each.met is False for each in judged) - beyond
    unknown = sum(each.met is None for each in judged)
    print(f"\n{len(judged)} goals: {missed} missed, {beyond} missed by the ceiling too, {unknown} not measured")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
