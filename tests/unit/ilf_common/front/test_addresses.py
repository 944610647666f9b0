"""Where workers are, by their service's name."""

from __future__ import annotations

import socket

import pytest

from ilf_common.errors import InvalidArgumentError
from ilf_common.front.addresses import DnsAddresses


async def test_a_name_stands_for_its_addresses_and_an_unknown_one_for_none() -> None:
    assert "127.0.0.1:50051" in await DnsAddresses("localhost:50051")()
    assert await DnsAddresses("127.0.0.1:50051")() == {"127.0.0.1:50051"}
    assert await DnsAddresses("[::1]:50051")() == {"[::1]:50051"}


async def test_no_answer_is_told_apart_from_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(code: int) -> None:
        def getaddrinfo(*arguments: object, **options: object) -> None:
            raise socket.gaierror(code, "said the resolver")

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)

    failing(socket.EAI_NONAME)
    assert await DnsAddresses("workers.example:1")() == frozenset()
    failing(socket.EAI_AGAIN)
    with pytest.raises(OSError, match="resolver"):
        await DnsAddresses("workers.example:1")()


def test_an_address_needs_a_port() -> None:
    with pytest.raises(InvalidArgumentError, match="host:port"):
        DnsAddresses("workers")
