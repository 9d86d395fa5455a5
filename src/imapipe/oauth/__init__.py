"""Access tokens: logging in with OAuth 2, and a file that keeps the token fresh.

    client = oauth.OAuthClient.of("imap.gmail.com", client_id="…", client_secret="…")
    token = await oauth.log_in_by_browser(client, user="ann@gmail.com", show=print)
    await oauth.TokenFile("ann.token").save(client, token)

    async with imapipe.create_pool("imaps://ann@gmail.com@imap.gmail.com", token=oauth.TokenFile("ann.token")) as pool:
        ...

The command `imapipe login` does the first half.
"""

from __future__ import annotations

from imapipe.oauth.application import log_in_as_application
from imapipe.oauth.browser import log_in_by_browser
from imapipe.oauth.client import OAuthClient, Token
from imapipe.oauth.device import log_in_by_device
from imapipe.oauth.program import TokenCommand
from imapipe.oauth.token_endpoint import refresh
from imapipe.oauth.token_file import TokenFile

__all__ = [
    "OAuthClient",
    "Token",
    "TokenCommand",
    "TokenFile",
    "log_in_as_application",
    "log_in_by_browser",
    "log_in_by_device",
    "refresh",
]
