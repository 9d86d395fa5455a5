"""The simulation: tasks wait in a queue, run on workers, and share what is scarce.

A job is for all messages of an account. It begins with a task that looks at the mailboxes; when that has ended there
are the others, each of which is a number of messages. A task waits for its server, then it is set up, which needs a
processor, then its messages flow. Their speed is the least of three: what its connections carry, its part of the
account's rate, and its part of the processors. Speeds change only when a task goes from one of these to the next or a
worker dies, so these are the events; between two of them everything flows evenly.

What is left out: messages of different sizes, the order in which one account's tasks are queued, and a database that
is slow for other reasons than load. It is one queue for taking and ending tasks; what flows (saves, leases, rates)
takes its part of the database's processor and slows that queue down.

Invariant: every message of every task is handled, some twice; the same arguments give the same prediction.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from cluster_simulation.costs import Costs

# A database that is busier than this is taken as busy as this: it answers late, but it answers.
_BUSIEST: Final = 0.97
# So much of a processor is left for work in any case.
_LEAST: Final = 0.02
# An account with a rate reserves what so long a time is worth at once (`cluster.Limits.rate`): a row each time.
_QUANTUM_SECONDS: Final = 0.05


@dataclass(frozen=True, slots=True)
class Account:
    """One account, and when all of it is asked for.

    Attributes:
        messages: How many messages it has.
        connections: How many connections its server allows.
        messages_per_second: The rate that it may be read at, over all connections.
        deferred_at: When it is asked for, in seconds from the beginning.
    """

    messages: int
    connections: int = 4
    messages_per_second: float = math.inf
    deferred_at: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What is to be done.

    Attributes:
        accounts: The accounts; see `uneven_accounts`.
        parts: Into how many tasks an account is divided, however small it is, beside the one that looks.
        shard_messages: No task has more messages than this.
        connection_messages_per_second: What one connection carries.
        round_trip_seconds: To the mail server and back.
        seed: Chooses when workers die.
    """

    accounts: tuple[Account, ...]
    parts: int = 1
    shard_messages: int = 20_000
    connection_messages_per_second: float = 250.0
    round_trip_seconds: float = 0.05
    seed: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """The machines.

    Attributes:
        workers: How many workers (processes), each on a processor of its own at most.
        concurrency: Tasks that a worker has in hand at once.
        task_connections: Connections that one task uses at most.
        workers_per_machine: How many of them share a machine.
        processors: Processors of each machine.
        servers_share: Whether mail servers and database share the (only) machine, as in the example.
        database_processors: Processors of the database's machine.
        hours_between_deaths: How long a worker lives, on average.
        lease_seconds: After so long another worker goes on with what a dead one had in hand.
        repeated_per_task: Messages that are handled twice for each task of a dead worker.
    """

    workers: int
    concurrency: int = 20
    task_connections: int = 4
    workers_per_machine: int = 1
    processors: float = 1.0
    servers_share: bool = False
    database_processors: float = 4.0
    hours_between_deaths: float = math.inf
    lease_seconds: float = 30.0
    repeated_per_task: float = 258.0


@dataclass(frozen=True, slots=True)
class Prediction:
    """What comes of it.

    Attributes:
        seconds: From the first deferral to the end of the last task.
        messages: Messages that were handled, without the repeats.
        tasks: Tasks, each counted once.
        repeated: Messages that were handled twice.
        messages_per_second: `messages / seconds`.
        tasks_per_second: `tasks / seconds`.
        start_p50_seconds: From a job's being asked for to its start: half of the jobs.
        start_p95_seconds: The same: 95 of a hundred.
        database_writes: Rows written.
        database_writes_per_second: The same in a second.
        database_busy: The part of the database's processors that is in use.
        workers_busy: The part of the workers' processors that is in use.
    """

    seconds: float
    messages: int
    tasks: int
    repeated: float
    messages_per_second: float
    tasks_per_second: float
    start_p50_seconds: float
    start_p95_seconds: float
    database_writes: float
    database_writes_per_second: float
    database_busy: float
    workers_busy: float


@dataclass(slots=True, eq=False)
class _Task:
    account: int
    left: float
    deferred_at: float
    parts: tuple[int, ...] = ()  # what is to be deferred when it has ended
    wait: float = 0.0  # what it still waits for the server
    setting_up: float = 0.0  # seconds of a worker's processor that it still needs before its first message
    speed: float = 0.0  # seconds of setting up, or messages, in a second
    done: float = 0.0
    started_at: float = -1.0


