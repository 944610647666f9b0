"""The objects that a job is made of."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ilf_common.templates import PromptTemplate
from services.finetune.adapters.kubernetes_manifests import Manifests, Workplace
from services.finetune.models import FinetuneJob, FinetuneKind, FinetuneSpec, JobState
from services.finetune.settings import FinetuneSettings, KubernetesSettings
from services.finetune.trainer.job import Runtime
from services.finetune.trainer.launch import JOB_VARIABLE

OWNER = {"apiVersion": "v1", "kind": "ConfigMap", "name": "ft-1", "uid": "u"}
PLACE = Workplace("/artifacts/finetune/ft-1", "", OWNER)


def job(placement: str = "", **changes: Any) -> FinetuneJob:
    spec = FinetuneSpec(
        FinetuneKind.SFT, "base", "d.jsonl", "out", template=PromptTemplate("p", "{context}"), placement=placement
    )
    return FinetuneJob("ft-1", "r1", spec, JobState.PENDING, 1.5, base_source="/models/base", **changes)


def manifests(**options: Any) -> Manifests:
    settings = KubernetesSettings.model_validate({"image": "ilf/trainer:1", **options})
    return Manifests(settings, Runtime(threads=4), "/artifacts", max_attempts=3)


def pod_of(manifest: dict[str, Any]) -> dict[str, Any]:
    spec: dict[str, Any] = manifest["spec"]["template"]["spec"]
    return spec


def test_a_pod_may_do_nothing_but_train() -> None:
    pod = pod_of(manifests().job(job(), PLACE))
    assert pod["automountServiceAccountToken"] is False and pod["restartPolicy"] == "Never"
    assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["runAsUser"] == 10001
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["containers"][0]["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert [mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]] == ["/tmp"]


def test_the_trainer_gets_its_job_its_threads_and_its_trace() -> None:
    container = pod_of(manifests(env={"A": "b"}).job(job(traceparent="00-t-s-01"), PLACE))["containers"][0]
    values = {one["name"]: one.get("value") for one in container["env"]}
    assert (values["A"], values["OMP_NUM_THREADS"], values["TRACEPARENT"]) == ("b", "4", "00-t-s-01")
    work = json.loads(values[JOB_VARIABLE] or "")
    assert (work["work_dir"], work["store_root"], work["spec"]["base_model"]) == (
        "/artifacts/finetune/ft-1",
        "/artifacts",
        "/models/base",
    )
    assert "--nodes=1" in container["args"]


def test_reasons_end_a_job_and_disruptions_cost_no_attempt() -> None:
    spec = manifests().job(job(attempts=1), PLACE)["spec"]
    assert [rule["action"] for rule in spec["podFailurePolicy"]["rules"]] == ["FailJob", "Ignore", "Ignore"]
    assert spec["podFailurePolicy"]["rules"][0]["onExitCodes"]["values"] == [10]
    assert spec["podFailurePolicy"]["rules"][2]["onExitCodes"]["values"] == [75, 76]
    # One of three was used up by a Job of the same name before.
    assert (spec["backoffLimitPerIndex"], spec["maxFailedIndexes"]) == (1, 0)
    assert spec["suspend"] is False


def test_a_queue_gets_the_job_suspended() -> None:
    manifest = manifests(queue="training").job(job(), PLACE)
    assert manifest["spec"]["suspend"] is True
    assert manifest["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "training"


@pytest.mark.parametrize("kind", ["job", "jobset"])
def test_several_nodes_know_the_first_by_its_name(kind: str) -> None:
    built = manifests(nodes=4, processes_per_node=8, gpus=8)
    if kind == "job":
        spec = built.job(job(), PLACE)["spec"]
        assert built.service(job(), PLACE)["metadata"]["name"] == "ft-1"
        master = "ft-1-0.ft-1"
    else:
        spec = built.jobset(job(), PLACE, "jobset.x-k8s.io/v1alpha2")["spec"]["replicatedJobs"][0]["template"]["spec"]
        master = "ft-1-trainer-0-0.ft-1"
    assert (spec["completions"], spec["parallelism"], spec["completionMode"]) == (4, 4, "Indexed")
    pod = spec["template"]["spec"]
    assert pod["subdomain"] == "ft-1"
    assert pod["containers"][0]["args"] == ["--nodes=4", "--processes=8", f"--master={master}"]
    assert pod["containers"][0]["resources"]["limits"] == {"nvidia.com/gpu": "8"}


def test_a_placement_changes_what_it_names_and_nothing_else() -> None:
    big = {"gpus": 2, "priority_class": "high", "env_from_secrets": ["hub"], "node_selector": {"gpu": "big"}}
    built = manifests(gpus=1, requests={"cpu": "1"}, tolerations=[{"key": "gpu"}], placements={"big": big})
    pod = pod_of(built.job(job("big"), PLACE))
    container = pod["containers"][0]
    assert container["resources"] == {"requests": {"cpu": "1"}, "limits": {"nvidia.com/gpu": "2"}}
    assert (pod["priorityClassName"], pod["nodeSelector"]) == ("high", {"gpu": "big"})
    assert pod["tolerations"] == [{"key": "gpu"}]
    assert container["envFrom"] == [{"secretRef": {"name": "hub"}}]
    assert "priorityClassName" not in pod_of(built.job(job(), PLACE))
    assert built.knows("big") and built.knows("") and not built.knows("bigger")


def test_the_backend_needs_an_image() -> None:
    with pytest.raises(ValueError, match="image"):
        FinetuneSettings(backend="kubernetes")
