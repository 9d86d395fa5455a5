"""What goes wrong in the example: something of five kinds, in an order that a seed chooses, as the work gets on.

Not by the clock: on a slow machine workers would be troubled again before they had got on at all.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

from cable import Cable
from postgres_server import PostgresServer
from workers import Worker

KINDS: Final = ("killed", "frozen", "blocked", "database", "network")


class Trouble:
    """Troubles workers, database and network, one at a time.

    Args:
        workers: The workers.
        networks: The way of each worker to the database.
        database: The database.
        kinds: The kinds of trouble.
        times: How often there is trouble, if there is any kind of it.
        messages: How many messages there are; the trouble is spread over them.
        lease_seconds: What the leases of the workers are.
        seed: Chooses.

    Attributes:
        counts: How often there was trouble of which kind.
    """

    def __init__(
        self,
        workers: Sequence[Worker],
        networks: Sequence[Cable],
        database: PostgresServer,
        *,
        kinds: Sequence[str] = KINDS,
        times: int,
        messages: int,
        lease_seconds: float,
        seed: int,
    ) -> None:
        self._every_kind = kinds
        self._workers, self._networks, self._database = workers, networks, database
        self._lease_seconds = lease_seconds
        self._chooser = random.Random(seed)
        self._kinds: list[str] = []
        self._ends: dict[int, tuple[float, Callable[[], None]]] = {}  # what is to be ended when, by worker
        self._times, self._messages = times, messages
        self.counts: Counter[str] = Counter()

    def tick(self, handled: int) -> str:
        """End what is to be ended now, and make the next trouble when it is its turn; says which, or "" for none.

        Args:
            handled: How many messages were handled so far.
        """
        now = time.monotonic()
        for number, (at, end) in list(self._ends.items()):
            if now >= at:
                del self._ends[number]
                end()
        due = min(self._times, handled * (self._times + 1) // self._messages) if self._every_kind else 0
        if self.counts.total() >= due:
            return ""
        if not self._kinds:
            # Each kind once, then all again in another order.
            self._kinds = self._chooser.sample(self._every_kind, len(self._every_kind))
        kind = self._kinds.pop()
        said = self._trouble_database() if kind == "database" else self._trouble_worker(kind, now)
        if said:
            self.counts[kind] += 1
        else:
            self._kinds.append(kind)
        return said

    def end(self) -> None:
        """End all trouble that there is."""
        for _, end in self._ends.values():
            end()
        self._ends.clear()

    def _trouble_database(self) -> str:
        # Every other time without a good-bye.
        if self._chooser.random() < 0.5:
            self._database.crash()
        self._database.restart()
        return "the database was restarted"

    def _trouble_worker(self, kind: str, now: float) -> str:
        free = [number for number, each in enumerate(self._workers) if number not in self._ends and each.works]
        if not free:
            return ""
        number = self._chooser.choice(free)
        worker, network = self._workers[number], self._networks[number]
        longer = 1.6 * self._lease_seconds
        if kind == "killed":
            worker.kill()
            return f"worker {number + 1} was killed"
        if kind == "frozen":
            worker.freeze()
            self._ends[number] = (now + longer, worker.thaw)
            return f"worker {number + 1} stands still for {longer:g} s"
        if kind == "blocked":
            worker.block()
            self._ends[number] = (now + longer, lambda: None)
            return f"the event loop of worker {number + 1} is blocked for {longer:g} s"
        network.cut()
        # Shorter than the lease, or longer.
        seconds = self._chooser.choice((0.5 * self._lease_seconds, longer))
        reset = self._chooser.random() < 0.5
        self._ends[number] = (now + seconds, lambda: network.mend(reset=reset))
        return f"worker {number + 1} is cut off from the database for {seconds:g} s"
