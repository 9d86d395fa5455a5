"""Starting, restarting and ending one PostgreSQL.

Invariants: the postmaster is our child and shuts down when we die, whatever the way; after `stop` neither it nor a
process of its own is left, nor a file. `restart` and `crash` keep the port and the data.
"""

from __future__ import annotations

import functools
import itertools
import os
import pwd
import re
import shutil
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from child_server import HOST, ChildServer, dies_with_us, free_ports

if TYPE_CHECKING:
    from collections.abc import Sequence

USER = "imapipe"
# The account of the distribution's package: as root PostgreSQL refuses to run.
SYSTEM_USER = "postgres"
_STOP_TIMEOUT_SECONDS = 20.0
# Where Debian and others keep the programs of each version, which are not on the PATH.
_FOLDERS = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/usr/lib/postgresql/bin")
_SETTINGS = """
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
max_connections = 200
shared_buffers = 64MB
fsync = off
full_page_writes = off
autovacuum_naptime = 5s
log_line_prefix = '%m [%p] '
"""


@functools.cache
def find_postgres() -> Path | None:
    """Find the folder of PostgreSQL's server programs, the newest version; None where it is not installed."""
    if (program := shutil.which("postgres")) is not None:
        return Path(program).resolve().parent
    found = [folder for pattern in _FOLDERS for folder in Path("/").glob(pattern[1:]) if (folder / "postgres").exists()]
    return max(found, key=_version, default=None)


class PostgresServer(ChildServer):
    """One PostgreSQL on loopback; whoever connects is let in. What it holds survives `crash`, not a loss of power.

    Attributes:
        entrance: Where clients are sent to, if something stands between: the port of that; else 0.
    """

    NAME = "PostgreSQL"

    def __init__(self, *, settings: str = "") -> None:
        """Prepare a server.

        Args:
            settings: More lines for its postgresql.conf.

        Raises:
            FileNotFoundError: PostgreSQL is not installed; see `find_postgres`.
        """
        programs = find_postgres()
        if programs is None:
            msg = "PostgreSQL is not installed; on Debian and Ubuntu: apt install postgresql"
            raise FileNotFoundError(msg)
        super().__init__()
        self._programs = programs
        self._settings = _SETTINGS + settings
        self._numbers = itertools.count(1)
        self._port = 0
        self.entrance = 0

    def stop(self) -> None:
        """End the server and all its processes, and remove its files; harmless when done already."""
        super().stop()
        self._port = 0

    def crash(self) -> None:
        """End it at once, as a crash would: every client loses its connection, and whoever dials is refused."""
        self._end(signal.SIGQUIT)

    def restart(self) -> None:
        """Start it again on its port and its data, after ending it (politely) where it runs."""
        self._end(signal.SIGINT)
        self._launch(last=True)

    @property
    def port(self) -> int:
        """Where clients find it; 0 until it is started."""
        return self.entrance or self._port

    @property
    def is_running(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.poll() is None

    def url(self, database: str = "postgres") -> str:
        """The URL of a database."""
        return f"postgresql://{USER}@{HOST}:{self.port}/{database}"

    def new_database(self) -> str:
        """Make an empty database; gives its URL."""
        name = f"database_{next(self._numbers)}"
        self.query(f"CREATE DATABASE {name}")
        return self.url(name)

    def query(self, statement: str, database: str = "postgres") -> str:
        """Run a statement with psql; gives its rows, a line each."""
        program = self._programs / "psql"
        done = subprocess.run(
            [str(program), "--no-psqlrc", "--quiet", "-At", "-c", statement, self.url(database)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            msg = f"{statement}: {done.stderr.strip()}"
            raise RuntimeError(msg)
        return done.stdout.strip()

    @property
    def _data(self) -> Path:
        return self.directory / "data"

    def _prepare(self) -> None:
        """Make a cluster of databases."""
        if os.geteuid() == 0:
            account = pwd.getpwnam(SYSTEM_USER)
            os.chown(self.directory, account.pw_uid, account.pw_gid)
        options = ("--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C", f"--username={USER}")
        made = subprocess.run(
            [*as_its_user(), str(self._programs / "initdb"), *options, str(self._data)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
        )
        if made.returncode != 0:
            msg = f"PostgreSQL's initdb failed:\n{made.stderr[-4000:]}"
            raise RuntimeError(msg)
        with (self._data / "postgresql.conf").open("a") as file:
            file.write(self._settings)

    def _choose_ports(self) -> None:
        (self._port,) = free_ports(1)

    def _command(self) -> Sequence[str]:
        return [*as_its_user(), str(self._programs / "postgres"), "-D", str(self._data), "-p", str(self._port)]

    def _serves(self, log: str) -> bool:
        return "database system is ready to accept connections" in log

    def _end_process(self, process: subprocess.Popen[bytes], how: signal.Signals | None) -> None:
        if process.poll() is None:
            process.send_signal(how or signal.SIGINT)
        try:
            process.wait(_STOP_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def as_its_user() -> list[str]:
    """How to run a program as the account of the package, so that it ends when we are killed and cannot end it."""
    user = [f"--reuid={SYSTEM_USER}", f"--regid={SYSTEM_USER}", "--init-groups"] if os.geteuid() == 0 else []
    before = dies_with_us("INT", *user)
    if user and not before:
        msg = "PostgreSQL does not run as root; install util-linux (setpriv), or run this as another user"
        raise RuntimeError(msg)
    return before


def _version(folder: Path) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", str(folder)))
