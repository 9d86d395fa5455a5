"""What somebody gave that cannot be used: URLs, accounts, addresses, searches."""

from __future__ import annotations

from imapipe.errors.base import ImapipeError


class InvalidURL(ImapipeError, ValueError):
    """The URL of an account cannot be used as it is."""


class AccountsError(ImapipeError, ValueError):
    """A file of accounts, or an account in it, cannot be used.

    Attributes:
        reason: What is wrong.
        path: The file, or "".
        account: The account in it, or "".
    """

    def __init__(self, reason: str, *, path: str = "", account: str = "") -> None:
        self.reason = reason
        self.path = path
        self.account = account
        where = " ".join(part for part in (path, f"[{account}]" if account else "") if part)
        super().__init__(f"{where}: {reason}" if where else reason)


class AutodiscoverFailed(ImapipeError):
    """Nobody says where the mailbox of an address is.

    Attributes:
        address: The address.
        tried: What was asked.
    """

    def __init__(self, address: str, tried: tuple[str, ...] = ()) -> None:
        self.address = address
        self.tried = tried
        asked = f" (asked: {', '.join(tried)})" if tried else ""
        super().__init__(f"nothing says where the mailbox of {address} is: give the URL of its server{asked}")


class InvalidSearch(ImapipeError, ValueError):
    """A search key, or the text of one, cannot be used as it is."""
