"""`imapipe login`: log in with OAuth, keep the token in a file, and prove that the mail server takes it.

Invariants:

- No token and no secret is shown; the secret of a program comes from the environment or a file.
- A browser is opened only where there is a screen; the URL is told in any case.
"""

from __future__ import annotations

import asyncio
import os
import sys
import webbrowser
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Final

import typer

import imapipe
from imapipe.cli.account import AccountOptions
from imapipe.cli.errors import AsMistake, Mistake, Status
from imapipe.cli.execute import execute
from imapipe.cli.lookup import Autodiscover, with_server
from imapipe.cli.options import ACCOUNT, JOB, OutputOptions
from imapipe.cli.output import write_document, write_note, write_result
from imapipe.cli.secrets import read_secret

SECRET_VARIABLE: Final = "IMAPIPE_CLIENT_SECRET"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginOptions:
    """How to log in, and as which program."""

    client_id: Annotated[
        str,
        typer.Option(
            help="What the provider calls the program that you registered; that of --token-file unless given.",
            rich_help_panel=JOB,
        ),
    ] = ""
    client_secret_file: Annotated[
        Path | None,
        typer.Option(
            help="A file with its secret in the first line, where it has one; else IMAPIPE_CLIENT_SECRET.",
            rich_help_panel=JOB,
        ),
    ] = None
    tenant: Annotated[
        str,
        typer.Option(help="At Microsoft: a domain, an id, organizations or consumers.", rich_help_panel=JOB),
    ] = "common"
    device: Annotated[
        bool,
        typer.Option(
            "--device",
            help="Show a code to type into a browser anywhere; Google allows no mail so.",
            rich_help_panel=JOB,
        ),
    ] = False
    application: Annotated[
        bool,
        typer.Option(
            "--application",
            help="Log in as the program itself, with its secret and without a person.",
            rich_help_panel=JOB,
        ),
    ] = False
    keyring: Annotated[
        bool,
        typer.Option(
            "--keyring",
            help="Keep what lasts, such as the refresh token, in the keyring of the system instead of the file.",
            rich_help_panel=JOB,
        ),
    ] = False
    no_browser: Annotated[
        bool, typer.Option("--no-browser", help="Only show the URL; open nothing.", rich_help_panel=JOB)
    ] = False
    wait: Annotated[
        float,
        typer.Option(min=0.1, metavar="SECONDS", help="How long the person may take.", rich_help_panel=JOB),
    ] = 600.0
    scope: Annotated[
        list[str] | None,
        typer.Option(
            help="Ask for this right instead of those known; may be given several times.", rich_help_panel=ACCOUNT
        ),
    ] = None
    authorize_url: Annotated[
        str, typer.Option(metavar="URL", help="Where a person allows it.", rich_help_panel=ACCOUNT)
    ] = ""
    token_url: Annotated[str, typer.Option(metavar="URL", help="Where tokens are given.", rich_help_panel=ACCOUNT)] = ""
    device_url: Annotated[str, typer.Option(metavar="URL", help="Where --device begins.", rich_help_panel=ACCOUNT)] = ""

    def client(self, host: str, known: imapipe.oauth.OAuthClient | None) -> imapipe.oauth.OAuthClient:
        """The program that logs in at a host; `known` is the one that did before. Raises Mistake."""
        given = (
            self.client_id,
            self.client_secret_file,
            self.scope,
            self.authorize_url,
            self.token_url,
            self.device_url,
        )
        if known is not None and not any(given):
            return known
        secret = os.environ.get(SECRET_VARIABLE, "")
        if self.client_secret_file is not None:
            secret = read_secret(self.client_secret_file, "--client-secret-file")
        with AsMistake():
            return imapipe.oauth.OAuthClient.of(
                host,
                client_id=self.client_id or (known.client_id if known is not None else ""),
                client_secret=secret,
                tenant=self.tenant,
                scopes=tuple(self.scope or ()),
                authorize_url=self.authorize_url,
                token_url=self.token_url,
                device_url=self.device_url,
            )


