"""The finetune controller with a thousand training jobs at once, on nodes and pods that kwok simulates.

`python -m benchmarks.controller` needs KUBECONFIG and a cluster with kwok (nodes annotated `kwok.x-k8s.io/node=fake`);
without them it says so and measures nothing.
The controller is a process of its own, reached through gRPC. Every job is created, watched to its end, and cleaned up;
counted are the controller's requests to the API server (its own metric), its memory and processor time, and how long
after a pod or a Job has changed the job's `Watch` event comes. The API server's own events, seen by a watch of this
process, are the begin of that time, so both ends of it pass through the same machine. Exit code 1 when its p99 is
over the limit.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import grpc
import psutil
from ilf.common.v1 import common_pb2
from ilf.finetune.v1 import finetune_service_pb2 as pb
from ilf.finetune.v1 import finetune_service_pb2_grpc as pb_grpc

from benchmarks.recording import print_table, record
from ilf_common.artifacts import ArtifactStore
from services.finetune.adapters.kubernetes_api import CONFIG_MAPS, JOBS, PODS, Cluster
from services.finetune.models import job_id_of
from tests.support import free_ports

LIMIT_SECONDS = 1.0
NODES = 20
FAKE = {"kwok.x-k8s.io/node": "fake"}
CREATING_AT_ONCE = 16


class NoKwokError(Exception):
    """Nothing makes the simulated nodes ready."""


def kubectl(*arguments: str, stdin: Any = None) -> str:
    """Runs kubectl."""
    text = json.dumps(stdin) if stdin is not None else None
    return subprocess.run(["kubectl", *arguments], input=text, capture_output=True, text=True, check=True).stdout


@contextmanager
def simulated_nodes() -> Iterator[str]:
    """A namespace, and nodes that only pods of this benchmark are put on."""
    name = f"ilf-bench-{uuid.uuid4().hex[:8]}"
    capacity = {"cpu": "256", "memory": "1Ti", "pods": "500"}
    nodes = [
        {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": f"{name}-{number}", "annotations": FAKE, "labels": {"ilf.dev/bench": name}},
            "spec": {"taints": [{"key": "ilf.dev/bench", "value": name, "effect": "NoSchedule"}]},
            "status": {"allocatable": capacity, "capacity": capacity},
        }
        for number in range(NODES)
    ]
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    kubectl("apply", "-f", "-", stdin={"apiVersion": "v1", "kind": "List", "items": [namespace, *nodes]})
    mine = ("nodes", "--selector", f"ilf.dev/bench={name}")
    try:
        try:
            kubectl("wait", *mine, "--for=condition=Ready", "--timeout=60s")
        except subprocess.CalledProcessError as error:
            raise NoKwokError from error
        yield name
    finally:
        kubectl("delete", "namespace", name)
        kubectl("delete", *mine)


def missing() -> str:
    """What keeps this from being measured here; "" when nothing does."""
    if "KUBECONFIG" not in os.environ:
        return "KUBECONFIG is not set"
    if shutil.which("kubectl") is None:
        return "there is no kubectl on the PATH"
    return ""


class Controller:
    """`python -m services.finetune` as a process."""

    def __init__(self, folder: Path, namespace: str, keep_seconds: float) -> None:
        self.port, self._metrics_port = free_ports(2)
        kubernetes = {
            "namespace": namespace,
            "image": "ilf/trainer:simulated",
            "kind": "job",
            "node_selector": {"ilf.dev/bench": namespace},
            "tolerations": [{"key": "ilf.dev/bench", "operator": "Exists"}],
            "requests": {"cpu": "100m"},
            "ttl_seconds": 30,
            "keep_seconds": keep_seconds,
        }
        settings = {
            "server": {"port": self.port, "metrics_port": self._metrics_port, "max_concurrent_rpcs": 10_000},
            "telemetry": {"log_level": "WARNING"},
            "store": {"root": str(folder / "store")},
            "models": {"base": str(folder)},
            "backend": "kubernetes",
            "kubernetes": kubernetes,
        }
        ArtifactStore(str(folder / "store")).write_bytes("data/rows.jsonl", b"{}")
        config = folder / "config.yaml"
        config.write_text(json.dumps({"finetune": settings}), encoding="utf-8")
        environment = {**os.environ, "ILF_CONFIG_FILE": str(config)}
        self._process = subprocess.Popen([sys.executable, "-m", "services.finetune"], env=environment)
        self._seen = psutil.Process(self._process.pid)

    def stop(self) -> None:
        """Ends the process."""
        self._process.terminate()
        self._process.wait()

    def cpu_seconds(self) -> float:
        """Processor time so far."""
        times = self._seen.cpu_times()
        return float(times.user + times.system)

    def memory_mib(self) -> float:
        """Resident memory now."""
        return float(self._seen.memory_info().rss) / 2**20

    def requests(self) -> dict[str, float]:
        """Requests to the API server so far."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self._metrics_port}/metrics") as page:
            lines = page.read().decode().splitlines()
        prefix = "ilf_finetune_kubernetes_requests_total"
        return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(prefix)}


class Observer:
    """When the API server told of the pods' starts and the Jobs' ends, by job."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.started: dict[str, float] = {}
        self.ended: dict[str, float] = {}

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Watches meanwhile."""
        tasks = [asyncio.create_task(self._pods()), asyncio.create_task(self._jobs())]
        yield
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)

    async def _pods(self) -> None:
        _, version = await self._cluster.list(PODS)
        async for event in self._cluster.watch(PODS, version, seconds=3600):
            if event["object"].get("status", {}).get("phase") == "Running":
                self.started.setdefault(event["object"]["metadata"]["labels"]["ilf.dev/job-id"], time.monotonic())

    async def _jobs(self) -> None:
        _, version = await self._cluster.list(JOBS)
        async for event in self._cluster.watch(JOBS, version, seconds=3600):
            for condition in event["object"].get("status", {}).get("conditions", ()):
                if (condition["type"], condition["status"]) == ("Complete", "True"):
                    self.ended.setdefault(event["object"]["metadata"]["name"], time.monotonic())


