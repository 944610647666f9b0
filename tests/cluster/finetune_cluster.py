"""The finetune service on a real API server: a namespace, pods that follow a script, and a service in this process."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ilf_common.artifacts import ArtifactStore
from ilf_common.templates import PromptTemplate
from services.finetune.models import FinetuneJob, FinetuneKind, FinetuneSpec, Progress
from services.finetune.service import FinetuneService
from services.finetune.settings import FinetuneSettings
from services.finetune.trainer.outcome import TrainerResult, write_progress, write_result
from services.finetune.wiring import build

needs_cluster = pytest.mark.skipif("KUBECONFIG" not in os.environ, reason="there is no cluster: KUBECONFIG is not set")
SCRIPT_IMAGE = os.environ.get("ILF_TEST_SCRIPT_IMAGE", "busybox:1.35")

# Pods run `python -m services.finetune.trainer.launch …`; this takes the place of `python`.
_PYTHON = '#!/bin/sh\nexec sh -c "$SCRIPT" -- "$@"\n'
_PATH = "/script:/usr/local/bin:/usr/bin:/bin"


def kubectl(*arguments: str, namespace: str = "", stdin: Any = None) -> str:
    """Runs kubectl; answers what it says."""
    scope = ["--namespace", namespace] if namespace else []
    ended = subprocess.run(
        ["kubectl", *scope, *arguments],
        input=json.dumps(stdin) if stdin is not None else None,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def has_api(group: str) -> bool:
    """Whether the cluster serves an API group."""
    return any(line.split("/")[0] == group for line in kubectl("api-versions").splitlines())


@dataclass
class Place:
    """A namespace and an artifact store."""

    namespace: str
    folder: Path

    @property
    def store(self) -> ArtifactStore:
        return ArtifactStore(str(self.folder / "store"))

    def kubectl(self, *arguments: str, stdin: Any = None) -> str:
        return kubectl(*arguments, namespace=self.namespace, stdin=stdin)

    def apply(self, manifest: Any) -> None:
        self.kubectl("apply", "-f", "-", stdin=manifest)

    def find(self, kind: str, job: FinetuneJob | None = None) -> list[dict[str, Any]]:
        """Objects of a kind, of one job or of all."""
        only = [f"--selector=ilf.dev/job-id={job.id}"] if job else []
        found: list[dict[str, Any]] = json.loads(self.kubectl("get", kind, "-o", "json", *only))["items"]
        return found

    def settings(self, scripts: dict[str, str] | None = None, **options: Any) -> FinetuneSettings:
        """A service whose placements are scripts that pods run instead of the trainer; options of `kubernetes`."""
        service = {name: options.pop(name) for name in ("max_attempts", "stall_seconds") if name in options}
        placements = {name: {"env": {"SCRIPT": text, "PATH": _PATH}} for name, text in (scripts or {}).items()}
        placements |= options.pop("placements", {})
        return FinetuneSettings.model_validate(
            {
                "store": {"root": str(self.folder / "store")},
                "backend": "kubernetes",
                "models": {"base": str(self.folder)},
                **service,
                "kubernetes": {
                    "namespace": self.namespace,
                    "image": SCRIPT_IMAGE,
                    "grace_seconds": 1,
                    "progress_seconds": 0.2,
                    "resync_seconds": 2,
                    "placements": placements,
                    "volumes": [{"name": "script", "configMap": {"name": "script", "defaultMode": 0o555}}],
                    "volume_mounts": [{"name": "script", "mountPath": "/script"}],
                    **options,
                },
            }
        )

    def spec(self, script: str = "", output: str = "") -> FinetuneSpec:
        template = PromptTemplate("p", "say {context}")
        output = output or f"out/{uuid.uuid4()}"
        return FinetuneSpec(FinetuneKind.SFT, "base", "data/rows.jsonl", output, template=template, placement=script)

    def step(self, job_id: str, step: int, of: int = 10) -> None:
        """What the trainer writes as it goes."""
        folder = self.store.local_path(f"finetune/{job_id}")
        folder.mkdir(parents=True, exist_ok=True)
        write_progress(folder, Progress(step, of, loss=1 / step, tokens_per_second=9.0, last_step_time=time.time()))

    def finish(self, job_id: str, result: TrainerResult) -> None:
        """What the trainer writes at its end."""
        folder = self.store.local_path(f"finetune/{job_id}")
        folder.mkdir(parents=True, exist_ok=True)
        write_result(folder, result)


@contextmanager
def namespace(folder: Path) -> Iterator[Place]:
    """A namespace in which only pods that fit `restricted` run."""
    place = Place(f"ilf-finetune-{uuid.uuid4().hex[:8]}", folder)
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    metadata = {"name": place.namespace, "labels": labels}
    kubectl("apply", "-f", "-", stdin={"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    try:
        place.apply(
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "script"}, "data": {"python": _PYTHON}}
        )
        place.store.write_bytes("data/rows.jsonl", b"{}")
        yield place
    finally:
        kubectl("delete", "namespace", place.namespace, "--wait=false")


@asynccontextmanager
async def controller(settings: FinetuneSettings) -> AsyncIterator[FinetuneService]:
    """A running service."""
    finetune = build(settings)
    await finetune.service.start()
    try:
        yield finetune.service
    finally:
        await finetune.stop()


async def until(
    service: FinetuneService, job: FinetuneJob, fits: Callable[[FinetuneJob], bool], seconds: float = 90
) -> FinetuneJob:
    """The first state of a job that fits."""
    seen = job
    try:
        async with asyncio.timeout(seconds):
            async for seen in service.watch(job.name):
                if fits(seen):
                    return seen
    except TimeoutError:
        pass
    raise AssertionError(f"waited in vain; {seen.state} {seen.failure} {seen.conditions[-3:]}")


async def eventually(fits: Callable[[], Any], seconds: float = 60) -> Any:
    """The first true value of a condition on the cluster."""
    async with asyncio.timeout(seconds):
        while not (value := await asyncio.to_thread(fits)):
            await asyncio.sleep(0.3)
    return value


def reasons(job: FinetuneJob) -> list[str]:
    return [condition.reason for condition in job.conditions]
