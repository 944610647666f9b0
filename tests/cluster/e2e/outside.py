"""A machine outside the cluster: the `ilf` command with `ilf connect`, and the programs that a user serves."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.cluster.e2e.release import ROOT, command

_ILF = (sys.executable, "-m", "ilf_client.cli.main")
_AWAY = 3
"""What `ilf` exits with where a service does not answer."""


def own_address() -> str:
    """Where pods reach this machine: ILF_TEST_HOST, else the address of the (only) node."""
    nodes = json.loads(command("kubectl", "get", "nodes", "-o", "json"))["items"]
    addresses = {one["type"]: one["address"] for one in nodes[0]["status"]["addresses"]}
    return os.environ.get("ILF_TEST_HOST") or str(addresses["InternalIP"])


@dataclass(frozen=True)
class Laptop:
    """Runs `ilf` in a folder that knows the cluster by `ilf connect` alone."""

    folder: Path

    def ilf(self, *arguments: str, timeout: float = 120) -> str:
        """What the command prints; its complaint is the assertion's message where it fails."""
        done = self._call(*arguments, timeout=timeout)
        assert done.returncode == 0, f"ilf {' '.join(arguments)}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        return done.stdout

    def start_run(self, data: Path, feedback: str, metric: str, *, name: str = "loop", iterations: int) -> None:
        """Starts word removal on the rows of a folder, with plugins at these addresses."""
        wanted = {
            "dataset.train_uri": data / "train.jsonl",
            "dataset.test_uri": data / "test.jsonl",
            "iterations": iterations,
            "shard_rows": 30,
            "feedback.plugin_address": feedback,
            "evaluate.plugin_address": metric,
        }
        options = [option for key, value in wanted.items() for option in ("--set", f"{key}={value}")]
        config = str(ROOT / "examples/word_removal/run.yaml")
        self.ilf("run", config, *options, "--name", name, "--detach", timeout=300)

    def run(self, name: str, patience: float = 240) -> dict[str, Any]:
        """A run as `ilf runs show` tells it; the orchestrator may be away for so many seconds."""
        until = time.monotonic() + patience
        while True:
            done = self._call("runs", "show", name, "-o", "json")
            if done.returncode == 0:
                shown: dict[str, Any] = json.loads(done.stdout)
                return shown
            assert done.returncode == _AWAY and time.monotonic() < until, (
                f"{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
            )

    def _call(self, *arguments: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        command = [*_ILF, *arguments]
        return subprocess.run(
            command, cwd=self.folder, env=_environment(), capture_output=True, text=True, timeout=timeout, check=False
        )


@contextmanager
def connected(namespace: str, folder: Path) -> Iterator[Laptop]:
    """A laptop with `ilf connect` running for the release in a namespace."""
    arguments = [*_ILF, "connect", "--namespace", namespace]
    with (folder / "connect.log").open("w") as log:
        process = subprocess.Popen(arguments, cwd=folder, env=_environment(), stdout=log, stderr=log)
    try:
        laptop = Laptop(folder)
        until = time.monotonic() + 60
        while not list(folder.rglob("connection.json")):
            assert process.poll() is None and time.monotonic() < until, (folder / "connect.log").read_text()
            time.sleep(0.2)
        yield laptop
    finally:
        process.terminate()
        process.wait(20)


@contextmanager
def plugin(function: str, *options: str) -> Iterator[str]:
    """A function of the demo's program, served where pods reach it; answers its address."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        port = probe.getsockname()[1]
    target = f"examples.word_removal.program:{function}"
    process = subprocess.Popen(
        [*_ILF, "plugin", "serve", target, *options, "--host", "0.0.0.0", "--port", str(port)],
        cwd=ROOT,
        env=_environment(),
        stdout=subprocess.DEVNULL,
    )
    try:
        _until_open(port, process)
        yield f"{own_address()}:{port}"
    finally:
        process.terminate()
        process.wait(20)


def _until_open(port: int, process: subprocess.Popen[Any]) -> None:
    until = time.monotonic() + 60
    while True:
        assert process.poll() is None and time.monotonic() < until, "the plugin did not start"
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.1)


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("ILF_")} | {
        "PYTHONPATH": f"{ROOT}:{ROOT / 'protos/gen'}"
    }