class Client:
    """Creates jobs and watches each of them to its end."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = pb_grpc.FinetuneServiceStub(channel)
        self._places = asyncio.Semaphore(CREATING_AT_ONCE)
        self.seen: dict[tuple[str, int], float] = {}
        self.created_seconds = 0.0

    async def run(self, jobs: int) -> None:
        """Takes all jobs to their end."""
        begin = time.monotonic()
        await asyncio.gather(*(self._job(number, begin) for number in range(jobs)))

    async def _job(self, number: int, begin: float) -> None:
        request_id = f"bench-{number}"
        spec = pb.FinetuneSpec(
            kind=pb.FINETUNE_KIND_SFT,
            base_model="base",
            dataset_uri="data/rows.jsonl",
            output_uri=f"out/{number}",
            template=common_pb2.PromptTemplate(text="say {context}"),
        )
        async with self._places:
            job = await self._stub.CreateFinetuneJob(pb.CreateFinetuneJobRequest(request_id=request_id, spec=spec))
        self.created_seconds = time.monotonic() - begin
        async for response in self._stub.WatchFinetuneJob(pb.WatchFinetuneJobRequest(name=job.name)):
            state = response.finetune_job.state
            self.seen.setdefault((job_id_of(request_id), state), time.monotonic())
            if state == pb.FINETUNE_JOB_STATE_FAILED:
                raise RuntimeError(response.finetune_job.error.message)


async def measure(jobs: int, keep_seconds: float) -> tuple[list[dict[str, Any]], float]:
    """Runs so many jobs; answers the table and the worst p99 of the delays."""
    load = os.getloadavg()[0]
    with simulated_nodes() as namespace, tempfile.TemporaryDirectory() as name:
        controller = Controller(Path(name), namespace, keep_seconds)
        cluster = Cluster(namespace)
        try:
            options = [("grpc.enable_retries", 0)]
            async with grpc.aio.insecure_channel(f"127.0.0.1:{controller.port}", options=options) as channel:
                await _wait_until_serving(channel)
                idle_mib, idle_cpu = controller.memory_mib(), controller.cpu_seconds()
                client, observer = Client(channel), Observer(cluster)
                begin = time.monotonic()
                async with observer.watching():
                    await client.run(jobs)
                seconds = time.monotonic() - begin
                busy_cpu = controller.cpu_seconds() - idle_cpu
                peak_mib = controller.memory_mib()
                while (await cluster.list(CONFIG_MAPS, "app.kubernetes.io/name=ilf"))[0]:
                    await asyncio.sleep(1)
                requests = controller.requests()
        finally:
            controller.stop()
            await cluster.close()
    starts = _delays(client, observer.started, pb.FINETUNE_JOB_STATE_RUNNING)
    ends = _delays(client, observer.ended, pb.FINETUNE_JOB_STATE_SUCCEEDED)
    watches = sum(count for name, count in requests.items() if 'verb="watch"' in name or 'verb="list"' in name)
    row = {
        "jobs": jobs,
        "load before": round(load, 1),
        "seconds": round(seconds),
        "created in s": round(client.created_seconds, 1),
        "requests/job": round((sum(requests.values()) - watches) / jobs, 2),
        "lists and watches": round(watches),
        "MiB idle": round(idle_mib),
        "MiB with all jobs": round(peak_mib),
        "CPU ms/job": round(1000 * busy_cpu / jobs, 1),
        "pod runs to Watch, p50 ms": round(1000 * _quantile(starts, 0.5)),
        "p99 ms": round(1000 * _quantile(starts, 0.99)),
        "Job ends to Watch, p50 ms": round(1000 * _quantile(ends, 0.5)),
        "p99 ms ": round(1000 * _quantile(ends, 0.99)),
    }
    return [row], max(_quantile(starts, 0.99), _quantile(ends, 0.99))


async def _wait_until_serving(channel: grpc.aio.Channel) -> None:
    stub = pb_grpc.FinetuneServiceStub(channel)
    deadline = time.monotonic() + 60
    while True:
        try:
            await stub.ListFinetuneJobs(pb.ListFinetuneJobsRequest(), timeout=5)
            return
        except grpc.aio.AioRpcError:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.2)


def _delays(client: Client, changed: dict[str, float], state: int) -> list[float]:
    """Seconds from a change to its event. Both are seen by this process, in either order."""
    return sorted(max(client.seen[job, state] - at, 0.0) for job, at in changed.items() if (job, state) in client.seen)


def _quantile(values: list[float], share: float) -> float:
    return values[min(int(len(values) * share), len(values) - 1)]


async def main() -> int:
    """Measures and records."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--keep-seconds", type=float, default=120)
    parser.add_argument("--no-record", action="store_true")
    options = parser.parse_args()
    if reason := missing():
        print(f"not measured: {reason}")
        return 0
    try:
        rows, p99 = await measure(options.jobs, options.keep_seconds)
    except NoKwokError:
        print("not measured: no kwok on the cluster, the simulated nodes do not become ready")
        return 0
    print_table(rows)
    if not options.no_record:
        record("controller", rows, packages=("kubernetes", "grpcio", "aiohttp"))
    return 0 if p99 <= LIMIT_SECONDS else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
