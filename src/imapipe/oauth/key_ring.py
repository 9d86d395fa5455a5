"""The keyring of the system, by the package keyring (extra `imapipe[keyring]`). Blocking.

Invariant: no secret is in an exception.
"""

from __future__ import annotations

from imapipe.errors import AccountsError

_NEEDED = "it needs keyring: pip install 'imapipe[keyring]'"


def ask_keyring(service: str, user: str) -> str:
    """The secret that is kept for a service and a user, or "" where there is none.

    Raises:
        AccountsError: There is no keyring, or it cannot be opened.
    """
    try:
        # Only who has one needs it.
        import keyring  # noqa: PLC0415
    except ModuleNotFoundError:
        raise AccountsError(_NEEDED) from None
    try:
        return str(keyring.get_password(service, user) or "")
    except keyring.errors.KeyringError as error:
        raise AccountsError(f"the keyring of this system does not open: {error}") from error


def tell_keyring(service: str, user: str, secret: str) -> None:
    """Keep a secret in it; raises as `ask_keyring` does."""
    try:
        import keyring  # noqa: PLC0415
    except ModuleNotFoundError:
        raise AccountsError(_NEEDED) from None
    try:
        keyring.set_password(service, user, secret)
    except keyring.errors.KeyringError as error:
        raise AccountsError(f"the keyring of this system takes nothing: {type(error).__name__}") from None
