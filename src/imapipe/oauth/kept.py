"""What stands in a token file: values, made to JSON and back. Pure.

Invariants:

- What was written by another version, or is not whole, is refused.
- Of a file whose secrets are in the keyring, what lasts is not in the JSON: the refresh token, and the client's secret.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Final, Literal

import orjson

from imapipe.https import check_url
from imapipe.models.json_value import JSON
from imapipe.oauth.client import OAuthClient, Token
from imapipe.providers import OAuthEndpoints

_VERSION: Final = 1
# Before its end: a login that takes long is still one with a good token, and clocks differ.
_REFRESH_BEFORE_SECONDS: Final = 120.0

Grant = Literal["refresh_token", "client_credentials"]


@dataclass(frozen=True, slots=True)
class Kept:
    """What stands in the file.

    Attributes:
        token: The token.
        client: Who can ask for another one; None where somebody else does.
        grant: How that is asked for.
        in_keyring: What lasts is in the keyring of the system.
    """

    token: Token
    client: OAuthClient | None = None
    grant: Grant = "refresh_token"
    in_keyring: bool = False

    def lasts(self, now: float) -> bool:
        """Whether it can be used for a while."""
        ends_at = self.token.expires_at
        return self.client is None or ends_at is None or ends_at - now > _REFRESH_BEFORE_SECONDS

    @property
    def secrets(self) -> str:
        """What lasts, for the keyring."""
        client_secret = self.client.client_secret if self.client is not None else ""
        return orjson.dumps({"refresh_token": self.token.refresh_token, "client_secret": client_secret}).decode()

    def with_secrets(self, text: str) -> Kept:
        """The same with what `secrets` gave. Raises ValueError: it is something else."""
        match orjson.loads(text or "null"):
            case {"refresh_token": str(refresh_token), "client_secret": str(client_secret)} if self.client is not None:
                client = replace(self.client, client_secret=client_secret)
                return replace(self, token=replace(self.token, refresh_token=refresh_token), client=client)
            case _:
                raise ValueError("there is nothing of it in the keyring")

    def to_bytes(self) -> bytes:
        """The content of the file."""
        client, token = self.client, self.token
        if self.in_keyring and client is not None:
            client, token = replace(client, client_secret=""), replace(token, refresh_token="")
        document: dict[str, JSON] = {"version": _VERSION, "grant": self.grant, "keyring": self.in_keyring}
        if client is not None:
            document["client"] = asdict(client)
        document["token"] = asdict(token)
        return orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def parse_kept(data: bytes) -> Kept:
    """Read what `Kept.to_bytes` gave. Raises ValueError: it is something else, or of another version."""
    match orjson.loads(data):
        case {
            "version": 1,
            "grant": "refresh_token" | "client_credentials" as grant,
            "client": {"client_id": str(client_id), "client_secret": str(client_secret), "endpoints": dict(endpoints)},
            "token": {
                "access_token": str(access_token),
                "expires_at": None | int() | float() as expires_at,
                "refresh_token": str(refresh_token),
            },
            "keyring": bool(in_keyring),
        } if access_token:
            client = OAuthClient(client_id, client_secret, _endpoints(endpoints))
            return Kept(Token(access_token, expires_at, refresh_token), client, grant, in_keyring)
        case _:
            raise ValueError("it is not whole, or of another version")


def _endpoints(fields: Mapping[str, JSON]) -> OAuthEndpoints:
    match fields:
        case {
            "authorize_url": str(authorize_url),
            "token_url": str(token_url),
            "device_url": str(device_url),
            "scopes": list(scopes),
            "application_scopes": list(application_scopes),
            "parameters": list(parameters),
            "redirect_host": str(redirect_host),
        }:
            for url in filter(None, (authorize_url, token_url, device_url)):
                # A secret would be sent there.
                check_url(url)
            return OAuthEndpoints(
                authorize_url,
                token_url,
                device_url,
                _texts(scopes),
                _texts(application_scopes),
                tuple(_pair(each) for each in parameters),
                redirect_host,
            )
        case _:
            raise ValueError("where to ask is not whole")


def _texts(values: list[JSON]) -> tuple[str, ...]:
    if not all(isinstance(each, str) for each in values):
        raise ValueError("a scope is no text")
    return tuple(str(each) for each in values)


def _pair(value: JSON) -> tuple[str, str]:
    match value:
        case [str(name), str(given)]:
            return name, given
        case _:
            raise ValueError("a parameter is no pair of texts")
