"""The Dovecot of the suite: on loopback, its configuration pinned, its mail in the cache folder."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from dovecot_server import DovecotServer


def new_server(mail: Path) -> DovecotServer:
    """Prepare a server that keeps its mail below a folder; it runs while it is entered.

    In Dovecot's own format, mdbox: to open a file for each message, as it must with Maildir, costs it so much that the
    clients wait for it, and the best of them all look alike.

    Raises:
        FileNotFoundError: Dovecot is not installed.
        PermissionError: The account that serves the mail cannot reach the folder.
    """
    mail.mkdir(parents=True, exist_ok=True)
    probe = DovecotServer()
    if probe.mail_owner is not None:
        os.chown(mail, *probe.mail_owner)
        _check_reachable(mail.resolve())
    # The last word on a setting counts, and this comes last; 2.4 calls the first one by another name.
    if probe.version < (2, 4):
        extra = f"mail_location = mdbox:{mail.resolve()}/%u"
    else:
        extra = f"mail_driver = mdbox\nmail_path = {mail.resolve()}/%{{user}}"
    # A process of it ends at 256 MB otherwise, which is too little to open a million messages.
    return DovecotServer(extra=f"{extra}\ndefault_vsz_limit = 4G")


def configuration_text(server: DovecotServer, mail: Path) -> str:
    """The configuration it runs with; what differs from one machine and one start to the next is in capitals."""
    text = (server.directory / "dovecot.conf").read_text()
    text = text.replace(str(server.directory), "DIRECTORY").replace(str(mail.resolve()), "MAIL")
    return re.sub(r"port = \d+", "port = PORT", text).strip()


def _check_reachable(mail: Path) -> None:
    # Started by root, Dovecot reads mail as another user.
    for folder in (mail, *mail.parents):
        if not folder.stat().st_mode & stat.S_IXOTH:
            msg = f"{folder} is closed to other users, and Dovecot will not read mail as root; give another --cache"
            raise PermissionError(msg)