@dataclass(slots=True, eq=False)
class _Worker:
    number: int
    running: list[_Task] = field(default_factory=list)
    is_alive: bool = True


@dataclass(slots=True, eq=False)
class _Machine:
    number: int
    workers: list[_Worker]
    at: float = 0.0
    version: int = 0
    flow: float = 0.0
    busy_seconds: float = 0.0


def uneven_accounts(
    count: int,
    messages: float,
    *,
    spread: float = 1.5,
    connections: int = 4,
    messages_per_second: float = math.inf,
    over_seconds: float = 0.0,
    seed: int = 1,
) -> tuple[Account, ...]:
    """Accounts whose sizes are spread log-normally: many small ones, and a heavy tail.

    Args:
        count: How many.
        messages: Of each, on average.
        spread: Sigma of the logarithm of the sizes; 0 is all alike.
        connections: What is allowed to each.
        messages_per_second: What is allowed to each.
        over_seconds: They are asked for evenly over so long a time; 0 is all at once.
        seed: Chooses the sizes.
    """
    chooser = random.Random(seed)
    # The mean of a log-normal distribution is exp(mu + sigma²/2).
    mu = math.log(messages) - spread**2 / 2
    sizes = (max(1, round(chooser.lognormvariate(mu, spread))) for _ in range(count))
    return tuple(
        Account(size, connections, messages_per_second, number / count * over_seconds)
        for number, size in enumerate(sizes)
    )


def parts_of(size: int, load: Load) -> Iterator[int]:
    """How many messages each task of an account of a size has."""
    count = max(min(load.parts, size), math.ceil(size / load.shard_messages))
    for number in range(count):
        yield size * (number + 1) // count - size * number // count


def simulate(load: Load, fleet: Fleet, costs: Costs) -> Prediction:
    """Predict what a fleet makes of a load."""
    return _Simulation(load, fleet, costs).run()


