"""What the objects of a job say about its trainer; pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import takewhile
from typing import Any

from services.finetune.adapters.kubernetes_api import Object
from services.finetune.adapters.kubernetes_manifests import CONTAINER, EARLIER_ATTEMPTS, QUEUE_LABEL
from services.finetune.models import FinetuneJob, JobFailure
from services.finetune.ports import Observation, RunnerPhase
from services.finetune.trainer.outcome import EXIT_PEER_LOST, FailureReason

_FAILURES = "batch.kubernetes.io/job-index-failure-count"
_INDEX = "batch.kubernetes.io/job-completion-index"
_WAITING = {
    "ErrImagePull": "IMAGE_PULL",
    "ImagePullBackOff": "IMAGE_PULL",
    "InvalidImageName": "IMAGE_PULL",
    "ErrImageNeverPull": "IMAGE_PULL",
    "CreateContainerConfigError": "BAD_POD",
    "CreateContainerError": "BAD_POD",
}
_MAX_MESSAGE = 2000
# Not every node tells an end for want of memory from another one.
_KILLED = 137


@dataclass(frozen=True)
class JobObjects:
    """What the cluster holds of one job.

    Attributes:
        top: The Job, or the JobSet around it; None where there is none.
        jobs: The Jobs.
        pods: Their pods.
        events: Warnings about the Jobs.
        workloads: Kueue's view of the job.
    """

    top: Object | None
    jobs: Sequence[Object] = ()
    pods: Sequence[Object] = ()
    events: Sequence[Object] = ()
    workloads: Sequence[Object] = ()

    @property
    def job(self) -> Object | None:
        """The batch/v1 Job; None while a JobSet has not made it."""
        return self.jobs[0] if self.jobs else None


def observe(job: FinetuneJob, seen: JobObjects) -> Observation:
    """Where the job's trainer is; what only the artifact store knows is left out."""
    if seen.top is None:
        return Observation(RunnerPhase.ABSENT, job.attempts)
    attempts = _attempts(job, seen)
    ended = _condition(seen.job, "Complete") or _condition(seen.job, "Failed")
    if ended is not None:
        failure = failure_of(seen, attempts) if ended["type"] == "Failed" else None
        return Observation(RunnerPhase.ENDED, attempts, failure=failure)
    since = _since(seen.pods)
    if since is not None and _works(seen):
        return Observation(RunnerPhase.RUNNING, attempts, since=since)
    reason, message = waiting_for(seen)
    return Observation(RunnerPhase.WAITING, attempts, reason=reason, message=message[:_MAX_MESSAGE])


def waiting_for(seen: JobObjects) -> tuple[str, str]:
    """Why the trainer does not run yet: for programs, and for people."""
    assert seen.top is not None
    if "deletionTimestamp" in seen.top["metadata"]:
        return "ENDING", "Waits until the pods of the last attempt are gone."
    if seen.top.get("spec", {}).get("suspend"):
        return "QUEUED", _queued(seen)
    for pod in seen.pods:
        found = _pod_problem(pod)
        if found is not None:
            return found
    refused = _newest(event for event in seen.events if not _live(seen.pods))
    if refused is not None:
        text = refused.get("message", "")
        return ("QUOTA" if "quota" in text else "REFUSED"), f"{refused.get('reason')}: {text}"
    failed = [pod for pod in seen.pods if _phase(pod) == "Failed"]
    if failed and not _live(seen.pods):
        taken = _condition(max(failed, key=lambda pod: _started(pod) or 0.0), "DisruptionTarget")
        if taken is not None:
            text = f"The cluster took the trainer's pod away ({taken.get('reason')}: {taken.get('message', '')})"
            return "DISRUPTED", f"{text}; this counts as no attempt. Its next pod is started after a while."
        return "RESTARTING", f"The trainer ended ({last_words(failed)}); its next pod is started after a while."
    return "STARTING", "Its pods are being started."


def failure_of(seen: JobObjects, attempts: int) -> JobFailure:
    """Why a Job has failed, as far as its pods know."""
    ends = sorted(filter(None, map(_end, seen.pods)), key=lambda end: end.get("finishedAt") or "")
    for end in ends:
        reason, _, text = end.get("message", "").partition(": ")
        if reason in FailureReason.__members__:
            return JobFailure(reason, text)
    condition = _condition(seen.job, "Failed") or {}
    if any(end.get("reason") == "OOMKilled" for end in ends[-1:]):
        text = "A pod used more memory than its limit. Raise the limit, or lower micro_batch_size or max_length."
        return JobFailure(FailureReason.OUT_OF_MEMORY.value, text)
    how = last_words(seen.pods) or condition.get("message", "")
    text = f"The trainer died {attempts} times without a result; the last time: {how}"
    return JobFailure(FailureReason.TRAINER_CRASHED.value, text[:_MAX_MESSAGE])


def last_words(pods: Iterable[Object]) -> str:
    """How the pod that ended last did so, with the last lines of its log."""
    ends = sorted(filter(None, map(_end, pods)), key=lambda end: end.get("finishedAt") or "")
    if not ends:
        return ""
    end = ends[-1]
    how = f"exit code {end.get('exitCode')}"
    if end.get("reason") == "OOMKilled":
        how += " (out of memory)"
    elif end.get("exitCode") == _KILLED:
        how += " (killed, most often for want of memory)"
    lines = end.get("message", "").strip()
    return f"{how}; its last lines: {lines}" if lines else how


