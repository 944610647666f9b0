"""KEDA scales a Deployment by what a real orchestrator wants, over mutual TLS: 0 → 3 → 0 in one run of the loop.

The orchestrator and its stand-in peers are processes of this machine, so the node has to be this machine too.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import socket
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ilf.orchestrator.v1 import orchestrator_service_pb2 as pb
from kubernetes import client, config, watch
from kubernetes.client.exceptions import ApiException

from tests.certificates import Authority
from tests.crash.orchestrator.support import Cluster as Processes
from tests.crash.orchestrator.support import free_port
from tests.fakes.pool_front import FakeFront
from tests.support import running_server

LIMIT_SECONDS = 5.0
"""From the backlog to a pod that is asked for."""


@dataclass
class Place:
    """A namespace of the cluster, and the address under which its pods reach this machine."""

    namespace: str
    address: str

    @property
    def scaler(self) -> str:
        return f"scaler.{self.namespace}.svc"

    def deployment(self) -> Any:
        return client.AppsV1Api().read_namespaced_deployment("workers", self.namespace)


@pytest.fixture
def place() -> Iterator[Place]:
    if not os.environ.get("KUBECONFIG"):
        pytest.skip("no cluster: KUBECONFIG is not set")
    config.load_kube_config()
    try:
        client.CustomObjectsApi().list_cluster_custom_object("keda.sh", "v1alpha1", "scaledobjects")
    except ApiException as error:
        pytest.skip(f"no KEDA in this cluster: {error.reason}")
    name = f"ilf-scaler-{uuid.uuid4().hex[:6]}"
    found = Place(name, _own_address())
    client.CoreV1Api().create_namespace({"metadata": {"name": name}})
    try:
        yield found
    finally:
        client.CoreV1Api().delete_namespace(name)


def _own_address() -> str:
    for node in client.CoreV1Api().list_node().items:
        for address in node.status.addresses:
            with socket.socket() as probe:
                try:
                    probe.bind((address.address, 0))
                except OSError:
                    continue
                return str(address.address)
    pytest.skip("no node of the cluster is this machine, so its pods cannot call a process here")


def apply(place: Place, authority: Authority, port: int) -> None:
    """A Deployment without replicas, and KEDA told to ask the scaler that listens on this machine."""
    certificate, key = authority.issue("keda")
    core = client.CoreV1Api()
    core.create_namespaced_service(
        place.namespace, {"metadata": {"name": "scaler"}, "spec": {"ports": [{"name": "grpc", "port": 50065}]}}
    )
    client.DiscoveryV1Api().create_namespaced_endpoint_slice(
        place.namespace,
        {
            "metadata": {"name": "scaler", "labels": {"kubernetes.io/service-name": "scaler"}},
            "addressType": "IPv4",
            "endpoints": [{"addresses": [place.address]}],
            "ports": [{"name": "grpc", "port": port}],
        },
    )
    files = {"ca": authority.file, "crt": certificate, "key": key}
    data = {name: base64.b64encode(path.read_bytes()).decode() for name, path in files.items()}
    core.create_namespaced_secret(place.namespace, {"metadata": {"name": "tls"}, "data": data})
    pod = {
        "terminationGracePeriodSeconds": 0,
        "containers": [{"name": "worker", "image": "busybox:1.35", "command": ["sleep", "3600"]}],
    }
    labels = {"app": "workers"}
    client.AppsV1Api().create_namespaced_deployment(
        place.namespace,
        {
            "metadata": {"name": "workers"},
            "spec": {
                "replicas": 0,
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": pod},
            },
        },
    )
    _apply_keda(place)


def _apply_keda(place: Place) -> None:
    references = {"caCert": "ca", "tlsClientCert": "crt", "tlsClientKey": "key"}
    _create(
        place,
        "TriggerAuthentication",
        {"secretTargetRef": [{"parameter": name, "name": "tls", "key": key} for name, key in references.items()]},
    )
    trigger = {
        "type": "external-push",
        "metadata": {"scalerAddress": f"{place.scaler}:50065", "pool": "refinement"},
        "authenticationRef": {"name": "scaler"},
    }
    now = {"stabilizationWindowSeconds": 0, "policies": [{"type": "Pods", "value": 100, "periodSeconds": 1}]}
    _create(
        place,
        "ScaledObject",
        {
            "scaleTargetRef": {"name": "workers"},
            # What is pushed must not have to wait for the poll.
            "pollingInterval": 30,
            "cooldownPeriod": 0,
            "minReplicaCount": 0,
            "maxReplicaCount": 3,
            "advanced": {"horizontalPodAutoscalerConfig": {"behavior": {"scaleUp": now, "scaleDown": now}}},
            "triggers": [trigger],
        },
    )


def _create(place: Place, kind: str, spec: dict[str, Any]) -> None:
    body = {"apiVersion": "keda.sh/v1alpha1", "kind": kind, "metadata": {"name": "scaler"}, "spec": spec}
    client.CustomObjectsApi().create_namespaced_custom_object(
        "keda.sh", "v1alpha1", place.namespace, f"{kind.lower()}s", body
    )


async def first_pod(place: Place) -> float:
    """When the API server tells of the first pod."""

    def wait() -> float:
        listing = watch.Watch().stream(client.CoreV1Api().list_namespaced_pod, place.namespace, timeout_seconds=60)
        for _ in listing:
            return time.monotonic()
        raise TimeoutError("no pod was asked for in 60 s")

    return await asyncio.to_thread(wait)


async def follow(place: Place, front: FakeFront) -> None:
    """The front counts the Deployment's ready pods as its workers."""
    while True:
        status = (await asyncio.to_thread(place.deployment)).status
        front.say(ready_workers=status.ready_replicas or 0)
        await asyncio.sleep(0.5)


