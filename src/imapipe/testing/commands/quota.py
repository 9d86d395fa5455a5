"""GETQUOTA and GETQUOTAROOT (RFC 9208)."""

from __future__ import annotations

from ..arguments import Arguments, Refused
from ..session import Done, Entry, Session
from ..structure import nstring
from .names import read_name


def _write_quota(session: Session) -> None:
    quota = session.server.quota
    if quota is None:
        return
    usage = quota.usage(session.server.mailboxes.values())
    pairs = " ".join(f"{name} {used} {limit}" for name, (used, limit) in usage.items())
    session.untagged(b"QUOTA " + nstring(quota.root.encode(), "quoted") + f" ({pairs})".encode("ascii"))


async def get_quota(session: Session, arguments: Arguments) -> Done:
    """GETQUOTA."""
    root = arguments.astring().decode("utf-8", "replace")
    arguments.end()
    quota = session.server.quota
    if quota is None or root != quota.root:
        raise Refused("Quota root doesn't exist", "NONEXISTENT")
    _write_quota(session)
    return Done("GETQUOTA completed")


async def get_quota_root(session: Session, arguments: Arguments) -> Done:
    """GETQUOTAROOT; like Dovecot it answers for names that do not exist too."""
    name = read_name(session, arguments)
    arguments.end()
    quota = session.server.quota
    root = b"" if quota is None else b" " + nstring(quota.root.encode(), "quoted")
    session.untagged(b"QUOTAROOT " + session.write_name(name) + root)
    _write_quota(session)
    return Done("GETQUOTAROOT completed")


COMMANDS: dict[str, Entry] = {
    "GETQUOTA": Entry(get_quota, "auth", "QUOTA"),
    "GETQUOTAROOT": Entry(get_quota_root, "auth", "QUOTA"),
}
