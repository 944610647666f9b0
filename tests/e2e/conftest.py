"""The five real services and the console in their own processes, started by `ilf up` as a user starts them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ilf_client.endpoints import DEFAULT_PORTS, Endpoints
from ilf_client.stack.health import Health, ask_all
from tests.support import free_ports
from tests.tiny_models import build_tiny_model

ROOT = Path(__file__).parents[2]
WORD_REMOVAL = ROOT / "examples" / "word_removal" / "model"


@dataclass(frozen=True)
class Stack:
    """A running stack: where commands are run, and with which environment."""

    folder: Path
    environment: dict[str, str]

    def run(self, *command: str, timeout: float = 240) -> str:
        """Runs a command as a user would; answers what it prints, or fails with all of it."""
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=timeout
        )
        assert done.returncode == 0, f"{command} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def ilf(self, *arguments: str, timeout: float = 240) -> str:
        """Runs `ilf`."""
        return self.run(sys.executable, "-m", "ilf_client.cli.main", *arguments, timeout=timeout)

    def wait_until_all_serve(self, seconds: float = 240) -> None:
        """Waits for services that were started anew."""
        deadline = time.monotonic() + seconds
        while set((found := ask_all(Endpoints.from_environment(self.environment))).values()) != {Health.SERVING}:
            assert time.monotonic() < deadline, found
            time.sleep(0.2)


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """All services, with the shipped word-removal model as `tiny` and a random one with a long window as `long`."""
    folder = tmp_path_factory.mktemp("stack")
    (folder / "examples").symlink_to(ROOT / "examples")
    long = build_tiny_model(folder / "long", max_positions=2048)
    console, *numbers = free_ports(len(DEFAULT_PORTS) + 1)
    ports = dict(zip(DEFAULT_PORTS, numbers, strict=True))
    addresses = {f"ILF_{service.upper()}_ADDRESS": f"127.0.0.1:{port}" for service, port in ports.items()}
    plain = {name: value for name, value in os.environ.items() if not name.startswith("ILF_")}
    running = Stack(folder, {**plain, **addresses, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'protos' / 'gen'}"})
    settings = [f"--set={service}.server={{port: {port}, metrics_port: 0}}" for service, port in ports.items()]
    try:
        running.ilf(
            "up",
            *settings,
            f"--set=console.server.port={console}",
            f"--set=models={{tiny: {WORD_REMOVAL}, long: {long}}}",
            "--set=refinement.engine={kind: transformers, threads: 1}",
            "--set=finetune.trainer={threads: 1}",
            "--wait=500",
            timeout=560,
        )
        yield running
    finally:
        running.ilf("down")
