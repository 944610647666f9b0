"""Runs `ilf` against the services behind a console."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

from tests.integration.console.world import World, environment_with


def run_command(world: World, command: str, folder: Path, *options: str) -> str:
    """What a command prints."""
    program, *words = shlex.split(command)
    assert program == "ilf"
    addresses = {f"ILF_{name.upper()}_ADDRESS": address for name, address in vars(world.endpoints).items()}
    done = subprocess.run(
        [sys.executable, "-m", "ilf_client.cli.main", *words, *options],
        env=environment_with(**addresses),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