class _Simulation:
    def __init__(self, load: Load, fleet: Fleet, costs: Costs) -> None:
        self._load, self._fleet, self._costs = load, fleet, costs
        self._chooser = random.Random(load.seed + 1)
        workers = [_Worker(number) for number in range(fleet.workers)]
        step = fleet.workers if fleet.servers_share else fleet.workers_per_machine
        self._machines = [
            _Machine(number, workers[at : at + step]) for number, at in enumerate(range(0, fleet.workers, step))
        ]
        self._home = {worker.number: machine for machine in self._machines for worker in machine.workers}
        self._running: Counter[int] = Counter()  # tasks of an account that run now
        self._where: dict[int, Counter[int]] = {}  # and on which machines
        self._queue: deque[_Task] = deque()
        self._free: deque[_Worker] = deque(workers)  # one entry for each free place, in turns
        for _ in range(fleet.concurrency - 1):
            self._free.extend(workers)
        self._events: list[tuple[float, int, str, object]] = []
        self._order = 0
        self._waits: list[float] = []
        self._database_free_at = 0.0
        self._flow = 0.0  # processors of the database that are in use for what flows, now
        self._repeated = self._running_seconds = 0.0
        self._looks = self._taken = 0.0  # looks and other tasks; those of dead workers again
        self._messages = self._tasks = self._left = 0

    def run(self) -> Prediction:
        load, costs, fleet = self._load, self._costs, self._fleet
        for number, account in enumerate(load.accounts):
            parts = tuple(parts_of(account.messages, load))
            self._push(account.deferred_at, "defer", _Task(number, 0, account.deferred_at, parts))
            self._messages += account.messages
            self._tasks += 1 + len(parts)
        self._left = self._tasks
        if math.isfinite(fleet.hours_between_deaths):
            for machine in self._machines:
                for worker in machine.workers:
                    self._push(self._lifetime(), "death", worker)
        now = 0.0
        while self._left:
            now, _, kind, what = heapq.heappop(self._events)
            getattr(self, f"_on_{kind}")(now, what)
        seconds = max(now, 1e-9)
        spent = (self._messages + self._repeated, self._looks, self._taken, self._running_seconds)
        idle = fleet.workers * seconds
        database = costs.database.of(*spent) + idle * costs.idle_database
        # Where there is no rate, it is infinite, and nothing is reserved.
        reserved = sum(each.messages / (each.messages_per_second * _QUANTUM_SECONDS) for each in load.accounts)
        writes = costs.writes.of(*spent) + idle * costs.idle_writes + reserved
        self._waits.sort()
        return Prediction(
            seconds=seconds,
            messages=self._messages,
            tasks=self._tasks,
            repeated=self._repeated,
            messages_per_second=self._messages / seconds,
            tasks_per_second=self._tasks / seconds,
            start_p50_seconds=self._waits[len(self._waits) // 2],
            start_p95_seconds=self._waits[int(len(self._waits) * 0.95)],
            database_writes=writes,
            database_writes_per_second=writes / seconds,
            database_busy=database / seconds / fleet.database_processors,
            workers_busy=sum(machine.busy_seconds for machine in self._machines) / seconds / fleet.workers,
        )

    # -- events ----------------------------------------------------------------------------------------------------

    def _on_defer(self, now: float, what: object) -> None:
        assert isinstance(what, _Task)
        self._queue.append(what)
        self._start_some(now)

    def _on_start(self, now: float, what: object) -> None:
        """A task is in a worker's hands."""
        assert isinstance(what, tuple)
        task, worker = what
        if not worker.is_alive:
            self._again(now, task)
            return
        if task.started_at < 0 and task.parts:
            self._waits.append(now - task.deferred_at)
        task.started_at = now
        costs = self._costs
        task.wait = costs.task_seconds + costs.round_trips * self._load.round_trip_seconds
        machine = self._home[worker.number]
        self._advance(machine, now)
        task.setting_up = costs.worker.look if task.parts else costs.worker.task
        worker.running.append(task)
        self._count(task, machine, 1)
        self._reschedule(self._machines_of(task.account, machine), now)

    def _on_turn(self, now: float, what: object) -> None:
        """Something ends on a machine: a task's wait for its server, or a task."""
        assert isinstance(what, tuple)
        machine, version = what
        if version != machine.version:
            return
        self._advance(machine, now)
        touched = {machine.number: machine}
        for worker in machine.workers:
            for task in [
                task for task in worker.running if not task.wait and not task.setting_up and task.left <= 1e-6
            ]:
                worker.running.remove(task)
                self._count(task, machine, -1)
                touched |= {each.number: each for each in self._machines_of(task.account, machine)}
                self._left -= 1
                ended = self._at_database(now, task)
                for part in task.parts:
                    self._push(ended, "defer", _Task(task.account, part, ended))
                self._free.append(worker)
        self._reschedule(touched.values(), now)
        self._start_some(now)

    def _on_death(self, now: float, what: object) -> None:
        assert isinstance(what, _Worker)
        worker, machine = what, self._home[what.number]
        self._advance(machine, now)
        worker.is_alive = False
        touched = {machine.number: machine}
        for task in worker.running:
            self._count(task, machine, -1)
            touched |= {each.number: each for each in self._machines_of(task.account, machine)}
            repeated = min(task.done, self._fleet.repeated_per_task)
            task.left += repeated
            task.done -= repeated
            self._repeated += repeated
            self._again(now, task)
        worker.running.clear()
        self._free = deque(each for each in self._free if each is not worker)
        self._push(now + self._costs.start_seconds, "birth", worker)
        self._reschedule(touched.values(), now)

    def _on_birth(self, now: float, what: object) -> None:
        assert isinstance(what, _Worker)
        what.is_alive = True
        self._free.extend([what] * self._fleet.concurrency)
        self._push(now + self._lifetime(), "death", what)
        self._start_some(now)

    # -- what they do ----------------------------------------------------------------------------------------------

    def _push(self, at: float, kind: str, what: object) -> None:
        self._order += 1
        heapq.heappush(self._events, (at, self._order, kind, what))

    def _lifetime(self) -> float:
        return self._chooser.expovariate(1 / (self._fleet.hours_between_deaths * 3600))

    def _again(self, now: float, task: _Task) -> None:
        """A task of a dead worker: the next one gets it when the lease is over."""
        self._push(now + self._fleet.lease_seconds, "defer", task)

    def _start_some(self, now: float) -> None:
        while self._queue and self._free:
            task, worker = self._queue.popleft(), self._free.popleft()
            taken = self._at_database(now, task)
            self._push(taken + self._costs.pickup_seconds, "start", (task, worker))

    def _at_database(self, now: float, task: _Task) -> float:
        """A task is taken or ended there, each of which is half of what it costs; gives when that is done."""
        costs, fleet = self._costs, self._fleet
        seconds = 0.5 * (costs.database.look if task.parts else costs.database.task)
        if task.parts:
            self._looks += 0.5
        else:
            self._taken += 0.5
        beside = min(self._flow / fleet.database_processors, _BUSIEST)
        self._database_free_at = max(self._database_free_at, now) + seconds / fleet.database_processors / (1 - beside)
        return self._database_free_at

    def _count(self, task: _Task, machine: _Machine, by: int) -> None:
        self._running[task.account] += by
        places = self._where.setdefault(task.account, Counter())
        places[machine.number] += by
        if not places[machine.number]:
            del places[machine.number]
        if not self._running[task.account]:
            del self._running[task.account]
            del self._where[task.account]

    def _machines_of(self, account: int, machine: _Machine) -> list[_Machine]:
        """Where tasks of an account run, and that one."""
        numbers = {*self._where.get(account, ()), machine.number}
        return [self._machines[number] for number in numbers]

    def _advance(self, machine: _Machine, now: float) -> None:
        """Let flow what has flowed since the last event there."""
        passed, machine.at = now - machine.at, now
        if passed <= 0:
            return
        for worker in machine.workers:
            self._running_seconds += passed * len(worker.running)
            machine.busy_seconds += passed * len(worker.running) * self._costs.worker.running_second
            for task in worker.running:
                if task.wait:
                    task.wait = _less(task.wait, passed)
                elif task.setting_up:
                    machine.busy_seconds += min(task.setting_up, passed * task.speed)
                    task.setting_up = _less(task.setting_up, passed * task.speed)
                else:
                    moved = min(task.left, passed * task.speed)
                    task.left -= moved
                    task.done += moved
                    machine.busy_seconds += moved * self._costs.worker.message

    def _reschedule(self, machines: Iterable[_Machine], now: float) -> None:
        """What runs there has new speeds."""
        for machine in machines:
            self._advance(machine, now)
            self._flow -= machine.flow
            machine.flow = self._set_speeds(machine)
            self._flow += machine.flow
            machine.version += 1
            ends = [
                task.wait or (task.setting_up or task.left) / task.speed
                for worker in machine.workers
                for task in worker.running
            ]
            if ends:
                self._push(now + min(ends) + 1e-9, "turn", (machine, machine.version))

    def _set_speeds(self, machine: _Machine) -> float:
        """Give each task its speed; gives the processors of the database that are in use for all of them."""
        load, costs, fleet = self._load, self._costs, self._fleet
        # While a worker is busy with something, servers and database are so too, where they share the machine.
        of_message = of_looking = of_setting_up = of_running = 0.0
        if fleet.servers_share:
            of_message = costs.server.message + costs.database.message
            of_looking = (costs.server.look + costs.database.look) / max(costs.worker.look, 1e-9)
            of_setting_up = (costs.server.task + costs.database.task) / max(costs.worker.task, 1e-9)
            of_running = costs.server.running_second + costs.database.running_second
        total = 0.0  # processors that are wanted
        left = fleet.processors  # beside what is needed in any case
        for worker in machine.workers:
            wanted = beside = 0.0
            for task in worker.running:
                if task.wait:
                    task.speed = 0.0
                elif task.setting_up:
                    task.speed = 1.0
                    wanted += 1.0
                    beside += of_looking if task.parts else of_setting_up
                else:
                    account = load.accounts[task.account]
                    tasks = self._running[task.account]
                    connections = min(fleet.task_connections, account.connections / tasks)
                    carried = load.connection_messages_per_second * connections
                    task.speed = min(carried, account.messages_per_second / tasks)
                    wanted += task.speed * costs.worker.message
                    beside += task.speed * of_message
            # A worker is one process: it has one processor at most.
            running = len(worker.running)
            own = max(1 - running * costs.worker.running_second, _LEAST)
            part = min(1.0, own / wanted) if wanted else 1.0
            for task in worker.running:
                task.speed *= part
            total += (wanted + beside) * part
            left -= running * (costs.worker.running_second + of_running)
        part = min(1.0, max(left, _LEAST) / total) if total else 1.0
        flow = 0.0
        for worker in machine.workers:
            flow += len(worker.running) * costs.database.running_second
            for task in worker.running:
                task.speed *= part
                flow += 0.0 if task.wait or task.setting_up else task.speed * costs.database.message
        return flow


def _less(left: float, by: float) -> float:
    """What is left; nothing where it is too little for the arithmetic."""
    return left - by if left - by > 1e-9 else 0.0
