"""The orchestrator and its stand-in peers as real processes that can be killed at any moment."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import json_format
from ilf.orchestrator.v1 import orchestrator_service_pb2 as pb
from ilf.orchestrator.v1.orchestrator_service_pb2_grpc import OrchestratorServiceStub

ROOT = Path(__file__).parents[3]
ENDED = (pb.RUN_STATE_SUCCEEDED, pb.RUN_STATE_FAILED, pb.RUN_STATE_CANCELLED)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def spawn(*arguments: str, log: Path, **environment: str) -> asyncio.subprocess.Process:
    """A process that writes into a file: nobody reads a pipe while it runs."""
    variables = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'protos' / 'gen'}", **environment}
    with log.open("ab") as stream:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", *arguments, env=variables, cwd=ROOT, stdout=stream, stderr=stream
        )


async def kill(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.send_signal(signal.SIGKILL)
    await process.wait()


@dataclass
class Cluster:
    """Both processes, and the folder that holds all they keep."""

    folder: Path
    delay: float
    judges: int = 1
    limits: dict[str, int] = field(default_factory=lambda: {"RANK_ROWS": 4, "SHARDS_IN_FLIGHT": 2})
    peers_port: int = field(default_factory=free_port)
    port: int = field(default_factory=free_port)
    peers: asyncio.subprocess.Process | None = None
    orchestrator: asyncio.subprocess.Process | None = None

    @property
    def store(self) -> Path:
        return self.folder / "store"

    @property
    def peers_address(self) -> str:
        return f"127.0.0.1:{self.peers_port}"

    async def start_peers(self) -> None:
        options = {"store": self.store, "delay": self.delay, "judges": self.judges, "port": self.peers_port}
        arguments = [f"--{name}={value}" for name, value in options.items()]
        self.peers = await spawn("tests.fakes.peers", *arguments, log=self.folder / "peers.log")

    async def start_orchestrator(self, **environment: str) -> None:
        address = f'{{"address": "{self.peers_address}"}}'
        self.orchestrator = await spawn(
            "services.orchestrator",
            log=self.folder / "orchestrator.log",
            ILF_ORCHESTRATOR__SERVER__PORT=str(self.port),
            ILF_ORCHESTRATOR__SERVER__METRICS_PORT="0",
            ILF_ORCHESTRATOR__STORE__ROOT=str(self.store),
            ILF_ORCHESTRATOR__STATE_DIR=str(self.folder / "state"),
            ILF_ORCHESTRATOR__REFINEMENT=address,
            ILF_ORCHESTRATOR__RANKING=address,
            ILF_ORCHESTRATOR__FINETUNE=address,
            **{f"ILF_ORCHESTRATOR__LIMITS__{name}": str(value) for name, value in self.limits.items()},
            **environment,
        )

    async def kill_orchestrator(self) -> None:
        assert self.orchestrator is not None
        await kill(self.orchestrator)

    async def stop(self) -> None:
        for process in (self.orchestrator, self.peers):
            if process is not None:
                await kill(process)

    async def call(self, method: str, request: Any) -> Any:
        """One call, repeated until the orchestrator answers."""
        async with grpc.aio.insecure_channel(f"127.0.0.1:{self.port}") as channel:
            async with asyncio.timeout(120):
                while True:
                    try:
                        return await getattr(OrchestratorServiceStub(channel), method)(request)
                    except grpc.aio.AioRpcError as error:
                        if error.code() is not grpc.StatusCode.UNAVAILABLE:
                            raise
                        await asyncio.sleep(0.05)

    async def create(self, spec: dict[str, Any], run_id: str) -> pb.Run:
        message = json_format.ParseDict(spec, pb.RunSpec())
        run: pb.Run = await self.call("CreateRun", pb.CreateRunRequest(run_id=run_id, request_id=run_id, spec=message))
        return run

    async def end(self, run_id: str, seconds: float = 120) -> pb.Run:
        async with asyncio.timeout(seconds):
            while True:
                run: pb.Run = await self.call("GetRun", pb.GetRunRequest(name=f"runs/{run_id}"))
                if run.state in ENDED:
                    return run
                await asyncio.sleep(0.1)

    async def until(self, reached: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not reached():
                await asyncio.sleep(0.004)

    def published(self, run_id: str) -> dict[str, tuple[int, int, str]]:
        """Inode, time of change and digest of every part that has a record."""
        found = {}
        for record in (self.store / "runs" / run_id).rglob(".part-*.json"):
            part = record.with_name(record.name[1:]).with_suffix(".parquet")
            state = part.stat()
            found[str(part)] = (state.st_ino, state.st_mtime_ns, hashlib.sha256(part.read_bytes()).hexdigest())
        return found

    def parts(self, run_id: str) -> dict[str, bytes]:
        """All parts of a run by their place in it, and its checkpoints' weights."""
        folder = self.store / "runs" / run_id
        files = [*folder.rglob("part-*.parquet"), *folder.rglob("weights")]
        return {str(path.relative_to(folder)): path.read_bytes() for path in files}
