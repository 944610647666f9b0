"""The Kubernetes objects that a job is made of; pure functions of the job and the operator's settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from services.finetune.models import FinetuneJob
from services.finetune.settings import KubernetesSettings, TrainerPodSettings
from services.finetune.trainer.job import TRACEPARENT, Runtime, TrainerJob, write_job
from services.finetune.trainer.launch import JOB_VARIABLE, RENDEZVOUS_PORT
from services.finetune.trainer.outcome import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_PEER_LOST

JOB_ID_LABEL = "ilf.dev/job-id"
EARLIER_ATTEMPTS = "ilf.dev/earlier-attempts"
"""Annotation with the attempts that Jobs of the same name, deleted since, have used up."""
COMPONENT = "trainer"
CONTAINER = "trainer"
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
_USER = 10001
_JOBSET_MEMBER = "trainer"
_CORES = "OMP_NUM_THREADS"


def labels_of(instance: str, component: str) -> dict[str, str]:
    """The usual labels."""
    return {
        "app.kubernetes.io/name": "ilf",
        "app.kubernetes.io/instance": instance,
        "app.kubernetes.io/component": component,
        "app.kubernetes.io/managed-by": "ilf-finetune",
        "app.kubernetes.io/part-of": "ilf",
    }


def selector(instance: str, component: str) -> str:
    """Selects the objects of one component of an installation."""
    labels = labels_of(instance, component)
    return ",".join(f"{name}={labels[name]}" for name in labels if name.endswith(("/instance", "/component")))


@dataclass(frozen=True)
class Workplace:
    """Where a job's trainer works.

    Attributes:
        work_dir: In its pods.
        mirror: Key of the store that the work directory is copied to; "" where pods share it.
        owner: Reference to what owns all objects of the job.
    """

    work_dir: str
    mirror: str
    owner: Mapping[str, Any]


@dataclass(frozen=True)
class Manifests:
    """Builds the objects.

    Args:
        settings: The operator's.
        runtime: How trainers compute.
        store_root: The artifact store as pods see it.
        max_attempts: Times a trainer is started before its job fails.
    """

    settings: KubernetesSettings
    runtime: Runtime
    store_root: str
    max_attempts: int

    def knows(self, placement: str) -> bool:
        """Whether there is a placement of that name."""
        return not placement or placement in self.settings.placements

    def pods(self, job: FinetuneJob) -> TrainerPodSettings:
        """What the job's pods are given."""
        return self.settings.pods(job.spec.placement)

    def job(self, job: FinetuneJob, place: Workplace) -> dict[str, Any]:
        """A Job: with several nodes their pods know each other by the names that `service` gives them."""
        pods = self.pods(job)
        master = f"{job.id}-0.{job.id}"
        return {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": self._metadata(job, place),
            "spec": {
                "suspend": bool(pods.queue),
                "ttlSecondsAfterFinished": self.settings.ttl_seconds,
                **self._job_spec(job, place, master),
            },
        }

    def jobset(self, job: FinetuneJob, place: Workplace, api: str) -> dict[str, Any]:
        """A JobSet around the same Job, which brings the pods' names itself."""
        pods = self.pods(job)
        master = f"{job.id}-{_JOBSET_MEMBER}-0-0.{job.id}"
        member = {"metadata": self._job_labels(job), "spec": self._job_spec(job, place, master)}
        return {
            "apiVersion": api,
            "kind": "JobSet",
            "metadata": self._metadata(job, place),
            "spec": {
                "suspend": bool(pods.queue),
                "ttlSecondsAfterFinished": self.settings.ttl_seconds,
                # The Job inside tries again; when it gives up, so does the set.
                "failurePolicy": {"maxRestarts": 0},
                "network": {"enableDNSHostnames": True, "publishNotReadyAddresses": True},
                "replicatedJobs": [{"name": _JOBSET_MEMBER, "replicas": 1, "template": member}],
            },
        }

    def service(self, job: FinetuneJob, place: Workplace) -> dict[str, Any]:
        """The headless Service that gives the pods of a Job with several nodes their names."""
        return {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": job.id, "labels": self._labels(job), "ownerReferences": [place.owner]},
            "spec": {
                "clusterIP": "None",
                # Trainers look for each other before any of them is ready.
                "publishNotReadyAddresses": True,
                "selector": {JOB_ID_LABEL: job.id},
                "ports": [{"name": "rendezvous", "port": RENDEZVOUS_PORT}],
            },
        }

    def _metadata(self, job: FinetuneJob, place: Workplace) -> dict[str, Any]:
        queue = self.pods(job).queue
        inner = self._job_labels(job)
        return {
            "name": job.id,
            "labels": inner["labels"] | ({QUEUE_LABEL: queue} if queue else {}),
            "annotations": inner["annotations"],
            "ownerReferences": [place.owner],
        }

    def _job_labels(self, job: FinetuneJob) -> dict[str, Any]:
        annotations = {"ilf.dev/request-id": job.request_id, EARLIER_ATTEMPTS: str(job.attempts)}
        return {"labels": self._labels(job), "annotations": annotations}

    def _labels(self, job: FinetuneJob) -> dict[str, str]:
        return {**labels_of(self.settings.instance, COMPONENT), JOB_ID_LABEL: job.id}

    def _job_spec(self, job: FinetuneJob, place: Workplace, master: str) -> dict[str, Any]:
        pods = self.pods(job)
        return {
            "completionMode": "Indexed",
            "completions": pods.nodes,
            "parallelism": pods.nodes,
            # Counted for each pod of a group by itself: one incident that ends all of them is one attempt.
            "backoffLimitPerIndex": max(self.max_attempts - job.attempts - 1, 0),
            "maxFailedIndexes": 0,
            # Two trainers of the same part would disturb each other.
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": {
                "rules": [
                    {"action": "FailJob", "onExitCodes": _exits(EXIT_FAILED)},
                    {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
                    {"action": "Ignore", "onExitCodes": _exits(EXIT_INTERRUPTED, EXIT_PEER_LOST)},
                ]
            },
            "template": {
                "metadata": {"labels": self._labels(job)},
                "spec": self._pod_spec(job, place, pods, master),
            },
        }

    def _pod_spec(self, job: FinetuneJob, place: Workplace, pods: TrainerPodSettings, master: str) -> dict[str, Any]:
        spec: dict[str, Any] = {
            "restartPolicy": "Never",
            "serviceAccountName": self.settings.service_account,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": self.settings.grace_seconds,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": _USER,
                "runAsGroup": _USER,
                "fsGroup": _USER,
                "fsGroupChangePolicy": "OnRootMismatch",
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [self._container(job, place, pods, master)],
            "volumes": [{"name": "tmp", "emptyDir": {}}, *pods.volumes],
            "nodeSelector": dict(pods.node_selector),
            "tolerations": list(pods.tolerations),
            "imagePullSecrets": [{"name": name} for name in self.settings.image_pull_secrets],
        }
        if pods.priority_class:
            spec["priorityClassName"] = pods.priority_class
        if pods.nodes > 1:
            # A JobSet writes its own name here, which is the same.
            spec["subdomain"] = job.id
        return spec

    def _container(self, job: FinetuneJob, place: Workplace, pods: TrainerPodSettings, master: str) -> dict[str, Any]:
        gpus = {pods.gpu_resource: str(pods.gpus)} if pods.gpus else {}
        return {
            "name": CONTAINER,
            "image": self.settings.image,
            "imagePullPolicy": self.settings.image_pull_policy,
            "command": ["python", "-m", "services.finetune.trainer.launch"],
            "args": [f"--nodes={pods.nodes}", f"--processes={pods.processes_per_node}", f"--master={master}"],
            "env": self._environment(job, place, pods),
            "envFrom": [{"secretRef": {"name": name}} for name in pods.env_from_secrets],
            "resources": {"requests": {**pods.requests}, "limits": {**pods.limits, **gpus}},
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            },
            # A trainer that gives no reason leaves its last lines.
            "terminationMessagePolicy": "FallbackToLogsOnError",
            "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}, *pods.volume_mounts],
        }

    def _environment(self, job: FinetuneJob, place: Workplace, pods: TrainerPodSettings) -> list[dict[str, Any]]:
        spec = replace(job.spec, base_model=job.base_source)
        work = TrainerJob(job.id, spec, self.store_root, place.work_dir, self.runtime, place.mirror)
        values = {"HOME": "/tmp", **pods.env, JOB_VARIABLE: write_job(work).decode()}
        if self.runtime.threads:
            values[_CORES] = str(self.runtime.threads)
        if job.traceparent:
            values[TRACEPARENT] = job.traceparent
        own_address = {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}
        return [*({"name": name, "value": value} for name, value in values.items()), own_address]


def _exits(*codes: int) -> dict[str, Any]:
    return {"containerName": CONTAINER, "operator": "In", "values": sorted(codes)}
