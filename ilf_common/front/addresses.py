"""Where the workers of a pool are."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

from ilf_common.errors import InvalidArgumentError

Resolve = Callable[[], Awaitable[frozenset[str]]]
"""Answers all addresses as `host:port`; raises OSError when nobody can tell at the moment."""

# The name is known, or its server answers, but nobody is behind it.
_NOBODY = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}


class DnsAddresses:
    """All addresses that a name stands for, as of a headless Service in Kubernetes.

    Args:
        address: `host:port`.

    Raises:
        InvalidArgumentError: The address has no port.
    """

    def __init__(self, address: str) -> None:
        self.host, _, port = address.rpartition(":")
        if not self.host or not port.isdigit():
            raise InvalidArgumentError.of("workers.address", f"{address!r} is no host:port")
        self._port = int(port)

    async def __call__(self) -> frozenset[str]:
        """The addresses now; none while the name is unknown.

        Raises:
            OSError: The name server does not answer.
        """
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(self.host.strip("[]"), self._port, type=socket.SOCK_STREAM)
        except socket.gaierror as error:
            if error.errno in _NOBODY:
                return frozenset()
            raise
        return frozenset(_text(family, place) for family, _, _, _, place in found)


def _text(family: socket.AddressFamily, place: tuple[object, ...]) -> str:
    host, port = place[0], place[1]
    return f"[{host}]:{port}" if family is socket.AF_INET6 else f"{host}:{port}"
