"""Training jobs on a real API server and a real kubelet: what happens to pods, and what the job says about it."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ilf_common.errors import InvalidArgumentError
from services.finetune.adapters.kubernetes_api import PODS, Cluster, RefusedError
from services.finetune.models import JobState
from services.finetune.trainer.outcome import FailureReason, TrainerResult
from tests.cluster.finetune_cluster import (
    SCRIPT_IMAGE,
    Place,
    controller,
    eventually,
    has_api,
    kubectl,
    namespace,
    needs_cluster,
    reasons,
    until,
)

pytestmark = [needs_cluster, pytest.mark.cluster]

GPU = "nvidia.com/gpu"
SLEEP = "trap 'exit 75' TERM; sleep 3600 & wait"
STUBBORN = "echo going on; trap '' TERM; sleep 3600"


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with namespace(tmp_path) as place:
        yield place


def is_running(job: object) -> bool:
    return job.state is JobState.RUNNING  # type: ignore[attr-defined, no-any-return]


def has_ended(job: object) -> bool:
    return job.state.ended  # type: ignore[attr-defined, no-any-return]


async def test_progress_and_the_end_are_seen_as_they_happen(place: Place) -> None:
    async with controller(place.settings({"short": "sleep 6"})) as service:
        job = await service.create("r1", place.spec("short"))
        await until(service, job, is_running)
        place.step(job.id, 3)
        seen = await until(service, job, lambda job: job.progress.step == 3)
        assert (seen.progress.max_steps, seen.progress.tokens_per_second) == (10, 9.0)
        place.finish(job.id, TrainerResult(checkpoint_digest="d1"))
        done = await until(service, job, has_ended)
        assert (done.state, done.checkpoint_digest, done.attempts) == (JobState.SUCCEEDED, "d1", 1)
    pod = place.find("pods", job)[0]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert not any("serviceaccount" in mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"])


async def test_a_reason_ends_the_job_at_once(place: Place) -> None:
    script = "echo 'BAD_DATA: row 3 has no text' >/dev/termination-log; exit 10"
    async with controller(place.settings({"bad": script})) as service:
        job = await service.create("r1", place.spec("bad"))
        failed = await until(service, job, has_ended)
    assert failed.state is JobState.FAILED and failed.failure is not None
    assert (failed.failure.reason, failed.failure.message.strip()) == ("BAD_DATA", "row 3 has no text")
    assert failed.attempts == 1


async def test_crashes_are_tried_again_and_then_told_with_the_last_lines(place: Place) -> None:
    script = "echo 'no such tensor'; exit 3"
    async with controller(place.settings({"crash": script}, max_attempts=2)) as service:
        job = await service.create("r1", place.spec("crash"))
        failed = await until(service, job, has_ended)
    assert failed.failure is not None and failed.failure.reason == "TRAINER_CRASHED"
    assert "2 times" in failed.failure.message
    assert "exit code 3" in failed.failure.message and "no such tensor" in failed.failure.message
    assert failed.attempts == 2


async def test_a_kernel_that_ran_out_of_memory_is_told(place: Place) -> None:
    script = "tail /dev/zero"
    options = {"limits": {"memory": "32Mi"}, "requests": {"memory": "32Mi"}}
    async with controller(place.settings({"hungry": script}, max_attempts=1, **options)) as service:
        job = await service.create("r1", place.spec("hungry"))
        failed = await until(service, job, has_ended)
    assert failed.failure is not None
    end = place.find("pods", job)[0]["status"]["containerStatuses"][0]["state"]["terminated"]
    if end["reason"] == "OOMKilled":
        assert failed.failure.reason == "OUT_OF_MEMORY"
    else:
        # Not every node tells an end for want of memory from another one.
        assert "want of memory" in failed.failure.message


async def test_a_deleted_pod_counts_and_an_evicted_one_does_not(place: Place) -> None:
    async with controller(place.settings({"stubborn": STUBBORN}, max_attempts=3)) as service:
        job = await service.create("r1", place.spec("stubborn"))
        await until(service, job, is_running)
        pod = place.find("pods", job)[0]["metadata"]["name"]
        eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod}}
        kubectl(
            "create", "--raw", f"/api/v1/namespaces/{place.namespace}/pods/{pod}/eviction", "-f", "-", stdin=eviction
        )
        await until(service, job, lambda job: not is_running(job))
        again = await until(service, job, is_running)
        assert again.attempts == 1
        place.kubectl("delete", "pod", place.find("pods", job)[0]["metadata"]["name"], "--wait=false")
        again = await until(service, job, lambda job: is_running(job) and job.attempts == 2)
        await service.cancel(job.name)


async def test_a_preempted_pod_does_not_count_and_runs_when_there_is_room(place: Place) -> None:
    gpus = sum(int(node["status"]["allocatable"].get(GPU, 0)) for node in place.find("nodes"))
    if not gpus:
        pytest.skip(f"no node has {GPU}, pretended or not")
    options = {"gpu_resource": GPU, "gpus": gpus}
    async with controller(place.settings({"stubborn": STUBBORN}, max_attempts=1, **options)) as service:
        job = await service.create("r1", place.spec("stubborn"))
        await until(service, job, is_running)
        with more_important_pod(place, gpus):
            waiting = await until(service, job, lambda job: not is_running(job))
            assert not waiting.state.ended
            await until(service, job, lambda job: reasons(job)[-1] == "UNSCHEDULABLE")
        again = await until(service, job, is_running)
        assert again.attempts == 1
        assert any("PreemptionByScheduler" in condition.message for condition in again.conditions)
        await service.cancel(job.name)


@contextmanager
def more_important_pod(place: Place, gpus: int) -> Iterator[None]:
    """A pod of a priority above all others that takes so many GPUs."""
    important = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "value": 1_000_000}
    kubectl("apply", "-f", "-", stdin={**important, "metadata": {"name": place.namespace}})
    container = {
        "name": "sleep",
        "image": SCRIPT_IMAGE,
        "command": ["sleep", "3600"],
        "resources": {"limits": {GPU: str(gpus)}},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    spec = {
        "priorityClassName": place.namespace,
        "terminationGracePeriodSeconds": 0,
        "securityContext": {"runAsNonRoot": True, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
    }
    place.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "important"}, "spec": spec})
    try:
        yield
    finally:
        place.kubectl("delete", "pod", "important", "--wait=false")
        kubectl("delete", "priorityclass", place.namespace)


async def test_a_terminated_trainer_that_left_a_checkpoint_does_not_count(place: Place) -> None:
    async with controller(place.settings({"sleep": SLEEP}, grace_seconds=30)) as service:
        job = await service.create("r1", place.spec("sleep"))
        await until(service, job, is_running)
        first = place.find("pods", job)[0]["metadata"]["uid"]
        place.kubectl("delete", "pod", place.find("pods", job)[0]["metadata"]["name"], "--wait=false")
        await eventually(lambda: [p for p in place.find("pods", job) if p["metadata"]["uid"] != first])
        again = await until(service, job, is_running)
        assert again.attempts == 1
        await service.cancel(job.name)


async def test_cancel_answers_when_the_pods_are_gone(place: Place) -> None:
    async with controller(place.settings({"stubborn": STUBBORN}, grace_seconds=60)) as service:
        job = await service.create("r1", place.spec("stubborn"))
        await until(service, job, is_running)
        started = time.monotonic()
        cancelled = await service.cancel(job.name)
        assert cancelled.state is JobState.CANCELLED
        assert place.find("pods") == [] and place.find("jobs") == []
        # Nobody waits for another checkpoint.
        assert time.monotonic() - started < 30
        assert (await service.cancel(job.name)).state is JobState.CANCELLED


async def test_a_job_without_progress_is_restarted_and_then_failed_with_its_last_lines(place: Place) -> None:
    async with controller(place.settings({"stuck": STUBBORN}, max_attempts=2, stall_seconds=3)) as service:
        job = await service.create("r1", place.spec("stuck"))
        failed = await until(service, job, has_ended)
    assert failed.failure is not None and failed.failure.reason == "TRAINER_CRASHED"
    assert failed.attempts == 2
    assert reasons(failed).count("NO_PROGRESS") == 2
    assert "going on" in failed.failure.message
    assert place.find("pods") == []


async def test_a_pod_that_fits_nowhere_says_so_while_it_waits(place: Place) -> None:
    async with controller(place.settings({"sleep": SLEEP}, node_selector={"ilf.dev/none": "such"})) as service:
        job = await service.create("r1", place.spec("sleep"))
        waiting = await until(service, job, lambda job: "UNSCHEDULABLE" in reasons(job))
        assert waiting.state is JobState.PENDING and waiting.attempts == 0
        assert "node" in waiting.conditions[-1].message
        assert (await service.cancel(job.name)).state is JobState.CANCELLED


async def test_an_image_that_cannot_be_pulled_says_so_while_it_waits(place: Place) -> None:
    async with controller(place.settings({"sleep": SLEEP}, image="localhost:1/none:such")) as service:
        job = await service.create("r1", place.spec("sleep"))
        waiting = await until(service, job, lambda job: "IMAGE_PULL" in reasons(job))
        assert "localhost:1/none:such" in waiting.conditions[-1].message
        await service.cancel(job.name)


async def test_a_full_quota_says_so_and_the_job_runs_when_there_is_room(place: Place) -> None:
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q"}, "spec": {"hard": {"pods": "0"}}}
    place.apply(quota)
    await eventually(lambda: place.find("resourcequota")[0].get("status", {}).get("hard"))
    async with controller(place.settings({"sleep": SLEEP})) as service:
        job = await service.create("r1", place.spec("sleep"))
        waiting = await until(service, job, lambda job: "QUOTA" in reasons(job))
        assert "exceeded quota" in waiting.conditions[-1].message
        place.kubectl("delete", "resourcequota", "q")
        await until(service, job, is_running, seconds=120)
        await service.cancel(job.name)


async def test_pods_that_the_cluster_refuses_say_so(place: Place) -> None:
    volumes = [
        {"name": "script", "configMap": {"name": "script", "defaultMode": 0o555}},
        {"name": "host", "hostPath": {"path": "/"}},
    ]
    async with controller(place.settings({"sleep": SLEEP}, volumes=volumes)) as service:
        job = await service.create("r1", place.spec("sleep"))
        waiting = await until(service, job, lambda job: "REFUSED" in reasons(job))
        assert "violates PodSecurity" in waiting.conditions[-1].message
        await service.cancel(job.name)


async def test_a_job_that_admission_refuses_says_so_and_runs_when_it_is_let_in(place: Place) -> None:
    here = {"matchLabels": {"kubernetes.io/metadata.name": place.namespace}}
    jobs = {"apiGroups": ["batch"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["jobs"]}
    rules = {
        "matchConstraints": {"namespaceSelector": here, "resourceRules": [jobs]},
        "validations": [{"expression": "false", "message": "no training on Sundays"}],
    }
    binding = {"policyName": place.namespace, "validationActions": ["Deny"]}
    api, kind = "admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicy"
    name = {"name": place.namespace}
    kubectl("apply", "-f", "-", stdin={"apiVersion": api, "kind": kind, "metadata": name, "spec": rules})
    kubectl("apply", "-f", "-", stdin={"apiVersion": api, "kind": f"{kind}Binding", "metadata": name, "spec": binding})
    try:
        await eventually(lambda: "no training" in _refusal(place))
        async with controller(place.settings({"sleep": SLEEP})) as service:
            job = await service.create("r1", place.spec("sleep"))
            waiting = await until(service, job, lambda job: "REFUSED" in reasons(job))
            assert "no training on Sundays" in waiting.conditions[-1].message
            kubectl("delete", f"{kind}Binding", place.namespace)
            assert (await until(service, job, is_running)).attempts == 1
            await service.cancel(job.name)
    finally:
        kubectl("delete", f"{kind}Binding,{kind}", place.namespace, "--ignore-not-found")


def _refusal(place: Place) -> str:
    """What the API server says to a Job that is only tried; a new policy needs a moment to take effect."""
    container = {"name": "c", "image": "none"}
    spec = {"template": {"spec": {"restartPolicy": "Never", "containers": [container]}}}
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "tried"}, "spec": spec}
    try:
        return place.kubectl("create", "--dry-run=server", "-f", "-", stdin=job)
    except AssertionError as error:
        return str(error)


async def test_a_job_chooses_among_the_placements_of_the_operator(place: Place) -> None:
    place.kubectl("create", "secret", "generic", "hub", "--from-literal=HF_TOKEN=x")
    taint = {"key": "ilf.dev/large", "operator": "Exists", "effect": "NoSchedule"}
    large = {
        "node_selector": {"ilf.dev/gpu": "large"},
        "tolerations": [taint],
        "priority_class": "system-cluster-critical",
        "env_from_secrets": ["hub"],
        "volumes": [{"name": "cache", "emptyDir": {}}],
        "volume_mounts": [{"name": "cache", "mountPath": "/cache"}],
    }
    options = {"placements": {"large": large}, "requests": {"memory": "32Mi"}}
    async with controller(place.settings({"small": SLEEP}, **options)) as service:
        job = await service.create("r1", place.spec("large"))
        waiting = await until(service, job, lambda job: "UNSCHEDULABLE" in reasons(job))
        assert waiting.attempts == 0
        pod = place.find("pods", job)[0]["spec"]
        container = pod["containers"][0]
        assert pod["nodeSelector"] == {"ilf.dev/gpu": "large"} and taint in pod["tolerations"]
        assert pod["priorityClassName"] == "system-cluster-critical"
        assert container["envFrom"] == [{"secretRef": {"name": "hub"}}]
        assert {"name": "cache", "mountPath": "/cache"} in container["volumeMounts"]
        # What a placement does not name is as for every job.
        assert container["resources"]["requests"] == {"memory": "32Mi"}
        with pytest.raises(InvalidArgumentError, match="huge"):
            await service.create("r2", place.spec("huge"))
        await service.cancel(job.name)


async def test_a_version_that_the_api_server_has_forgotten_is_told_as_the_watch_expects(place: Place) -> None:
    cluster = Cluster(place.namespace)
    try:
        events = [event async for event in cluster.watch(PODS, "1", seconds=5)]
    except RefusedError as error:
        assert error.status == 410
    else:
        assert [(event["type"], event["object"]["code"]) for event in events[:1]] == [("ERROR", 410)]
    finally:
        await cluster.close()


async def test_the_next_process_goes_on_where_the_last_one_died(place: Place) -> None:
    settings = place.settings({"sleep": "sleep 12"})
    spec = place.spec("sleep")
    async with controller(settings) as first:
        job = await first.create("r1", spec)
        await until(first, job, is_running)
        place.step(job.id, 2)
        await until(first, job, lambda job: job.progress.step == 2)
    place.step(job.id, 4)
    async with controller(settings) as second:
        assert (await second.create("r1", spec)).id == job.id
        seen = await until(second, job, lambda job: job.progress.step == 4)
        assert (seen.state, seen.attempts) == (JobState.RUNNING, 1)
        place.finish(job.id, TrainerResult(checkpoint_digest="d1"))
        await until(second, job, has_ended)
    # An end that nobody saw.
    async with controller(settings) as third:
        assert (await third.create("r1", spec)).checkpoint_digest == "d1"
    assert len(place.find("jobs")) == 1


async def test_a_job_whose_end_nobody_saw_is_not_started_again(place: Place) -> None:
    settings = place.settings({"short": "sleep 3"}, ttl_seconds=0)
    async with controller(settings) as first:
        job = await first.create("r1", place.spec("short"))
        await until(first, job, is_running)
    place.finish(job.id, TrainerResult(reason=FailureReason.NAN_LOSS, message="The loss of step 3 is nan."))
    await eventually(lambda: not place.find("jobs"))
    async with controller(settings) as second:
        failed = await until(second, job, has_ended)
    assert failed.failure is not None and failed.failure.reason == "NAN_LOSS"
    assert failed.attempts == 1


async def test_two_processes_at_once_never_undo_each_other(place: Place) -> None:
    settings = place.settings({"sleep": SLEEP})
    async with controller(settings) as old:
        job = await old.create("r1", place.spec("sleep"))
        await until(old, job, is_running)
        async with controller(settings) as new:
            spec = job.spec
            assert (await asyncio.gather(old.create("r1", spec), new.create("r1", spec)))[1].id == job.id
            await new.cancel(job.name)
            assert (await until(old, job, has_ended)).state is JobState.CANCELLED
    assert place.find("jobs") == []


async def test_what_is_finished_goes_away_after_its_time(place: Place) -> None:
    async with controller(place.settings({"short": "true"}, ttl_seconds=1, keep_seconds=8)) as service:
        job = await service.create("r1", place.spec("short"))
        place.finish(job.id, TrainerResult(checkpoint_digest="d1"))
        await until(service, job, has_ended)
        await eventually(lambda: not place.find("jobs") and not place.find("pods"))
        assert service.get(job.name).checkpoint_digest == "d1"
        await eventually(lambda: not place.find("configmaps", job))
        assert not list(place.store.list_files(f"finetune/{job.id}"))


@pytest.mark.parametrize("kind", ["job", "jobset"])
async def test_several_nodes_find_the_first_one_by_its_name(place: Place, kind: str) -> None:
    if kind == "jobset" and not has_api("jobset.x-k8s.io"):
        pytest.skip("the cluster has no JobSets")
    # BusyBox's nslookup does not search the pod's domains.
    find = (
        'for a in "$@"; do case $a in --master=*) m=${a#*=};; esac; done; '
        "d=$(sed -n 's/^search \\([^ ]*\\).*/\\1/p' /etc/resolv.conf); until nslookup $m.$d; do sleep 1; done"
    )
    script = f'test "$JOB_COMPLETION_INDEX" = 0 && sleep 8; {find}'
    async with controller(place.settings({"meet": script}, kind=kind, nodes=2)) as service:
        job = await service.create("r1", place.spec("meet"))
        await until(service, job, is_running)
        assert len(place.find("pods", job)) == 2
        place.finish(job.id, TrainerResult(checkpoint_digest="d1"))
        done = await until(service, job, has_ended)
        assert (done.state, done.attempts) == (JobState.SUCCEEDED, 1)
        other = await service.create("r2", place.spec("meet"))
        await until(service, other, lambda job: len(place.find("pods", job)) == 2)
        assert (await service.cancel(other.name)).state is JobState.CANCELLED
        assert place.find("pods", other) == [] and place.find("jobs", other) == []


@pytest.mark.parametrize("nodes", [1, 2])
async def test_a_queue_admits_one_job_after_the_other(place: Place, nodes: int) -> None:
    if not has_api("kueue.x-k8s.io"):
        pytest.skip("the cluster has no Kueue")
    name = f"ilf-test-{uuid.uuid4().hex[:8]}"
    api = next(line for line in kubectl("api-versions").splitlines() if line.startswith("kueue.x-k8s.io/v1beta"))
    quota = {"name": name, "resources": [{"name": "cpu", "nominalQuota": "100m"}]}
    flavor = {"apiVersion": api, "kind": "ResourceFlavor", "metadata": {"name": name}}
    groups = [{"coveredResources": ["cpu"], "flavors": [quota]}]
    queue = {
        "apiVersion": api,
        "kind": "ClusterQueue",
        "metadata": {"name": name},
        "spec": {"namespaceSelector": {}, "resourceGroups": groups},
    }
    local = {
        "apiVersion": api,
        "kind": "LocalQueue",
        "metadata": {"name": "training"},
        "spec": {"clusterQueue": name},
    }
    place.apply({"apiVersion": "v1", "kind": "List", "items": [flavor, queue]})
    place.apply(local)
    try:
        options = {"queue": "training", "nodes": nodes, "requests": {"cpu": f"{100 // nodes}m"}}
        async with controller(place.settings({"sleep": SLEEP}, **options)) as service:
            first = await service.create("r1", place.spec("sleep"))
            await until(service, first, is_running)
            second = await service.create("r2", place.spec("sleep"))
            waiting = await until(service, second, lambda job: "insufficient" in job.conditions[-1].message)
            assert (waiting.conditions[-1].reason, waiting.attempts) == ("QUEUED", 0)
            await service.cancel(first.name)
            await until(service, second, is_running)
            await service.cancel(second.name)
    finally:
        place.kubectl("delete", "localqueue", "training", "--wait=false")
        kubectl("delete", "clusterqueue,resourceflavor", name, "--wait=false")
