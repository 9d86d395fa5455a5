"""`--autodiscover`: the server of an address that is given instead of a URL, for the commands that take one."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

import imapipe
from imapipe.cli.account import AccountOptions
from imapipe.cli.errors import Mistake
from imapipe.cli.options import ACCOUNT
from imapipe.cli.output import write_note

Autodiscover = Annotated[
    bool,
    typer.Option(
        "--autodiscover",
        help="Look up the server of an address, such as ann@example.org, which is given instead of a URL.",
        rich_help_panel=ACCOUNT,
    ),
]


async def with_server(account: AccountOptions, *, autodiscover: bool) -> AccountOptions:
    """The same account with the URL of its server.

    Raises:
        Mistake: Neither a URL nor an address that may be looked up; or nobody vouches for the server.
        AutodiscoverFailed: It is not found.
    """
    if "://" in account.url or "@" not in account.url:
        return account
    if not autodiscover:
        raise Mistake(f"{account.url} names no server: give its URL, or --autodiscover to have it looked up")
    if account.proxy is not None:
        raise Mistake("--autodiscover asks the DNS, which --proxy does not hide: give the URL of the server")
    try:
        found = await imapipe.autodiscover(account.url, ssl_context=account.ssl_context())
    except (ModuleNotFoundError, ValueError) as error:
        raise Mistake(str(error)) from error
    if not found.is_vouched:
        reason = f"the DNS says {found.url} ({found.detail}), which is not below the domain of the address"
        raise Mistake(f"{reason}: if that is right, give it as the URL")
    write_note(f"the server is {found.url} ({found.source}: {found.detail})")
    return replace(account, url=found.url)
