r"""A real Dovecot on loopback, for the tests and the benchmarks; no part of the installed package.

Use::

    with DovecotServer() as server:
        user = server.new_user()
        server.fill(user, "INBOX", [b"Subject: one\r\n\r\nbody\r\n"])
        server.url(user)

Everything it writes sits in a temporary directory that `stop` removes; it listens on 127.0.0.1 only, on ports that
the system chose; and it ends with its owner, even when that is killed.
"""

from __future__ import annotations

from dovecot_server.maildir import Mail
from dovecot_server.server import DovecotServer, find_dovecot

__all__ = ["DovecotServer", "Mail", "find_dovecot"]
