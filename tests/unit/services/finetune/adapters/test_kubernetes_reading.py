"""What is read off a job's objects; they look as a real cluster showed them."""

from __future__ import annotations

from typing import Any

import pytest

from ilf_common.templates import PromptTemplate
from services.finetune.adapters.kubernetes_reading import JobObjects, observe
from services.finetune.models import FinetuneJob, FinetuneKind, FinetuneSpec, JobState
from services.finetune.ports import RunnerPhase

SPEC = FinetuneSpec(FinetuneKind.SFT, "base", "d.jsonl", "out", template=PromptTemplate("p", "{context}"))
JOB = FinetuneJob("ft-1", "r1", SPEC, JobState.PENDING, 1.5)
AT = "2026-01-01T00:00:00Z"


def top(*conditions: dict[str, Any], suspend: bool = False, earlier: int = 0, **metadata: Any) -> dict[str, Any]:
    annotations = {"ilf.dev/earlier-attempts": str(earlier)}
    return {
        "metadata": {"name": "ft-1", "annotations": annotations, "labels": {}, **metadata},
        "spec": {"suspend": suspend},
        "status": {"conditions": conditions},
    }


def true(kind: str, message: str = "") -> dict[str, Any]:
    return {"type": kind, "status": "True", "message": message}


def false(kind: str, message: str) -> dict[str, Any]:
    return {"type": kind, "status": "False", "message": message}


def pod(phase: str, failures: int = 0, conditions: tuple[Any, ...] = (), **state: Any) -> dict[str, Any]:
    annotations = {"batch.kubernetes.io/job-index-failure-count": str(failures)}
    containers = [{"name": "trainer", "state": state}] if state else []
    return {
        "metadata": {"name": "ft-1-0-x", "annotations": annotations},
        "status": {"phase": phase, "conditions": list(conditions), "containerStatuses": containers},
    }


def ended(code: int, message: str = "", reason: str = "Error") -> dict[str, Any]:
    state = {"exitCode": code, "message": message, "reason": reason, "startedAt": AT, "finishedAt": AT}
    return pod("Failed", terminated=state)


RUNNING = pod("Running", running={"startedAt": AT})


def objects(job: dict[str, Any], *pods: dict[str, Any], **more: Any) -> JobObjects:
    return JobObjects(job, [job], pods, **more)


def test_nothing_there_is_absent_and_forgets_no_attempt() -> None:
    assert observe(JOB, JobObjects(None)).phase is RunnerPhase.ABSENT


def test_running_pods_run_since_the_last_of_them_started() -> None:
    seen = observe(JOB, objects(top(earlier=1), RUNNING))
    assert (seen.phase, seen.attempts, seen.since) == (RunnerPhase.RUNNING, 2, 1767225600.0)


def test_failures_that_kubernetes_counts_are_attempts() -> None:
    assert (
        observe(JOB, objects(top(), ended(1), {**RUNNING, **pod("Running", 1, running={"startedAt": AT})})).attempts
        == 2
    )


def test_a_pod_that_the_cluster_took_away_is_not_said_to_have_failed() -> None:
    taken = ended(137)
    preempted = true("DisruptionTarget", "preempting to accommodate a higher priority pod")
    taken["status"]["conditions"] = [{**preempted, "reason": "PreemptionByScheduler"}]
    seen = observe(JOB, objects(top(), taken))
    assert (seen.phase, seen.reason) == (RunnerPhase.WAITING, "DISRUPTED")
    assert "PreemptionByScheduler: preempting to accommodate" in seen.message


def test_a_group_runs_when_all_of_it_does() -> None:
    seen = observe(JOB, objects(top(), RUNNING, pod("Pending", waiting={"reason": "ContainerCreating"})))
    assert (seen.phase, seen.reason) == (RunnerPhase.WAITING, "STARTING")


