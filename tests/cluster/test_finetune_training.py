"""Real trainers in real pods: two of them end with the weights of one, whatever becomes of the second."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from ilf_common.artifacts import ArtifactStore
from services.finetune.models import FinetuneJob, FinetuneKind, FinetuneSpec, Hyperparameters, JobState
from services.finetune.service import FinetuneService
from services.finetune.settings import FinetuneSettings
from tests.cluster.finetune_cluster import Place, controller, eventually, namespace, needs_cluster, until
from tests.integration.finetune.conftest import TEMPLATE, reversals
from tests.tiny_models import build_tiny_model

IMAGE = os.environ.get("ILF_TEST_TRAINER_IMAGE", "")
OBJECT_STORE = os.environ.get("ILF_TEST_STORE", "")
needs_image = pytest.mark.skipif(not IMAGE, reason="there is no trainer's image: ILF_TEST_TRAINER_IMAGE is not set")
pytestmark = [needs_cluster, needs_image, pytest.mark.cluster, pytest.mark.timeout(900)]

_USER = 10001


@dataclass
class Shared:
    """A namespace, and an artifact store that this process and the pods see under one name."""

    place: Place
    root: str
    pods: dict[str, Any]

    @property
    def store(self) -> ArtifactStore:
        return ArtifactStore(self.root)

    def settings(self, **options: Any) -> FinetuneSettings:
        kubernetes = {
            "namespace": self.place.namespace,
            "image": IMAGE,
            "progress_seconds": 0.5,
            "requests": {"cpu": "100m", "memory": "500Mi"},
            **self.pods,
            **options,
        }
        trainer = {"device": "cpu", "threads": 1}
        return FinetuneSettings.model_validate(
            {"store": {"root": self.root}, "backend": "kubernetes", "trainer": trainer, "kubernetes": kubernetes}
        )

    def spec(self, output: str, **hyperparameters: Any) -> FinetuneSpec:
        return FinetuneSpec(
            FinetuneKind.SFT,
            "models/base",
            "data/rows.jsonl",
            output,
            Hyperparameters(**{"learning_rate": 1e-3, "batch_size": 4, "seed": 3, **hyperparameters}),
            TEMPLATE,
        )

    def fill(self, model: Path) -> None:
        """A base model and rows to learn from: in batches of 4 the last is not full, and cannot be divided by two."""
        self.store.publish_directory(model, "models/base")
        self.store.write_bytes("data/rows.jsonl", "\n".join(map(json.dumps, reversals(38))).encode())

    def weights(self, output: str) -> dict[str, Any]:
        from safetensors.torch import load_file

        return load_file(self.store.fetch_directory(output) / "model.safetensors")


def on_a_claim(place: Place) -> Shared:
    """On a volume of this node: skipped where the cluster's volumes are no folders of this machine."""
    claim = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}}
    metadata = {"name": "artifacts"}
    place.apply({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": claim})
    # Volumes are made for the first pod that asks for them.
    place.kubectl("run", "first", "--image=busybox:1.35", f"--overrides={json.dumps(_first_pod())}", "--", "true")
    place.kubectl("wait", "--for=jsonpath={.status.phase}=Bound", "pvc/artifacts", "--timeout=60s")
    name = place.find("pvc")[0]["spec"]["volumeName"]
    volume = json.loads(place.kubectl("get", "pv", name, "-o", "json"))["spec"]
    folder = (volume.get("hostPath") or volume.get("local") or {}).get("path", "")
    if not folder or not Path(folder).is_dir():
        pytest.skip("the cluster's volumes are no folders of this machine")
    mount = {"name": "artifacts", "mountPath": folder}
    pods = {
        "volumes": [{"name": "artifacts", "persistentVolumeClaim": {"claimName": "artifacts"}}],
        "volume_mounts": [mount],
    }
    return Shared(place, folder, pods)


def _first_pod() -> dict[str, Any]:
    secure = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    container = {"name": "first", "image": "busybox:1.35", "command": ["true"], "securityContext": secure}
    volume = {"name": "artifacts", "persistentVolumeClaim": {"claimName": "artifacts"}}
    container["volumeMounts"] = [{"name": "artifacts", "mountPath": "/artifacts"}]
    user = {"runAsNonRoot": True, "runAsUser": _USER, "seccompProfile": {"type": "RuntimeDefault"}}
    return {"spec": {"containers": [container], "volumes": [volume], "securityContext": user, "restartPolicy": "Never"}}


def on_an_object_store(place: Place) -> Shared:
    """On the object store of ILF_TEST_STORE, with this process's credentials."""
    if not OBJECT_STORE:
        pytest.skip("there is no object store: ILF_TEST_STORE is not set")
    bucket, _, query = OBJECT_STORE.partition("?")
    root = f"{bucket}/{uuid.uuid4().hex}?{query}"
    secret = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    metadata = {"name": "store"}
    place.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": secret})
    return Shared(place, root, {"env_from_secrets": ["store"]})


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(params=[on_a_claim, on_an_object_store])
def shared(request: pytest.FixtureRequest, tmp_path: Path, model: Path) -> Iterator[Shared]:
    with namespace(tmp_path) as place:
        shared = request.param(place)
        shared.fill(model)
        if shared.root.startswith("/"):
            for path in [Path(shared.root), *Path(shared.root).rglob("*")]:
                shutil.chown(path, _USER, _USER)
        yield shared


@asynccontextmanager
async def trained(service: FinetuneService, request_id: str, spec: FinetuneSpec) -> AsyncIterator[FinetuneJob]:
    """A job that is running when the block begins, and has succeeded when it ends."""
    job = await service.create(request_id, spec)
    yield await until(service, job, lambda job: job.state is JobState.RUNNING or job.state.ended, seconds=240)
    done = await until(service, job, lambda job: job.state.ended, seconds=400)
    assert done.state is JobState.SUCCEEDED, (done.failure, done.conditions)


async def test_two_pods_end_with_the_weights_of_one_and_survive_the_loss_of_the_second(shared: Shared) -> None:
    longer = {"epochs": 30, "save_steps": 20}
    async with (
        controller(shared.settings()) as service,
        trained(service, "one", shared.spec("out/one", **longer)),
    ):
        pass
    async with controller(shared.settings(nodes=2, kind="job")) as service:
        async with trained(service, "two", shared.spec("out/two", **longer)) as two:
            await until(service, two, lambda job: job.progress.step >= 45, seconds=200)
            second = _pod(shared, two, index=1)
            shared.place.kubectl("delete", "pod", second, "--grace-period=0", "--force")
            seen = await until(service, two, lambda job: "RESTARTING" in _reasons(job) or job.attempts > 1)
            assert seen.progress.step >= 45
        done = service.get(two.name)
    assert done.attempts <= 2
    assert done.progress.step == done.progress.max_steps == 300
    assert done.checkpoint_digest == shared.store.read_manifest("out/two").digest
    left, right = shared.weights("out/one"), shared.weights("out/two")
    assert left.keys() == right.keys()
    assert max(float((left[name] - right[name]).abs().max()) for name in left) < 1e-4


def _pod(shared: Shared, job: FinetuneJob, index: int) -> str:
    wanted = str(index)
    label = "batch.kubernetes.io/job-completion-index"
    pods = [pod["metadata"] for pod in shared.place.find("pods", job)]
    return str(next(pod["name"] for pod in pods if pod["annotations"][label] == wanted))


def _reasons(job: FinetuneJob) -> list[str]:
    return [condition.reason for condition in job.conditions]


async def test_an_evicted_trainer_goes_on_from_its_checkpoint(shared: Shared) -> None:
    async with controller(shared.settings()) as service:
        async with trained(service, "r", shared.spec("out/r", epochs=60, save_steps=500)) as job:
            seen = await until(service, job, lambda job: job.progress.step >= 20, seconds=200)
            pod = shared.place.find("pods", job)[0]["metadata"]["name"]
            shared.place.kubectl("delete", "pod", pod, "--wait=false")
            await eventually(lambda: pod not in {one["metadata"]["name"] for one in shared.place.find("pods", job)})
            again = await until(service, job, lambda job: job.state is JobState.RUNNING, seconds=200)
            # The checkpoint is that of its last step, not one of every 500.
            assert again.progress.step >= seen.progress.step
            assert again.attempts == 1
        assert service.get(job.name).attempts == 1


async def test_rows_that_cannot_be_learned_fail_the_job_with_their_numbers(shared: Shared) -> None:
    rows = reversals(4)
    del rows[2]["completion"]
    shared.store.write_bytes("data/bad.jsonl", "\n".join(map(json.dumps, rows)).encode())
    async with controller(shared.settings(nodes=2)) as service:
        job = await service.create("bad", replace(shared.spec("out/bad"), dataset_uri="data/bad.jsonl"))
        failed = await until(service, job, lambda job: job.state.ended, seconds=240)
    assert failed.failure is not None and failed.failure.reason == "BAD_DATA"
    assert "row 3" in failed.failure.message
    assert failed.attempts == 1
