"""The console beside the services: where it is, and whether it answers."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path

CONSOLE = "console"
HEALTH_PATH = "/healthz"


@dataclass(frozen=True)
class ConsolePlace:
    """Where the console of this machine is.

    Attributes:
        address: host:port.
        url: As browsers reach it.
        token_file: What the console writes the token of the machine's own account to; None where people sign in
            otherwise.
    """

    address: str
    url: str
    token_file: str | None

    @property
    def sign_in_url(self) -> str:
        """The address that a browser opens to be signed in, as far as a token is there to do that."""
        try:
            token = Path(self.token_file).read_text(encoding="ascii").strip() if self.token_file else ""
        except (OSError, UnicodeDecodeError):
            token = ""
        return f"{self.url}/login?token={token}" if token else f"{self.url}/"

    def answers(self, seconds: float = 2.0) -> bool:
        """Whether its server is up; services that it shows may be down."""
        host, _, port = self.address.rpartition(":")
        try:
            with closing(HTTPConnection(host.strip("[]"), int(port), timeout=seconds)) as connection:
                connection.request("GET", HEALTH_PATH)
                return connection.getresponse().status == 200
        except (OSError, HTTPException):
            return False
