"""Two real services for commands that are killed, and what such a command has on the disk."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.support import free_ports
from tests.tiny_models import build_tiny_model, tiny_sentence

ROOT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Services:
    """Refinement with a real tiny model, and ranking without any model, which scores by length."""

    environment: dict[str, str]
    metrics_port: int
    folder: Path

    def generated(self) -> int:
        """Items that the refinement service has generated since it started."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics") as page:
            lines = page.read().decode().splitlines()
        name = 'ilf_refinement_items_total{call="generate",model="base",outcome="ok"}'
        return int(sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name)))

    def run(self, *arguments: str) -> dict[str, Any]:
        """Runs `ilf` to its end; answers its result."""
        done = subprocess.run(
            self._command(arguments), env=self.environment, cwd=self.folder, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def run_and_kill(self, *arguments: str, when: Callable[[], bool]) -> None:
        """Runs `ilf`, kills it as soon as it has come so far, and waits until the services have noticed."""
        log = self.folder / "killed.log"
        with log.open("wb") as stream:
            process = subprocess.Popen(
                self._command(arguments), env=self.environment, cwd=self.folder, stdout=stream, stderr=stream
            )
            deadline = time.monotonic() + 120
            while not when() and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.01)
            process.send_signal(signal.SIGKILL)
            assert process.wait() == -signal.SIGKILL, log.read_text()
        self._wait_until_idle()

    def _command(self, arguments: Sequence[str]) -> list[str]:
        return [sys.executable, "-m", "ilf_client.cli.main", *arguments, "-o", "json"]

    def _wait_until_idle(self) -> None:
        """Returns when refinement has dropped what it still did for the process that is gone."""
        url = f"http://127.0.0.1:{self.metrics_port}/metrics"
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with urllib.request.urlopen(url) as page:
                text = page.read().decode()
            if "\nilf_refinement_queue_items 0.0" in text:
                return
            time.sleep(0.05)
        raise AssertionError("the service still works for a process that is gone")


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    base = build_tiny_model(tmp_path / "base")
    refinement, metrics, ranking, _ = free_ports(4)
    plain = {name: value for name, value in os.environ.items() if not name.startswith("ILF_")}
    environment = {
        **plain,
        "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'protos' / 'gen'}",
        "ILF_REFINEMENT_ADDRESS": f"127.0.0.1:{refinement}",
        "ILF_RANKING_ADDRESS": f"127.0.0.1:{ranking}",
        "ILF_REFINEMENT__SERVER__PORT": str(refinement),
        "ILF_REFINEMENT__SERVER__METRICS_PORT": str(metrics),
        "ILF_REFINEMENT__STORE__ROOT": str(tmp_path / "artifacts"),
        "ILF_REFINEMENT__STATE_DIR": str(tmp_path / "state"),
        "ILF_REFINEMENT__MODELS": json.dumps({"base": str(base)}),
        "ILF_REFINEMENT__ENGINE": json.dumps({"kind": "transformers", "threads": 1, "batch_size": 16}),
        "ILF_RANKING__SERVER__PORT": str(ranking),
        "ILF_RANKING__SERVER__METRICS_PORT": "0",
        "ILF_RANKING__EMBEDDING__ENABLED": "false",
    }
    started = [
        subprocess.Popen([sys.executable, "-m", f"services.{name}"], env=environment, cwd=tmp_path)
        for name in ("refinement", "ranking")
    ]
    try:
        for name, port in (("refinement", refinement), ("ranking", ranking)):
            _wait_until_serving(f"ilf.{name}.v1.{name.capitalize()}Service", port)
        yield Services(environment, metrics, tmp_path)
    finally:
        for process in started:
            process.kill()
            process.wait()


def _wait_until_serving(service: str, port: int) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        request = health_pb2.HealthCheckRequest(service=service)
        for answer in health_pb2_grpc.HealthStub(channel).Watch(request, wait_for_ready=True, timeout=60):
            if answer.status == health_pb2.HealthCheckResponse.SERVING:
                return


def write_rows(path: Path, count: int) -> None:
    """Writes contexts, each with an id and a reference."""
    rows = [{"id": f"r{k}", "context": tiny_sentence(k), "reference": tiny_sentence(k + 1)} for k in range(count)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def journaled(work: Path, stage: str) -> list[str]:
    """Ids of the items whose texts are on the disk, in the journals of a stage and in its finished parts."""
    found = []
    for path in [*work.glob(f"{stage}-*/part-*.journal"), *work.glob(f"{stage}-*/part-*.jsonl")]:
        for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
            if line.endswith("\n"):
                found.append(json.loads(line)["id"])
    return found
