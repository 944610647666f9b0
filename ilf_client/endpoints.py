"""Where the five services are, and how to talk to them safely."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path

from ilf_common.errors import InvalidArgumentError

DEFAULT_PORTS: Mapping[str, int] = {
    "refinement": 50051,
    "ranking": 50052,
    "reward": 50053,
    "finetune": 50054,
    "orchestrator": 50055,
}
CONSOLE_PORT = 50070


@dataclass(frozen=True)
class Endpoints:
    """The addresses (host:port) of the services; by default those that `ilf up` starts on this machine."""

    refinement: str = "127.0.0.1:50051"
    ranking: str = "127.0.0.1:50052"
    reward: str = "127.0.0.1:50053"
    finetune: str = "127.0.0.1:50054"
    orchestrator: str = "127.0.0.1:50055"

    @classmethod
    def at(cls, server: str) -> Endpoints:
        """All services at one server.

        Args:
            server: `host` for the five default ports of that host, or `host:port` for a gateway that serves all.

        Raises:
            InvalidArgumentError: The port is no number.
        """
        host, separator, port = server.rpartition(":")
        if not separator or server.endswith("]"):
            return cls(**{service: f"{server}:{number}" for service, number in DEFAULT_PORTS.items()})
        if not host or not port.isdigit():
            raise InvalidArgumentError.of("server", f"{server!r} is not host or host:port")
        return cls(**dict.fromkeys(DEFAULT_PORTS, server))

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Endpoints:
        """`ILF_SERVER` for all services, then `ILF_<SERVICE>_ADDRESS` for single ones, then the defaults."""
        variables = os.environ if environment is None else environment
        endpoints = cls.at(variables["ILF_SERVER"]) if variables.get("ILF_SERVER") else cls()
        single = {
            field.name: variables[f"ILF_{field.name.upper()}_ADDRESS"]
            for field in fields(cls)
            if variables.get(f"ILF_{field.name.upper()}_ADDRESS")
        }
        return replace(endpoints, **single)


@dataclass(frozen=True)
class Security:
    """How the client proves who it is, and whom it trusts; without any file the connection is plain text.

    Attributes:
        tls_ca_file: Certificates that the servers' certificates must chain to (PEM).
        tls_cert_file: The client's own certificate, for mutual TLS.
        tls_key_file: Its key.
        token_file: Holds the bearer token that goes with each call; read anew when it changes.
    """

    tls_ca_file: Path | None = None
    tls_cert_file: Path | None = None
    tls_key_file: Path | None = None
    token_file: Path | None = None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Security:
        """`ILF_TLS_CA_FILE`, `ILF_TLS_CERT_FILE`, `ILF_TLS_KEY_FILE` and `ILF_TOKEN_FILE`."""
        variables = os.environ if environment is None else environment
        return cls(
            **{
                field.name: Path(variables[f"ILF_{field.name.upper()}"])
                for field in fields(cls)
                if variables.get(f"ILF_{field.name.upper()}")
            }
        )
