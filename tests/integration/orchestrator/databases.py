"""A PostgreSQL server of the tests' own, from the binaries of Debian's packages or of the path."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support import free_ports


def _binaries() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: path.parts[4])
    on_path = shutil.which("initdb")
    if not found and on_path is None:
        pytest.skip("PostgreSQL is not installed (no initdb in /usr/lib/postgresql/*/bin or on the path)")
    return found[-1].parent if found else Path(str(on_path)).parent


def _as_user(command: list[str]) -> list[str]:
    """PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return command
    try:
        pwd.getpwnam("postgres")
    except KeyError:
        pytest.skip("tests run as root and there is no user 'postgres' to run PostgreSQL as")
    return ["runuser", "-u", "postgres", "--", *command]


@contextmanager
def postgresql(port: int | None = None) -> Iterator[str]:
    """URL of an empty server, on a free port where none is given."""
    binaries = _binaries()
    port = port or free_ports(1)[0]
    with tempfile.TemporaryDirectory(prefix="ilf-postgresql-", dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o777)
        data = folder / "data"
        _run([str(binaries / "initdb"), "-D", str(data), "-A", "trust", "-U", "ilf", "--no-sync"])
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c fsync=off"
        control = [str(binaries / "pg_ctl"), "-D", str(data), "-w"]
        _run([*control, "-l", str(folder / "log"), "-o", options, "start"])
        try:
            yield f"postgresql://ilf@127.0.0.1:{port}/postgres"
        finally:
            _run([*control, "-m", "immediate", "stop"])


def _run(command: list[str]) -> None:
    done = subprocess.run(_as_user(command), capture_output=True, text=True, timeout=60, cwd="/")
    assert done.returncode == 0, done.stdout + done.stderr
