"""Records of the DNS, by dnspython (extra `imapipe[autodiscover]`): SRV and MX, which the system's resolver has not.

Invariant: an answer that does not come, or cannot be read, is no answer; who asks goes on with what else there is.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from dns.resolver import Answer

_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Service:
    """Where a service is (RFC 2782).

    Attributes:
        host: The name of the server, without the dot at its end; "" says that there is no such service.
        port: Its port.
    """

    host: str
    port: int


class Records:
    """Asks for records.

    Args:
        name_server: `host:port` of a name server instead of the system's, or None.

    Raises:
        ModuleNotFoundError: dnspython is not installed.
        ValueError: Not the address of a name server.
    """

    __slots__ = ("_name_server",)

    def __init__(self, name_server: str | None) -> None:
        if find_spec("dns") is None:
            raise ModuleNotFoundError("autodiscover needs dnspython: pip install 'imapipe[autodiscover]'", name="dns")
        self._name_server: tuple[str, int] | None = None
        if name_server is not None:
            host, _, port = name_server.rpartition(":")
            if not host or not port.isdecimal():
                raise ValueError("name_server takes host:port, such as 192.0.2.53:53")
            self._name_server = host, int(port)

    async def services(self, name: str) -> list[Service]:
        """The SRV records of a name, the preferred one first: of the same priority, the one of the greatest weight."""
        answer = await self._resolve(name, "SRV")
        found = sorted(answer or (), key=lambda record: (record.priority, -record.weight))
        return [Service(record.target.to_text(omit_final_dot=True), record.port) for record in found]

    async def mail_exchangers(self, name: str) -> list[str]:
        """The hosts of the MX records of a name, the preferred one first, in lower case."""
        answer = await self._resolve(name, "MX")
        found = sorted(answer or (), key=lambda record: record.preference)
        return [record.exchange.to_text(omit_final_dot=True).lower() for record in found]

    async def _resolve(self, name: str, kind: str) -> Answer | None:
        # Only who asks for it needs them.
        from dns.asyncresolver import Resolver  # noqa: PLC0415
        from dns.exception import DNSException  # noqa: PLC0415

        try:
            resolver = Resolver(configure=self._name_server is None)
            if self._name_server is not None:
                resolver.nameservers, resolver.port = [self._name_server[0]], self._name_server[1]
            return await resolver.resolve(f"{name}.", kind, lifetime=_SECONDS)
        except (DNSException, OSError):
            return None
