"""Whose slots are free because nothing is heard of him any more. Blocking; for one thread at a time.

A process that is killed or cut off has no connections when its lease is over: the kernel has ended them, or it has done
so itself. One that is stopped (SIGSTOP, a debugger) has: its connections are open and servers count them. That can be
seen on its own machine only, where somebody who looks renews the lease in its place.

Invariants:

- A process is removed when it has been seen here, for a grace, that its lease is over and that it is not stopped. So
  who comes when nobody was there to see it looks first, and one that goes on in that moment has the time to end its
  connections.
- What is removed is what was looked at: one that was heard of meanwhile stays.
"""

from __future__ import annotations

from typing import Final

from imapipe.cluster.process import Process
from imapipe.cluster.slot_rows import Worker
from imapipe.database import Connection

# A server ends a connection by itself when nothing was said for so long: half an hour at least (RFC 9051 §5.4).
AUTOLOGOUT_MS: Final = 31 * 60_000


class Reaper:
    """Looks at the others, again and again.

    Args:
        worker: Who looks.
    """

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        # Since when each lease was seen to be over, by the worker's name and when it ended.
        self._over: dict[tuple[str, int], int] = {}

    def look(self, connection: Connection) -> None:
        """Renew the leases of the stopped ones of this machine; remove those that are gone, and free what they had.

        To be called more often than twice in a lease, so that one of a stopped process does not end meanwhile: other
        machines cannot see that it is stopped.
        """
        worker = self._worker
        late = connection.query(
            "SELECT worker, host, process, birth, seen_ms, expires_ms, now_ms() FROM imapipe_workers "
            "WHERE worker <> :worker AND expires_ms < now_ms() + :soon",
            {"worker": worker.name, "soon": worker.lease_ms // 2},
        )
        over: dict[tuple[str, int], int] = {}
        for name, host, number, birth, seen_ms, expires_ms, now_ms in late:
            if seen_ms > now_ms - AUTOLOGOUT_MS and Process(host, number, birth).is_stopped:
                connection.execute(
                    "UPDATE imapipe_workers SET expires_ms = now_ms() + :lease WHERE worker = :worker",
                    {"lease": worker.lease_ms, "worker": name},
                )
            elif expires_ms < now_ms:
                over[name, expires_ms] = now_ms
        gone = [key for key, now_ms in over.items() if now_ms - self._over.get(key, now_ms) > worker.grace_ms]
        self._over = over | {key: since_ms for key, since_ms in self._over.items() if key in over}
        if gone:
            _remove(connection, gone)


def _remove(connection: Connection, gone: list[tuple[str, int]]) -> None:
    with connection.transaction():
        for name, expires_ms in gone:
            connection.execute(
                "DELETE FROM imapipe_workers WHERE worker = :worker AND expires_ms = :expires",
                {"worker": name, "expires": expires_ms},
            )
        connection.execute(
            "DELETE FROM imapipe_slots WHERE NOT EXISTS "
            "(SELECT 1 FROM imapipe_workers WHERE imapipe_workers.worker = imapipe_slots.worker)"
        )