def _attempts(job: FinetuneJob, seen: JobObjects) -> int:
    """Earlier Jobs' attempts and this one's: evicted pods do not raise the count that Kubernetes writes on pods."""
    assert seen.top is not None
    earlier = int(seen.top["metadata"].get("annotations", {}).get(EARLIER_ATTEMPTS, "0"))
    started = [pod for pod in seen.pods if _started(pod) is not None]
    if not started:
        return max(earlier, job.attempts)
    return earlier + 1 + max(int(pod["metadata"].get("annotations", {}).get(_FAILURES, "0")) for pod in started)


def _since(pods: Sequence[Object]) -> float | None:
    """When the group was last whole: pods that came back from a lost peer go on waiting where they left off.

    Without that, a group whose pods never meet would seem to begin anew for ever, and never to stall.
    """
    nodes: dict[str, list[Object]] = {}
    for pod in sorted(pods, key=lambda pod: _started(pod) or 0.0, reverse=True):
        if _started(pod) is not None:
            nodes.setdefault(pod["metadata"].get("annotations", {}).get(_INDEX, "0"), []).append(pod)
    begins = []
    for newest, *earlier in nodes.values():
        lost = [*takewhile(lambda pod: (_end(pod) or {}).get("exitCode") == EXIT_PEER_LOST, earlier)]
        begins.append(_started(lost[-1] if lost else newest) or 0.0)
    return max(begins, default=None)


def _works(seen: JobObjects) -> bool:
    """Whether the trainer is at work, or has ended and the Job is about to say how."""
    if seen.top is None or "deletionTimestamp" in seen.top["metadata"]:
        return False
    if _condition(seen.job, "SuccessCriteriaMet") or _condition(seen.job, "FailureTarget"):
        return True
    phases = {_phase(pod) for pod in seen.pods}
    # Where a part of a group is not there, the others do nothing but wait for it.
    return bool(phases & {"Running", "Succeeded"}) and "Pending" not in phases


def _queued(seen: JobObjects) -> str:
    assert seen.top is not None
    queue = seen.top["metadata"].get("labels", {}).get(QUEUE_LABEL, "")
    for workload in seen.workloads:
        for kind in ("Admitted", "QuotaReserved"):
            condition = _condition(workload, kind)
            if condition is not None and condition["status"] == "False" and condition.get("message"):
                return f"Waits in the queue {queue}: {condition['message']}"
    return f"Waits in the queue {queue} until it is admitted." if queue else "It is suspended."


def _pod_problem(pod: Object) -> tuple[str, str] | None:
    if _phase(pod) != "Pending":
        return None
    scheduled = next((c for c in _conditions(pod) if c["type"] == "PodScheduled"), None)
    if scheduled is not None and scheduled["status"] == "False":
        gated = scheduled.get("reason") == "SchedulingGated"
        return ("QUEUED" if gated else "UNSCHEDULABLE"), scheduled.get("message") or "No node can run its pod."
    status = pod.get("status", {})
    for container in (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())):
        waiting = container.get("state", {}).get("waiting", {})
        if waiting.get("reason") in _WAITING:
            # The message of a back-off names the image and no longer the cause.
            text = f"{waiting['reason']}: {waiting.get('message', '')}"
            return _WAITING[waiting["reason"]], text
    return None


def _live(pods: Iterable[Object]) -> bool:
    return any(_phase(pod) in ("Pending", "Running") for pod in pods)


def _newest(events: Iterable[Object]) -> Object | None:
    return max(events, key=lambda e: e.get("lastTimestamp") or e.get("eventTime") or "", default=None)


def _trainer(pod: Object) -> dict[str, Any]:
    statuses = pod.get("status", {}).get("containerStatuses", ())
    state: dict[str, Any] = next((one.get("state", {}) for one in statuses if one["name"] == CONTAINER), {})
    return state


def _end(pod: Object) -> dict[str, Any] | None:
    """How the trainer's container of a pod ended, unless it ended well."""
    end: dict[str, Any] | None = _trainer(pod).get("terminated")
    return end if end is not None and end.get("exitCode") != 0 else None


def _started(pod: Object) -> float | None:
    state = _trainer(pod)
    known = state.get("running") or state.get("terminated") or {}
    # A container that could not be started says that it did so in 1970.
    at = known.get("finishedAt" if known.get("reason") == "StartError" else "startedAt")
    return datetime.fromisoformat(at).timestamp() if at else None


def _phase(pod: Object) -> str:
    phase: str = pod.get("status", {}).get("phase", "Pending")
    return phase


def _conditions(found: Object | None) -> Sequence[dict[str, Any]]:
    conditions: Sequence[dict[str, Any]] = (found or {}).get("status", {}).get("conditions", ())
    return conditions


def _condition(found: Object | None, kind: str) -> dict[str, Any] | None:
    """A condition that holds; of Kueue's, also one that does not."""
    for condition in _conditions(found):
        if condition["type"] == kind and (condition["status"] == "True" or kind in ("Admitted", "QuotaReserved")):
            return condition
    return None
