"""The command line: `python -m cluster_simulation predict|capacity|measure|check`."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from cluster_simulation.capacity import table
from cluster_simulation.check import check
from cluster_simulation.costs import COSTS_FILE, Costs
from cluster_simulation.measure import measure
from cluster_simulation.model import Fleet, Load, simulate, uneven_accounts


def main() -> int:
    """Do what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m cluster_simulation", description=__doc__)
    parser.add_argument("--costs", type=Path, default=COSTS_FILE, help="what things cost, as `measure` writes it")
    commands = parser.add_subparsers(dest="command", required=True)
    predict = commands.add_parser("predict", help="what a fleet makes of a load")
    _load_options(predict)
    predict.add_argument("--workers", type=int, default=3)
    predict.add_argument("--concurrency", type=int, default=20, help="tasks that a worker has in hand at once")
    predict.add_argument("--database-processors", type=float, default=4.0)
    predict.add_argument("--hours-between-deaths", type=float, default=24.0, help="of one worker")
    capacity = commands.add_parser("capacity", help="how many workers a load needs, as a table")
    _load_options(capacity, accounts=100_000, messages=50.0)
    capacity.add_argument("--database-processors", type=float, default=4.0)
    commands.add_parser("measure", help="write the costs anew: a minute, and PostgreSQL")
    checking = commands.add_parser("check", help="a prediction beside a real run of three workers")
    checking.add_argument("--messages", type=int, default=400, help="of each of 50 accounts")
    options = parser.parse_args()
    if options.command == "measure":
        costs = measure()
        costs.save(options.costs)
        print(json.dumps(asdict(costs), indent=2))
        return 0
    costs = Costs.load(options.costs)
    if options.command == "check":
        print(check(costs, messages=options.messages).table())
    elif options.command == "predict":
        load = _load(options)
        fleet = Fleet(
            workers=options.workers,
            concurrency=options.concurrency,
            database_processors=options.database_processors,
            hours_between_deaths=options.hours_between_deaths,
        )
        print(json.dumps(asdict(simulate(load, fleet, costs)), indent=2))
    else:
        print(table(_load(options), costs, database_processors=options.database_processors))
    return 0


def _load_options(parser: argparse.ArgumentParser, *, accounts: int = 50, messages: float = 4000.0) -> None:
    parser.add_argument("--accounts", type=int, default=accounts)
    parser.add_argument("--messages", type=float, default=messages, help="of an account, on average")
    parser.add_argument("--spread", type=float, default=1.5, help="sigma of the logarithm of the accounts' sizes")
    parser.add_argument("--connections", type=int, default=4, help="what a mail server allows an account")
    parser.add_argument("--connection-messages-per-second", type=float, default=250.0, help="what one carries")
    parser.add_argument("--account-messages-per-second", type=float, default=float("inf"), help="its rate")
    parser.add_argument("--round-trip-ms", type=float, default=50.0, help="to the mail server and back")
    parser.add_argument("--over-seconds", type=float, default=0.0, help="the accounts come evenly over so long")
    parser.add_argument("--parts", type=int, default=1, help="tasks of an account beside the one that looks at it")


def _load(options: argparse.Namespace) -> Load:
    return Load(
        accounts=uneven_accounts(
            options.accounts,
            options.messages,
            spread=options.spread,
            connections=options.connections,
            messages_per_second=options.account_messages_per_second,
            over_seconds=options.over_seconds,
        ),
        parts=options.parts,
        connection_messages_per_second=options.connection_messages_per_second,
        round_trip_seconds=options.round_trip_ms / 1000,
    )


if __name__ == "__main__":
    sys.exit(main())
