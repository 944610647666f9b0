"""`python -m services.<name> --role front` as a process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SERVICES = ("refinement", "ranking", "reward")
HEAVY = ("torch", "transformers", "ray", "vllm", "sentence_transformers")


@pytest.mark.parametrize("service", SERVICES)
def test_a_front_imports_nothing_that_computes(service: str) -> None:
    program = (
        f"import sys, services.{service}.__main__, services.{service}.front, ilf_common.front.run\n"
        f"print(sorted(set(sys.modules) & {set(HEAVY)!r}))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("service", SERVICES)
def test_a_front_serves_at_once_without_any_worker_and_stops_on_a_signal(service: str, tmp_path: Path) -> None:
    """Under two seconds of the processor's time: what it waits for on a busy machine says nothing about it."""
    prefix = f"ILF_{service.upper()}_FRONT__"
    variables = {
        prefix + "SERVER__PORT": "0",
        prefix + "SERVER__METRICS_PORT": "0",
        prefix + "STORE__ROOT": str(tmp_path),
        prefix + "WORKERS__ADDRESS": "127.0.0.9:1",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", f"services.{service}", "--role", "front"],
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        messages = (json.loads(line)["message"] for line in process.stdout)
        assert "serving" in messages
        assert _processor_seconds(process.pid) < 2.0
    finally:
        process.terminate()
        process.stdout.close()
    assert process.wait(20) == 0


def _processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_a_front_without_workers_to_look_for_says_so() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "services.ranking", "--role", "front"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2 and "ranking_front.workers" in done.stderr
