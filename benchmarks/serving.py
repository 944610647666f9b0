"""A service in a process of its own, as a benchmark needs it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

START_SECONDS = 300


@contextmanager
def serving(name: str, settings: Mapping[str, str]) -> Iterator[str]:
    """Starts `services.<name>` on a free port; answers its address once it serves.

    Args:
        name: Of the service.
        settings: Its settings by the names of environment variables, without the prefix.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    own = {"SERVER__PORT": str(port), "SERVER__METRICS_PORT": "0", "TELEMETRY__LOG_LEVEL": "WARNING", **settings}
    environment = os.environ | {f"ILF_{name.upper()}__{key}": value for key, value in own.items()}
    process = subprocess.Popen([sys.executable, "-m", f"services.{name}"], env=environment)
    try:
        _wait(f"127.0.0.1:{port}", f"ilf.{name}.v1.{name.capitalize()}Service")
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def _wait(address: str, service: str) -> None:
    with grpc.insecure_channel(address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        watch = stub.Watch(health_pb2.HealthCheckRequest(service=service), wait_for_ready=True, timeout=START_SECONDS)
        for response in watch:
            if response.status == health_pb2.HealthCheckResponse.SERVING:
                watch.cancel()
                return
