"""The ranking service as an application of a Ray cluster that somebody else runs, as under KubeRay."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from ilf.common.v1 import common_pb2
from ilf.ranking.v1 import ranking_service_pb2 as pb
from ilf.ranking.v1 import ranking_service_pb2_grpc as pb_grpc

from ilf_common.errors import UnauthenticatedError
from ilf_common.rpc.client import ChannelSettings, call, open_channel
from services.ranking.front import API
from tests.certificates import Authority, write
from tests.rpc.front.harness import Addresses, running_front
from tests.support import free_ports
from tests.tiny_models import build_tiny_model, tiny_sentence

pytestmark = pytest.mark.engine

PROGRAM = Path(__file__).parents[2] / "fakes" / "ranking_in_ray.py"
IDLE_SECONDS = 4


class RayApp:
    """The cluster's process and the settings of the service in it, whose certificate is for `workers.example`."""

    def __init__(self, root: Path) -> None:
        authority = Authority(root, "ours")
        certificate, key = authority.issue("worker", name="workers.example")
        token = write(root / "token", "secret")
        (port,) = free_ports(1)
        judge = {
            "source": str(build_tiny_model(root / "judge")),
            "engine": {"kind": "transformers", "device": "cpu"},
            "autoscaling": {"min_replicas": 0, "max_replicas": 1, "idle_seconds": IDLE_SECONDS},
            "resources": {"ilf_judge": 0.5},
        }
        sections = {
            "server": {
                "port": port,
                "tls_cert_file": str(certificate),
                "tls_key_file": str(key),
                "tls_client_ca_file": str(authority.file),
                "token_file": str(token),
            },
            "models": {"judge": judge},
            "embedding": {"enabled": False},
            "ray": {"ingress_resources": {"ilf_head": 0.1}},
        }
        config = write(root / "config.yaml", json.dumps({"ranking": sections}))
        shown, shown_key = authority.issue("front", name="front.example")
        self.channel = ChannelSettings(
            address=f"127.0.0.1:{port}",
            tls_ca_file=authority.file,
            tls_cert_file=shown,
            tls_key_file=shown_key,
            token_file=token,
        )
        # Sockets of Ray want a short path.
        self._folder = tempfile.TemporaryDirectory(prefix="ilf-ray-", dir="/tmp")
        self.process = subprocess.Popen(
            [sys.executable, str(PROGRAM), self._folder.name],
            env={**os.environ, "ILF_CONFIG_FILE": str(config), "PYTHONPATH": os.pathsep.join(sys.path)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def deployed(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("DEPLOYED"):
                return
        raise AssertionError("Ray ended before the application was there")

    def deploy_again(self, call_seconds: int) -> None:
        assert self.process.stdin is not None
        print(call_seconds, file=self.process.stdin, flush=True)
        self.deployed()

    def judges(self) -> int:
        """Processes that hold a judge."""
        found = 0
        for one in psutil.Process(self.process.pid).children(recursive=True):
            # A process that has ended is there until its parent has looked.
            with contextlib.suppress(psutil.NoSuchProcess):
                found += "ServeReplica:ilf-ranking:judge-judge" in " ".join(one.cmdline())
        return found

    def end(self) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(60)
        self.process.stdout.close()
        self._folder.cleanup()


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayApp]:
    app = RayApp(tmp_path_factory.mktemp("ray-app"))
    try:
        app.deployed()
        yield app
    finally:
        app.end()


def request(ranker: str) -> pb.RankRequest:
    template = common_pb2.PromptTemplate(
        text="{context} \n{initial_output} \n{feedback} \n{candidate} \nquestion:",
        positive_answers=[" Yes"],
        negative_answers=[" No"],
    )
    judges = [pb.JudgeSpec(name="one", model="judge", template=template)] if ranker == "instruct_rm" else []
    return pb.RankRequest(
        ranker=pb.RankerSpec(name=ranker, judges=judges),
        context=tiny_sentence(1, 12),
        initial_output=tiny_sentence(2),
        feedback=tiny_sentence(3),
        candidates=[tiny_sentence(4, 4), tiny_sentence(5, 12)],
    )


async def test_the_server_in_the_replica_is_that_of_every_service(app: RayApp) -> None:
    """TLS with client certificates, tokens, health: nothing is weaker inside Ray."""
    async with open_channel(app.channel, server_name="workers.example") as channel:
        stub: Any = pb_grpc.RankingServiceStub(channel)
        assert (await call(stub.Rank, request("length"), timeout=20)).chosen_index == 1
        health: Any = health_pb2_grpc.HealthStub(channel)
        asked = health_pb2.HealthCheckRequest(service="ilf.ranking.v1.RankingService")
        assert (await call(health.Check, asked, timeout=5)).status == health_pb2.HealthCheckResponse.SERVING
    without = ChannelSettings(
        address=app.channel.address,
        tls_ca_file=app.channel.tls_ca_file,
        tls_cert_file=app.channel.tls_cert_file,
        tls_key_file=app.channel.tls_key_file,
    )
    async with open_channel(without, server_name="workers.example") as channel:
        with pytest.raises(UnauthenticatedError):
            await call(pb_grpc.RankingServiceStub(channel).Rank, request("length"), timeout=20)


async def test_a_judge_starts_for_the_first_call_and_goes_when_nobody_calls(app: RayApp) -> None:
    assert app.judges() == 0
    async with open_channel(app.channel, server_name="workers.example") as channel:
        stub: Any = pb_grpc.RankingServiceStub(channel)
        ranked = await call(stub.Rank, request("instruct_rm"), timeout=120)
        assert len(ranked.scores) == 2 and app.judges() == 1
    deadline = time.monotonic() + 60
    while app.judges():
        assert time.monotonic() < deadline, "the judge stays"
        await asyncio.sleep(0.5)


async def test_a_front_hides_a_new_deployment(app: RayApp, tmp_path: Path) -> None:
    """The front forwards to the replica as to any worker; while it is replaced, calls wait and none fails."""
    addresses = Addresses()
    addresses.now.add(app.channel.address)
    settings = ChannelSettings(
        address=f"workers.example:{app.channel.address.rpartition(':')[2]}",
        tls_ca_file=app.channel.tls_ca_file,
        tls_cert_file=app.channel.tls_cert_file,
        tls_key_file=app.channel.tls_key_file,
        token_file=app.channel.token_file,
    )
    async with running_front(tmp_path, addresses, api=API, workers=settings, wait_seconds=120.0) as pool:
        stub: Any = pb_grpc.RankingServiceStub(pool.channel)
        assert {one.name for one in (await stub.ListRankers(pb.ListRankersRequest())).rankers} >= {"length"}
        deploying = asyncio.create_task(asyncio.to_thread(app.deploy_again, 1234))
        answered = 0
        while not deploying.done():
            response = await stub.Rank(request("length"), timeout=120)
            assert response.chosen_index == 1
            answered += 1
        await deploying
        assert answered > 0 and (await stub.Rank(request("instruct_rm"), timeout=120)).scores