async def until_replicas(place: Place, wanted: int, seconds: float) -> None:
    async with asyncio.timeout(seconds):
        while (await asyncio.to_thread(place.deployment)).spec.replicas != wanted:
            await asyncio.sleep(0.1)


async def until_keda_asks(place: Place, seconds: float) -> None:
    """Ready: KEDA has reached the scaler and made the autoscaler."""

    def ready() -> bool:
        found: Any = client.CustomObjectsApi().get_namespaced_custom_object(
            "keda.sh", "v1alpha1", place.namespace, "scaledobjects", "scaler"
        )
        conditions = found.get("status", {}).get("conditions", [])
        return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)

    async with asyncio.timeout(seconds):
        while not await asyncio.to_thread(ready):
            await asyncio.sleep(0.2)


@asynccontextmanager
async def orchestrator(folder: Path, place: Place, authority: Authority, port: int) -> AsyncIterator[Any]:
    """A real orchestrator that asks a front which says what the Deployment has."""
    certificate, key = authority.issue("scaler", name=place.scaler)
    processes, front = Processes(folder, delay=1.5), FakeFront()
    async with running_server(front.register) as address:
        pool = {
            "front": {"address": address},
            "max_replicas": 3,
            "target_seconds": 10,
            "idle_seconds": 2,
            "start_seconds": 5,
        }
        scaler = {
            "host": place.address,
            "port": port,
            "tls_cert_file": str(certificate),
            "tls_key_file": str(key),
            "tls_client_ca_file": str(authority.file),
        }
        try:
            await processes.start_peers()
            await processes.start_orchestrator(
                ILF_ORCHESTRATOR__POOLS=json.dumps({"refinement": pool}), ILF_ORCHESTRATOR__SCALER=json.dumps(scaler)
            )
            following = asyncio.create_task(follow(place, front))
            yield processes
            following.cancel()
        finally:
            await processes.stop()


def spec_of(processes: Processes, rows: int) -> dict[str, Any]:
    path = processes.store / "data" / "train.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"id": f"a{n}", "context": f"context {n}"}) + "\n" for n in range(rows)))
    return {
        "dataset": {"train_uri": "data/train.jsonl"},
        "shard_rows": 8,
        "policy": "base",
        "generate": {"template": {"name": "policy", "text": "{context}"}},
        "feedback": {"source": "SOURCE_PLUGIN", "plugin_address": processes.peers_address},
        "refine": {"refiner": "refiner"},
        "rank": {"ranker": {"name": "length"}},
        "evaluate": {"disabled": True},
    }


async def test_a_run_wakes_its_pool_in_seconds_and_lets_it_go(place: Place, tmp_path: Path) -> None:
    authority, port = Authority(tmp_path, "ours"), free_port()
    async with orchestrator(tmp_path, place, authority, port) as processes:
        apply(place, authority, port)
        await until_keda_asks(place, 60)
        assert place.deployment().spec.replicas == 0

        asked = asyncio.create_task(first_pod(place))
        await asyncio.sleep(0.5)
        # The door asks the services first; the run has rows to work off from the answer on.
        await processes.create(spec_of(processes, rows=160), "scaled")
        begin = time.monotonic()
        waited = await asked - begin
        print(f"backlog to pod asked for: {waited:.2f} s")
        assert waited < LIMIT_SECONDS

        await until_replicas(place, 3, 60)
        pools = (await processes.call("ListPools", pb.ListPoolsRequest())).pools
        assert pools[0].want == 3 and "run scaled" in pools[0].why

        run = await processes.end("scaled", 240)
        assert run.state == pb.RUN_STATE_SUCCEEDED
        await until_replicas(place, 0, 30)
