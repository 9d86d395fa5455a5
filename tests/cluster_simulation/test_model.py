"""The simulation of the cluster, where arithmetic alone says what must come out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cluster_simulation import Account, Cost, Costs, Fleet, Load, simulate, uneven_accounts
from cluster_simulation.measure import solve
from cluster_simulation.model import parts_of

# Nothing costs anything but what a test is about.
FREE = Costs(
    machine="none",
    worker=Cost(message=1e-9),
    server=Cost(),
    database=Cost(),
    writes=Cost(),
    idle_database=0.0,
    idle_writes=0.0,
    pickup_seconds=0.0,
    task_seconds=0.0,
    round_trips=0.0,
    start_seconds=1.0,
)
ALIKE = Load(accounts=(Account(1000),) * 10, connection_messages_per_second=100)
FAST = replace(ALIKE, connection_messages_per_second=1e6)


def test_connections_set_the_pace_where_nothing_else_does() -> None:
    assert simulate(ALIKE, Fleet(workers=1), FREE).seconds == pytest.approx(1000 / 400, rel=1e-3)
    two = simulate(ALIKE, Fleet(workers=1, task_connections=2), FREE)
    assert two.seconds == pytest.approx(1000 / 200, rel=1e-3)


def test_the_rate_of_an_account_is_shared_by_its_tasks() -> None:
    load = replace(ALIKE, accounts=(Account(1000, messages_per_second=50.0),) * 10, parts=5)
    made = simulate(load, Fleet(workers=3), FREE)
    assert made.seconds == pytest.approx(1000 / 50, rel=1e-3)
    assert made.tasks == 60
    # Each 50 ms of a rate are reserved in the database.
    assert made.database_writes == pytest.approx(10 * 1000 / (50 * 0.05))


def test_a_worker_has_one_processor_and_a_machine_as_many_as_it_has() -> None:
    costs = replace(FREE, worker=Cost(message=0.001))
    assert simulate(FAST, Fleet(workers=1), costs).seconds == pytest.approx(10, rel=1e-3)
    assert simulate(FAST, Fleet(workers=2), costs).seconds == pytest.approx(5, rel=1e-3)
    shared = Fleet(workers=4, workers_per_machine=4, processors=2)
    made = simulate(replace(FAST, accounts=FAST.accounts * 4), shared, costs)
    assert made.seconds == pytest.approx(20, rel=1e-3)
    assert made.workers_busy == pytest.approx(0.5, rel=1e-3)


def test_servers_on_the_same_machine_take_their_part() -> None:
    costs = replace(FREE, worker=Cost(message=0.001), server=Cost(message=0.003))
    made = simulate(FAST, Fleet(workers=2, servers_share=True, processors=2), costs)
    assert made.seconds == pytest.approx(10 * 1000 * 0.004 / 2, rel=1e-3)


def test_setting_up_needs_a_processor_and_waiting_does_not() -> None:
    costs = replace(FREE, worker=Cost(message=1e-9, look=0.1, task=0.1), round_trips=10)
    load = replace(ALIKE, accounts=(Account(1),) * 100, round_trip_seconds=0.05)
    made = simulate(load, Fleet(workers=1, concurrency=100), costs)
    assert made.seconds == pytest.approx(2 * (0.5 + 100 * 0.1) + 1 / 400, rel=1e-3)
    assert made.start_p95_seconds == 0


def test_who_waits_for_a_free_place_is_seen_in_the_wait() -> None:
    load = replace(ALIKE, accounts=ALIKE.accounts[:4])
    made = simulate(load, Fleet(workers=1, concurrency=1), FREE)
    assert made.seconds == pytest.approx(4 * 2.5, rel=1e-3)
    # Every job has had a look before the first has its messages.
    assert made.start_p95_seconds == pytest.approx(0, abs=1e-3)
    late = (*load.accounts[:3], replace(load.accounts[3], deferred_at=1.0))
    made = simulate(replace(load, accounts=late), Fleet(workers=1, concurrency=1), FREE)
    assert made.start_p95_seconds == pytest.approx(7.5 - 1.0, rel=1e-3)


def test_a_database_that_is_slow_lets_tasks_wait() -> None:
    costs = replace(FREE, database=Cost(look=0.2, task=0.1), writes=Cost(0.01, 2, 4), idle_writes=0.5)
    load = replace(ALIKE, accounts=(Account(1),) * 100)
    made = simulate(load, Fleet(workers=1, concurrency=1000, database_processors=1), costs)
    # A hundred looks are taken one after the other, each before any has ended.
    assert made.start_p95_seconds == pytest.approx(0.1 * 96, rel=0.02)
    assert made.database_writes == pytest.approx(100 * (2 + 4) + 100 * 0.01 + 0.5 * made.seconds)


def test_deaths_lose_nothing_repeat_some_and_cost_a_lease() -> None:
    # All alike: where a task more or less decides what comes last, a death may even make the end come earlier.
    load = Load(accounts=uneven_accounts(200, 20_000, spread=0), connection_messages_per_second=100)
    calm = simulate(load, Fleet(workers=5), FREE)
    fleet = Fleet(workers=5, hours_between_deaths=0.2, lease_seconds=30, repeated_per_task=250)
    deadly = simulate(load, fleet, FREE)
    assert (deadly.messages, deadly.tasks) == (calm.messages, calm.tasks)
    assert calm.repeated == 0 < deadly.repeated
    assert deadly.seconds > calm.seconds
    assert simulate(load, fleet, FREE) == deadly


def test_sizes_have_the_mean_that_was_asked_for_and_shards_have_all_of_them() -> None:
    sizes = [account.messages for account in uneven_accounts(20_000, 2000)]
    assert sum(sizes) / len(sizes) == pytest.approx(2000, rel=0.1)
    assert max(sizes) > 50 * 2000
    assert list(parts_of(45_000, ALIKE)) == [15_000] * 3
    assert sum(parts_of(45_001, replace(ALIKE, parts=7))) == 45_001
    assert list(parts_of(2, replace(ALIKE, parts=7))) == [1, 1]


def test_what_runs_costs_by_the_second_whatever_it_does() -> None:
    costs = replace(
        FREE,
        worker=Cost(1e-3, running_second=0.05),
        writes=Cost(running_second=2.0),
        database=Cost(running_second=0.01),
    )
    made = simulate(ALIKE, Fleet(workers=1, database_processors=1), costs)
    # Ten tasks need half of the processor, and 10,000 messages the other half.
    assert made.seconds == pytest.approx(10_000 * 1e-3 / 0.5, rel=1e-3)
    assert made.workers_busy == pytest.approx(1, rel=1e-3)
    assert made.database_busy == pytest.approx(0.1, rel=1e-3)
    assert made.database_writes == pytest.approx(2 * 10 * made.seconds, rel=1e-3)


def test_three_runs_tell_three_costs() -> None:
    cost = Cost(2.0, 0.0, 30.0, 0.5)
    runs = [
        {"messages": 1000.0, "tasks": 4.0, "jobs": 2.0, "running_seconds": 3.0},
        {"messages": 10.0, "tasks": 300.0, "jobs": 100.0, "running_seconds": 9.0},
        {"messages": 50.0, "tasks": 6.0, "jobs": 1.0, "running_seconds": 400.0},
    ]
    spent = [cost.of(run["messages"], 0, run["tasks"] - run["jobs"], run["running_seconds"]) for run in runs]
    assert solve(runs, spent) == pytest.approx((2.0, 30.0, 0.5))
    assert solve(runs, [0.0, -1.0, 0.0])[1] == 0


def test_costs_are_kept_in_a_file(tmp_path: Path) -> None:
    FREE.save(tmp_path / "costs.json")
    assert Costs.load(tmp_path / "costs.json") == FREE
