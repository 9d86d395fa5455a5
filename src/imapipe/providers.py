"""What is known of mail providers: their limits, and how people log in there, as data in one table.

It can be overridden wherever it is used, and an unknown host gets `UNKNOWN`. `docs/rate_limits.md` has what their
servers say when a limit is passed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class OAuthEndpoints:
    """Where an OAuth server gives access tokens for mail, and which rights are asked for. `{tenant}` stands for itself.

    Attributes:
        authorize_url: Where a person allows it (RFC 6749 §3.1).
        token_url: Where tokens are given (§3.2).
        device_url: Where a device without a browser begins (RFC 8628); "" where that is not allowed for mail.
        scopes: The rights that a person gives.
        application_scopes: Those of an application that needs no person; none where there is no such thing.
        parameters: What else the first URL is to hold, so that a refresh token comes.
        redirect_host: By which name this machine is known to it: `127.0.0.1` or `localhost`.
    """

    authorize_url: str
    token_url: str
    device_url: str = ""
    scopes: tuple[str, ...] = ()
    application_scopes: tuple[str, ...] = ()
    parameters: tuple[tuple[str, str], ...] = ()
    redirect_host: str = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Provider:
    """A mail provider.

    Attributes:
        name: What people call it.
        hosts: The ends of its IMAP servers' names.
        max_connections: How many connections of an account it allows at a time.
        bytes_per_day: How much may be fetched within a day; None where it does not say.
        connections: How many to use unless told otherwise.
        idle_seconds: When an IDLE is to be begun anew. RFC 2177 allows 29 minutes; Gmail ends some after 10, and what
            stands between (NAT, firewalls) forgets silent connections after 5.
        oauth: Where it gives access tokens, or None where it gives none for mail.
        domains: What addresses of its own end with.
        mail_exchangers: The ends of the names that MX records of other domains have, whose mail it keeps.
        app_password_url: Where a person makes a password for a program, or "".
        quota_words: What is in the refusal of an account that has fetched more than it may within a day, or "".
        quota_seconds: For how long it is refused, at most.
    """

    name: str
    hosts: tuple[str, ...]
    max_connections: int
    bytes_per_day: int | None = None
    connections: int = 4
    idle_seconds: float = 240.0
    oauth: OAuthEndpoints | None = None
    domains: tuple[str, ...] = ()
    mail_exchangers: tuple[str, ...] = ()
    app_password_url: str = ""
    quota_words: str = ""
    quota_seconds: float = 0.0


_GOOGLE: Final = OAuthEndpoints(
    "https://accounts.google.com/o/oauth2/v2/auth",
    "https://oauth2.googleapis.com/token",
    # Google forbids the scope of mail in the device flow.
    scopes=("https://mail.google.com/",),
    # Without both there is a refresh token at the first consent only.
    parameters=(("access_type", "offline"), ("prompt", "consent")),
)
_MICROSOFT: Final = OAuthEndpoints(
    "https://login.microsoftonline.com/{tenant}/oauth2/v2.0/authorize",
    "https://login.microsoftonline.com/{tenant}/oauth2/v2.0/token",
    "https://login.microsoftonline.com/{tenant}/oauth2/v2.0/devicecode",
    # The host of the scope is not that of the server.
    scopes=("https://outlook.office.com/IMAP.AccessAsUser.All", "offline_access"),
    application_scopes=("https://outlook.office365.com/.default",),
    # Of http://localhost it takes any port.
    redirect_host="localhost",
)
_YAHOO: Final = OAuthEndpoints(
    "https://api.login.yahoo.com/oauth2/request_auth",
    "https://api.login.yahoo.com/oauth2/get_token",
    scopes=("mail-r",),
    redirect_host="localhost",
)

PROVIDERS: Final = (
    Provider(
        "Gmail",
        ("imap.gmail.com", "imap.googlemail.com"),
        15,
        2_500_000_000,
        oauth=_GOOGLE,
        domains=("gmail.com", "googlemail.com"),
        mail_exchangers=("google.com", "googlemail.com"),
        app_password_url="https://myaccount.google.com/apppasswords",
        quota_words="exceeded command or bandwidth limits",
        quota_seconds=86_400.0,
    ),
    Provider(
        "Exchange Online",
        ("outlook.office365.com", "imap-mail.outlook.com", "outlook.office.com"),
        20,
        oauth=_MICROSOFT,
        domains=("outlook.com", "hotmail.com", "live.com", "msn.com"),
        mail_exchangers=("mail.protection.outlook.com", "olc.protection.outlook.com", "mx.microsoft"),
    ),
    Provider(
        "Yahoo",
        ("imap.mail.yahoo.com", "imap.aol.com", "export.imap.aol.com"),
        5,
        connections=2,
        oauth=_YAHOO,
        domains=("yahoo.com", "ymail.com", "rocketmail.com"),
        app_password_url="https://login.yahoo.com/account/security",
    ),
    Provider(
        "iCloud",
        ("imap.mail.me.com",),
        10,
        domains=("icloud.com", "me.com", "mac.com"),
        mail_exchangers=("mail.icloud.com",),
        app_password_url="https://account.apple.com/account/manage",
    ),
)
UNKNOWN: Final = Provider("", (), 10)


def provider_of_account(account: str) -> Provider:
    """The provider of an account, which is `user@host:port`."""
    return provider_of(account.rpartition("@")[2].rpartition(":")[0])


def quota_seconds(text: str) -> float | None:
    """For how long at most a provider refuses an account that it says this to; None where nobody is known to say so."""
    text = text.lower()
    return next((each.quota_seconds for each in PROVIDERS if each.quota_words and each.quota_words in text), None)


def provider_of(host: str) -> Provider:
    """The provider whose server this is, by its name; `UNKNOWN` for any other."""
    host = host.lower().rstrip(".")
    return next(
        (each for each in PROVIDERS if any(host == end or host.endswith(f".{end}") for end in each.hosts)), UNKNOWN
    )
