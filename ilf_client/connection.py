"""What `ilf connect` writes down for the commands that come after it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from ilf_client.endpoints import Endpoints, Security
from ilf_client.stack.processes import ProcessRecord

_FILE = "connection.json"
_FOLDER = "connection"


@dataclass(frozen=True)
class Connection:
    """The ports of this machine that lead to a cluster, for as long as the process that made them runs."""

    process: ProcessRecord
    endpoints: Endpoints
    security: Security


def read_connection(folder: Path) -> Connection | None:
    """The connection of a state directory, None where there is none or its process has ended."""
    try:
        data = json.loads((folder / _FILE).read_text(encoding="utf-8"))
        files = {name: Path(path) if path else None for name, path in data["security"].items()}
        connection = Connection(ProcessRecord(**data["process"]), Endpoints(**data["endpoints"]), Security(**files))
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return connection if connection.process.is_alive else None


def write_connection(folder: Path, endpoints: Endpoints, security: Security) -> None:
    """Writes down the connection of this process."""
    folder.mkdir(parents=True, exist_ok=True)
    connection = Connection(ProcessRecord.of(os.getpid()), endpoints, security)
    aside = folder / f".{_FILE}.{os.getpid()}"
    aside.write_text(json.dumps(asdict(connection), indent=2, default=str), encoding="utf-8")
    aside.replace(folder / _FILE)


def write_secrets(folder: Path, secrets: Mapping[str, bytes]) -> Security:
    """Writes what proves who the client is, readable by this user alone; files that are as they should be stay.

    Args:
        folder: The state directory.
        secrets: Contents by field of `Security`.
    """
    place = (folder / _FOLDER).resolve()
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name, content in secrets.items():
        path = place / name
        if path.is_file() and path.read_bytes() == content:
            continue
        aside = place / f".{name}.{os.getpid()}"
        aside.unlink(missing_ok=True)
        with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
            stream.write(content)
        aside.replace(path)
    return Security(**{name: place / name for name in secrets})


def forget_connection(folder: Path) -> None:
    """Deletes what was written down, the secrets first."""
    for field in fields(Security):
        (folder / _FOLDER / field.name).unlink(missing_ok=True)
    (folder / _FILE).unlink(missing_ok=True)
