"""`ilf best-of-n` as a process that is killed while the real refinement service generates for it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.support import free_ports
from tests.tiny_models import build_tiny_model, tiny_sentence

pytestmark = [pytest.mark.engine, pytest.mark.crash]

ROOT = Path(__file__).parents[3]
ROWS = 60


@dataclass(frozen=True)
class Services:
    """Refinement with a real tiny model, and ranking without any model, which scores by length."""

    environment: dict[str, str]
    metrics_port: int

    def generated(self) -> int:
        """Items that the refinement service has generated since it started."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics") as page:
            lines = page.read().decode().splitlines()
        name = 'ilf_refinement_items_total{call="generate",model="base",outcome="ok"}'
        return int(sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name)))

    def command(self, config: Path) -> list[str]:
        return [sys.executable, "-m", "ilf_client.cli.main", "best-of-n", str(config), "-o", "json"]


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
        yield Services(environment, metrics)
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


def journaled(work: Path) -> list[str]:
    """Ids of the items whose samples are on the disk, in the journals and in finished parts."""
    found = []
    for path in [*work.glob("samples-*/part-*.journal"), *work.glob("samples-*/part-*.jsonl")]:
        for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
            if line.endswith("\n"):
                found.append(json.loads(line)["id"])
    return found


@pytest.mark.timeout(280)
def test_after_a_kill_nothing_that_was_answered_is_generated_again(services: Services, tmp_path: Path) -> None:
    dataset = tmp_path / "test.jsonl"
    rows = [{"id": f"r{k}", "context": tiny_sentence(k)} for k in range(ROWS)]
    dataset.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = tmp_path / "best.yaml"
    config.write_text(
        "dataset: test.jsonl\npolicy: base\nn: 8\nranker: length\nsampling: {max_new_tokens: 48}\n", encoding="utf-8"
    )
    work = config.with_suffix(".work")

    with (tmp_path / "first.log").open("wb") as log:
        first = subprocess.Popen(
            services.command(config), env=services.environment, cwd=tmp_path, stdout=log, stderr=log
        )
        deadline = time.monotonic() + 120
        while len(journaled(work)) < ROWS // 4 and first.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        first.send_signal(signal.SIGKILL)
        assert first.wait() == -signal.SIGKILL, (tmp_path / "first.log").read_text()
    kept = journaled(work)
    assert 0 < len(kept) < ROWS
    _wait_until_idle(services)
    before = services.generated()

    second = subprocess.run(
        services.command(config), env=services.environment, cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert second.returncode == 0, second.stderr
    assert services.generated() - before == ROWS - len(kept)
    assert json.loads(second.stdout)["items"] == ROWS
    assert sorted(journaled(work)) == sorted(row["id"] for row in rows)

    third = subprocess.run(services.command(config), env=services.environment, cwd=tmp_path, capture_output=True)
    assert third.returncode == 0
    assert services.generated() - before == ROWS - len(kept)


def _wait_until_idle(services: Services) -> None:
    """Returns when the service has dropped what it still did for the process that is gone."""
    url = f"http://127.0.0.1:{services.metrics_port}/metrics"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with urllib.request.urlopen(url) as page:
            text = page.read().decode()
        if "\nilf_refinement_queue_items 0.0" in text:
            return
        time.sleep(0.05)
    raise AssertionError("the service still works for a process that is gone")
