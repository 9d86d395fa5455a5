"""A PgBouncer in front of a PostgreSQL of ours: in transaction mode, so a client has another session for each one.

Invariant: its process ends with us, whatever the way; after `stop` no file of it is left.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from child_server import HOST, ChildServer, free_ports
from postgres_server.server import SYSTEM_USER, USER, PostgresServer, as_its_user

if TYPE_CHECKING:
    from collections.abc import Sequence

_STOP_TIMEOUT_SECONDS = 10.0
# Few sessions of the server for many clients: whoever counts on having one to himself finds out.
_SETTINGS = """
[databases]
* = host={host} port={server_port} user={user}

[pgbouncer]
listen_addr = {host}
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 3
max_client_conn = 1000
"""


def find_pgbouncer() -> Path | None:
    """Find the program; None where it is not installed."""
    found = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    return None if found is None else Path(found)


class PgBouncer(ChildServer):
    """One PgBouncer on loopback, in front of all databases of a server.

    Attributes:
        port: Where it listens.
    """

    NAME = "PgBouncer"

    def __init__(self, server: PostgresServer) -> None:
        """Prepare one.

        Args:
            server: A server that runs.

        Raises:
            FileNotFoundError: PgBouncer is not installed.
        """
        program = find_pgbouncer()
        if program is None:
            msg = "PgBouncer is not installed; on Debian and Ubuntu: apt install pgbouncer"
            raise FileNotFoundError(msg)
        super().__init__()
        self._program = program
        self._server = server
        self.port = 0

    def url(self, database: str) -> str:
        """The URL of a database, given by its name or by its URL at the server itself."""
        return f"postgresql://{USER}@{HOST}:{self.port}/{database.rpartition('/')[2]}"

    def _prepare(self) -> None:
        """Its folder is for the account of the server."""
        if os.geteuid() == 0:
            account = pwd.getpwnam(SYSTEM_USER)
            os.chown(self.directory, account.pw_uid, account.pw_gid)

    def _choose_ports(self) -> None:
        (self.port,) = free_ports(1)

    def _command(self) -> Sequence[str]:
        file = self.directory / "pgbouncer.ini"
        file.write_text(_SETTINGS.format(host=HOST, port=self.port, server_port=self._server.port, user=USER))
        return [*as_its_user(), str(self._program), str(file)]

    def _serves(self, log: str) -> bool:
        return _answers(self.port)

    def _end_process(self, process: subprocess.Popen[bytes], how: signal.Signals | None) -> None:
        if process.poll() is None:
            process.send_signal(how or signal.SIGTERM)
        try:
            process.wait(_STOP_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _answers(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), timeout=1).close()
    except OSError:
        return False
    return True
