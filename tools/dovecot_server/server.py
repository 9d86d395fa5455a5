"""Starting, filling and ending one Dovecot.

Invariants: the server's master process is our child and gets SIGTERM when we die, whatever the way; after `stop`
neither it nor a process of its own is left, nor a file.
"""

from __future__ import annotations

import functools
import imaplib
import itertools
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import psutil

from child_server import HOST, ChildServer, dies_with_us, free_ports
from dovecot_server.certificate import write_certificate
from dovecot_server.configuration import Settings, choose_accounts, configuration
from dovecot_server.maildir import Mail, write_mailbox

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

PASSWORD = "correct-horse"  # the same for every user; it guards nothing
UIDVALIDITY = 1_700_000_000
_STOP_TIMEOUT_SECONDS = 10.0
# The usual PATH of a user of Debian does not hold the folders of the daemons.
_DAEMON_FOLDERS = ("/usr/sbin", "/usr/local/sbin", "/sbin")
# Where its programs are, as seen from the folder of `dovecot` itself: Debian's place, and that of others.
_PROGRAM_FOLDERS = ("../lib/dovecot", "../libexec/dovecot")


@functools.cache
def find_dovecot() -> Path | None:
    """Find Dovecot with its IMAP half; None when it is not installed."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), *_DAEMON_FOLDERS])
    program = shutil.which("dovecot", path=path)
    if program is None:
        return None
    # dovecot-core alone, without dovecot-imapd, serves nothing.
    if not any(Path(program).parent.joinpath(folder, "imap").exists() for folder in _PROGRAM_FOLDERS):
        return None
    return Path(program)


class DovecotServer(ChildServer):
    """One Dovecot on loopback; every user name exists, with the password `password`.

    Attributes:
        host: Where it listens.
        port: Port for plain text and STARTTLS; 0 until it is started.
        tls_port: Port for TLS from the first byte; 0 until it is started.
        password: The password of every user.
        mail_owner: User and group number of what it keeps as mail; None where that is our own account.
        version: Its version, such as (2, 3, 19).
    """

    NAME = "Dovecot"
    LOGS = ("output.log", "dovecot.log")

    def __init__(self, *, compress: bool = True, max_connections_per_user: int = 1000, extra: str = "") -> None:
        """Prepare a server.

        Args:
            compress: Whether it offers COMPRESS=DEFLATE (Dovecot 2.4 always does).
            max_connections_per_user: More connections than this of one user are refused at login.
            extra: More lines for its dovecot.conf, in the dialect of the installed version.

        Raises:
            FileNotFoundError: Dovecot is not installed; see `find_dovecot`.
        """
        program = find_dovecot()
        if program is None:
            msg = "Dovecot is not installed; on Debian and Ubuntu: apt install dovecot-imapd"
            raise FileNotFoundError(msg)
        super().__init__()
        self._program = program
        self._compress = compress
        self._max_connections_per_user = max_connections_per_user
        self._extra = extra
        self._accounts = choose_accounts()
        self.mail_owner = (self._accounts.mail_uid, self._accounts.mail_gid) if os.geteuid() == 0 else None
        self._user_numbers = itertools.count(1)
        self.host = HOST
        self.port = 0
        self.tls_port = 0
        self.password = PASSWORD
        self.version = _version(program)

    def stop(self) -> None:
        """End the server and all its processes, and remove its files; harmless when done already."""
        super().stop()
        self.port = self.tls_port = 0

    @property
    def certificate_file(self) -> Path:
        """The self-signed certificate, for `localhost` and `127.0.0.1`, as PEM."""
        return self.directory / "certificate.pem"

    def ssl_context(self) -> ssl.SSLContext:
        """Make a client's context that trusts this server alone."""
        return ssl.create_default_context(cafile=str(self.certificate_file))

    def url(self, user: str, *, tls: bool = False) -> str:
        """Give the URL of an account: `imap://` with the plain port, or `imaps://`."""
        scheme, port = ("imaps", self.tls_port) if tls else ("imap", self.port)
        return f"{scheme}://{quote(user, safe='')}@{self.host}:{port}"

    def new_user(self, prefix: str = "user") -> str:
        """Give the name of a user that nobody has used yet, with an empty INBOX."""
        return f"{prefix}{next(self._user_numbers)}"

    def login(self, user: str) -> imaplib.IMAP4:
        """Connect with the standard library's client, in plain text, and log in."""
        client = imaplib.IMAP4(self.host, self.port, timeout=60)
        try:
            client.login(user, self.password)
        except BaseException:
            client.shutdown()
            raise
        return client

    def fill(
        self, user: str, mailbox: str, mails: Iterable[Mail | bytes], *, uidvalidity: int = UIDVALIDITY
    ) -> list[int]:
        """Make a mailbox with messages in it, written straight to disk.

        Args:
            user: Whose mailbox it is.
            mailbox: Its name as on the wire (so in modified UTF-7), levels separated by `/`; it must not exist yet,
                and nobody may have logged in as this user before their INBOX is filled.
            mails: The messages; each may say its flags, date and UID, and by default the i-th message has UID i.
            uidvalidity: The UIDVALIDITY of the mailbox.

        Returns:
            The UIDs, in the order of the messages.

        Raises:
            FileExistsError: The mailbox exists.
            ValueError: The name cannot be a Maildir's, or a message cannot be stored as asked.
        """
        if "." in mailbox:
            msg = f"a Maildir's levels are separated by dots, so none can be in a name: {mailbox}"
            raise ValueError(msg)
        root = self.directory / "home" / user / "Maildir"
        root.mkdir(parents=True, exist_ok=True)
        if self.mail_owner is not None:
            os.chown(root.parent, *self.mail_owner)
            os.chown(root, *self.mail_owner)
        folder = root if mailbox.upper() == "INBOX" else root / f".{mailbox.replace('/', '.')}"
        return write_mailbox(folder, mails, uidvalidity=uidvalidity, owner=self.mail_owner)

    def import_maildir(self, user: str, folder: Path) -> None:
        """Copy the messages of a Maildir to the end of a user's INBOX, in whatever format this server keeps mail.

        In an INBOX that was empty before they get UIDs from 1, in the order of those they had; none of them is left
        `\\Recent`. The server must run.

        Raises:
            RuntimeError: It could not be done; the text holds what was said.
        """
        program = self._program.parent.joinpath("../bin/doveadm")
        command = [str(program), "-c", str(self.directory / "dovecot.conf"), "import", "-u", user]
        done = subprocess.run(
            [*command, f"maildir:{folder.resolve()}", "", "all"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            msg = f"the mail in {folder} could not be imported: {done.stderr.strip()}"
            raise RuntimeError(msg)
        # Whoever selects the mailbox first takes the flag from them.
        client = self.login(user)
        client.select()
        client.logout()

    def _prepare(self) -> None:
        """Make the folders and the certificate."""
        # The processes of other accounts pass through; only the owner may look around.
        self.directory.chmod(0o711)
        home = self.directory / "home"
        home.mkdir()
        (self.directory / "state").mkdir()
        if self.mail_owner is not None:
            os.chown(home, *self.mail_owner)
        write_certificate(self.certificate_file, self.directory / "key.pem")

    def _choose_ports(self) -> None:
        self.port, self.tls_port = free_ports(2)

    def _command(self) -> Sequence[str]:
        settings = Settings(
            version=self.version,
            directory=self.directory,
            port=self.port,
            tls_port=self.tls_port,
            password=self.password,
            accounts=self._accounts,
            compress=self._compress,
            max_connections_per_user=self._max_connections_per_user,
            extra=self._extra,
        )
        file = self.directory / "dovecot.conf"
        file.write_text(configuration(settings))
        return [*dies_with_us("TERM"), str(self._program), "-F", "-c", str(file)]

    def _serves(self, log: str) -> bool:
        return _greets(self.port)

    def _end_process(self, process: subprocess.Popen[bytes], how: signal.Signals | None) -> None:
        _end(process)


def _version(program: Path) -> tuple[int, ...]:
    text = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    # "2.3.19.1 (9b53102964)" or "2.4.1-4 (7d8c0e5759)"
    return tuple(int(number) for number in re.findall(r"\d+", text.split("-", maxsplit=1)[0].split(maxsplit=1)[0])[:3])


def _greets(port: int) -> bool:
    try:
        with socket.create_connection((HOST, port), timeout=5) as connection:
            return connection.recv(4) == b"* OK"
    except OSError:
        return False


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the master and every process it has, at once: there is no mail to save.

    Asked politely, Dovecot takes a second, and ten for a process whose client is still connected.
    """
    try:
        family = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        family = []
    if process.poll() is None:
        # It leads the process group that `start_new_session` made; no other process can be in it.
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for each in _running(family, timeout_seconds=_STOP_TIMEOUT_SECONDS):
        each.kill()


def _running(processes: list[psutil.Process], *, timeout_seconds: float) -> list[psutil.Process]:
    """Wait for processes that are not our children; give those that still run when the time is over."""
    deadline = time.monotonic() + timeout_seconds
    while processes := [each for each in processes if _runs(each)]:
        if time.monotonic() > deadline:
            break
        time.sleep(0.01)
    return processes


def _runs(process: psutil.Process) -> bool:
    # A zombie has ended; when its entry goes away is up to the init process.
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
