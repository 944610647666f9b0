"""A ranking service in a process of its own, with real Ray Serve."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import psutil
from ilf.ranking.v1 import ranking_service_pb2_grpc as pb_grpc


class RankingProcess:
    """`python -m services.ranking` on a free port.

    Args:
        state_dir: The service's state folder.
        settings: Further settings, by the names of their groups.
    """

    def __init__(self, state_dir: Path, **settings: Any) -> None:
        variables = {
            "ILF_RANKING__SERVER__PORT": "0",
            "ILF_RANKING__SERVER__METRICS_PORT": "0",
            "ILF_RANKING__STATE_DIR": str(state_dir),
            **{f"ILF_RANKING__{name.upper()}": json.dumps(value) for name, value in settings.items()},
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "services.ranking"],
            env={**os.environ, **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.log: list[str] = []
        self.address: str | None = None

    def wait_until_serving(self) -> str:
        """Address of the service; fails with its log when it ends before it serves."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.log.append(line)
            if '"message": "serving"' in line:
                self.address = json.loads(line)["address"]
                return str(self.address)
        raise AssertionError("".join(self.log[-20:]))

    def stub(self) -> pb_grpc.RankingServiceStub:
        assert self.address is not None
        return pb_grpc.RankingServiceStub(grpc.insecure_channel(self.address))

    def descendants(self, title: str = "") -> list[psutil.Process]:
        """Processes below the service whose title contains a text."""
        return [p for p in psutil.Process(self.process.pid).children(recursive=True) if title in " ".join(p.cmdline())]

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Sends a signal and waits for the end; answers the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        assert self.process.stdout is not None
        self.log += self.process.stdout.readlines() if number is signal.SIGTERM else []
        self.process.stdout.close()
        return self.process.wait(60)