def login_command(
    account: AccountOptions,
    options: LoginOptions,
    output: OutputOptions,
    autodiscover: Autodiscover = False,
) -> int:
    """Log in with OAuth, in a browser or with a code, and keep the token in --token-file, where it stays fresh."""
    work = login(account, options, autodiscover=autodiscover, json=output.json)
    return execute(work, debug=output.debug, interrupted="interrupted; nobody is logged in")


def _check_place(path: Path, *, in_keyring: bool) -> None:
    """Refuse what the token could not be kept in, before a person logs in for nothing. Raises Mistake."""
    if in_keyring and find_spec("keyring") is None:
        raise Mistake("--keyring needs keyring: pip install 'imapipe[keyring]'")
    if path.is_dir():
        raise Mistake(f"--token-file {path}: it is a folder; name a file")
    if not path.parent.is_dir():
        raise Mistake(f"--token-file {path}: its folder does not exist")
    if not os.access(path.parent, os.W_OK):
        raise Mistake(f"--token-file {path}: its folder may not be written to; name another place")


async def login(account: AccountOptions, options: LoginOptions, *, autodiscover: bool, json: bool) -> Status:
    """Log in, keep the token, prove it.

    Raises:
        Mistake, InvalidURL: Before anything is sent.
        TokenRefused: The OAuth server gives no token.
        AuthenticationFailed: The mail server does not take it.
    """
    path = account.token_file
    if path is None:
        raise Mistake("say with --token-file FILE where the token is to be kept")
    if account.password_file or account.password_command or account.token_command:
        raise Mistake("login gets a token: leave --password-file, --password-command and --token-command out")
    if options.device and options.application:
        raise Mistake("--device and --application exclude each other: name one of them")
    _check_place(path, in_keyring=options.keyring)
    account = await with_server(account, autodiscover=autodiscover)
    context = account.ssl_context()
    file = imapipe.oauth.TokenFile(path, proxy=account.proxy)
    pool = account.make_pool(context, token=file)
    user, _, server = pool.account.rpartition("@")
    client = options.client(server.rpartition(":")[0], await _known(file, path))
    with AsMistake():
        token = await _get_token(client, options, user, account.proxy)
    await file.save(client, token, as_application=options.application, in_keyring=options.keyring)
    write_note(f"the token is in {path}; trying it at {server}")
    async with pool, pool.acquire():
        pass
    lasts_until = (
        datetime.fromtimestamp(token.expires_at, UTC).isoformat(timespec="seconds") if token.expires_at else None
    )
    stays_fresh = bool(token.refresh_token) or options.application
    if json:
        write_document(
            {
                "account": pool.account,
                "url": account.url,
                "token_file": str(path),
                "expires_at": lasts_until,
                "stays_fresh": stays_fresh,
            }
        )
    else:
        fresh = "it is kept fresh" if stays_fresh else f"it lasts until {lasts_until}, then log in again"
        write_result(f"logged in as {user} at {server}; use --token-file {path} from now on: {fresh}")
    return Status.COMPLETE


async def _known(file: imapipe.oauth.TokenFile, path: Path) -> imapipe.oauth.OAuthClient | None:
    """Who logged in before, if somebody did."""
    if not await asyncio.to_thread(path.exists):
        return None
    try:
        return await file.client()
    except imapipe.AccountsError as error:
        reason = "it is there, and is no token file: name another one, or remove it"
        raise Mistake(f"--token-file {path}: {reason}") from error


async def _get_token(
    client: imapipe.oauth.OAuthClient, options: LoginOptions, user: str, proxy: str | None
) -> imapipe.oauth.Token:
    if options.application:
        return await imapipe.oauth.log_in_as_application(client, proxy=proxy)
    if options.device:

        def show_code(url: str, code: str) -> None:
            write_note(f"open {url} in any browser, and type {code}")

        return await imapipe.oauth.log_in_by_device(client, show=show_code, proxy=proxy)

    async def show(url: str) -> None:
        write_note(f"log in with a browser on this machine: {url}")
        if not options.no_browser and _has_screen():
            await asyncio.to_thread(webbrowser.open, url)

    return await imapipe.oauth.log_in_by_browser(
        client, show=show, user=user, timeout_seconds=options.wait, proxy=proxy
    )


def _has_screen() -> bool:
    """Whether a browser can be shown; without, some systems open one in the terminal."""
    return sys.platform in ("win32", "darwin") or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY")))