@pytest.mark.parametrize(
    ("objects", "reason", "message"),
    [
        (objects(top()), "STARTING", "being started"),
        (
            objects(top(), pod("Pending", conditions=(
                {"type": "PodScheduled", "status": "False", "message": "0/1 nodes: 1 Insufficient nvidia.com/gpu."},
            ))),
            "UNSCHEDULABLE", "Insufficient nvidia.com/gpu",
        ),
        (
            objects(top(), pod("Pending", waiting={"reason": "ImagePullBackOff", "message": "no such image"})),
            "IMAGE_PULL", "ImagePullBackOff: no such image",
        ),
        (
            objects(top(), pod("Pending", waiting={"reason": "CreateContainerConfigError", "message": "no secret"})),
            "BAD_POD", "no secret",
        ),
        (
            objects(top(), events=[{"reason": "FailedCreate", "message": "exceeded quota: q", "lastTimestamp": AT}]),
            "QUOTA", "FailedCreate: exceeded quota",
        ),
        (
            objects(top(), events=[{"reason": "FailedCreate", "message": "violates PodSecurity", "lastTimestamp": AT}]),
            "REFUSED", "violates PodSecurity",
        ),
        (objects(top(), ended(1, "Killed")), "RESTARTING", "exit code 1; its last lines: Killed"),
        (objects(top(deletionTimestamp=AT), RUNNING), "ENDING", "gone"),
        (objects(top(suspend=True)), "QUEUED", "suspended"),
        (
            objects(top(suspend=True, labels={"kueue.x-k8s.io/queue-name": "training"}), workloads=[
                {"status": {"conditions": [false("QuotaReserved", "insufficient quota")]}}
            ]),
            "QUEUED", "Waits in the queue training: insufficient quota",
        ),
    ],
)  # fmt: skip
def test_what_it_waits_for_is_told(objects: JobObjects, reason: str, message: str) -> None:
    seen = observe(JOB, objects)
    assert (seen.phase, seen.reason) == (RunnerPhase.WAITING, reason)
    assert message in seen.message


def test_an_old_refusal_does_not_hide_that_pods_run() -> None:
    refused = {"reason": "FailedCreate", "message": "exceeded quota: q", "lastTimestamp": AT}
    assert observe(JOB, objects(top(), RUNNING, events=[refused])).phase is RunnerPhase.RUNNING


@pytest.mark.parametrize(
    ("pod", "reason", "message"),
    [
        (ended(10, "BAD_DATA: row 3 has no text"), "BAD_DATA", "row 3 has no text"),
        (ended(10, "NAN_LOSS: The loss of step 3 is nan."), "NAN_LOSS", "step 3"),
        (ended(137, "", "OOMKilled"), "OUT_OF_MEMORY", "memory"),
        (ended(137), "TRAINER_CRASHED", "want of memory"),
        (ended(3, "no such tensor"), "TRAINER_CRASHED", "1 times without a result; the last time: exit code 3"),
    ],
)
def test_how_it_failed_is_told(pod: dict[str, Any], reason: str, message: str) -> None:
    seen = observe(JOB, objects(top(true("Failed", "backoff limit")), pod))
    assert seen.phase is RunnerPhase.ENDED and seen.failure is not None
    assert seen.failure.reason == reason
    assert message in seen.failure.message


def test_a_complete_job_has_ended_well() -> None:
    done = pod("Succeeded", terminated={"exitCode": 0, "startedAt": AT, "finishedAt": AT})
    seen = observe(JOB, objects(top(true("SuccessCriteriaMet"), true("Complete")), done))
    assert (seen.phase, seen.failure, seen.attempts) == (RunnerPhase.ENDED, None, 1)


@pytest.mark.parametrize("ending", ["SuccessCriteriaMet", "FailureTarget"])
def test_a_job_that_is_about_to_end_does_not_wait_again(ending: str) -> None:
    assert observe(JOB, objects(top(true(ending)), ended(10, "BAD_DATA: x"))).phase is RunnerPhase.RUNNING
    done = pod("Succeeded", terminated={"exitCode": 0, "startedAt": AT, "finishedAt": AT})
    assert observe(JOB, objects(top(), done)).phase is RunnerPhase.RUNNING


def test_a_group_whose_pods_never_meet_does_not_begin_anew_for_ever() -> None:
    def attempt(index: int, minute: int, code: int | None) -> dict[str, Any]:
        at = f"2026-01-01T00:{minute:02}:00Z"
        state = {"startedAt": at} | ({"exitCode": code, "finishedAt": at} if code is not None else {})
        found = pod("Running", running=state) if code is None else pod("Failed", terminated=state)
        found["metadata"]["annotations"]["batch.kubernetes.io/job-completion-index"] = str(index)
        return found

    alone = [attempt(0, 0, 76), attempt(0, 10, 76), attempt(0, 20, None), attempt(1, 1, 76), attempt(1, 21, None)]
    assert observe(JOB, objects(top(), *alone)).since == 1767225600.0 + 60
    # A peer that was evicted and has come back makes the group whole again.
    evicted = [attempt(0, 0, 76), attempt(0, 20, None), attempt(1, 1, 75), attempt(1, 21, None)]
    assert observe(JOB, objects(top(), *evicted)).since == 1767225600.0 + 21 * 60


def test_a_container_that_could_not_be_started_began_when_that_was_known() -> None:
    state = {"reason": "StartError", "exitCode": 128, "startedAt": "1970-01-01T00:00:00Z", "finishedAt": AT}
    seen = observe(JOB, objects(top(true("FailureTarget")), pod("Failed", terminated=state)))
    assert (seen.attempts, seen.since) == (1, 1767225600.0)
