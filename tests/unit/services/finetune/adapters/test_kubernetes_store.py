"""Jobs as ConfigMaps: nothing is lost, and nobody's write is undone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ilf_common.errors import AbortedError, UnavailableError
from ilf_common.templates import PromptTemplate
from services.finetune.adapters.kubernetes_api import Cluster, RefusedError
from services.finetune.adapters.kubernetes_store import ConfigMapJobs
from services.finetune.models import Condition, FinetuneJob, FinetuneKind, FinetuneSpec, JobState
from tests.fakes.kubernetes_api import FakeApiServer

SPEC = FinetuneSpec(FinetuneKind.SFT, "base", "d.jsonl", "out", template=PromptTemplate("p", "{context}"))
JOB = FinetuneJob("ft-1", "r1", SPEC, JobState.PENDING, 1.5, conditions=(Condition("Scheduled", "CREATED", "…", 1.5),))


async def test_a_job_comes_back_as_it_was_written(api: FakeApiServer, cluster: Cluster) -> None:
    jobs = ConfigMapJobs(cluster, "one")
    assert await jobs.add(JOB) == JOB
    running = replace(JOB, state=JobState.RUNNING, attempts=1)
    await jobs.save(running)
    assert await ConfigMapJobs(cluster, "one").load() == [running]
    assert await jobs.read("ft-1") == running
    assert api.objects["configmaps/ft-1"]["metadata"]["annotations"]["ilf.dev/state"] == "running"
    await jobs.remove("ft-1")
    assert await jobs.load() == [] and await jobs.read("ft-1") is None


async def test_the_first_job_with_an_id_stays(cluster: Cluster) -> None:
    await ConfigMapJobs(cluster, "one").add(JOB)
    assert await ConfigMapJobs(cluster, "one").add(replace(JOB, create_time=9.0)) == JOB


async def test_a_write_that_does_not_follow_the_newest_is_refused(cluster: Cluster) -> None:
    one, other = ConfigMapJobs(cluster, "one"), ConfigMapJobs(cluster, "one")
    await one.add(JOB)
    await other.load()
    await one.save(replace(JOB, cancel_requested=True))
    with pytest.raises(AbortedError):
        await other.save(replace(JOB, state=JobState.RUNNING))
    # Having read the newest, it may write.
    assert (await other.read("ft-1") or JOB).cancel_requested
    await other.save(replace(JOB, cancel_requested=True, state=JobState.CANCELLED))


async def test_a_write_whose_answer_was_lost_counts(cluster: Cluster) -> None:
    jobs = ConfigMapJobs(cluster, "one")
    await jobs.add(JOB)
    before = dict(jobs._seen["ft-1"])
    await jobs.save(replace(JOB, attempts=1))
    jobs._seen["ft-1"] = before
    await jobs.save(replace(JOB, attempts=1))


async def test_a_record_that_somebody_deleted_is_missed(api: FakeApiServer, cluster: Cluster) -> None:
    jobs = ConfigMapJobs(cluster, "one")
    await jobs.add(JOB)
    api.remove("configmaps", "ft-1")
    with pytest.raises(AbortedError):
        await jobs.save(replace(JOB, attempts=1))


async def test_an_unreadable_record_is_left_out_and_named(
    api: FakeApiServer, cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    await ConfigMapJobs(cluster, "one").add(JOB)
    api.put("configmaps", {"metadata": {"name": "ft-2"}, "data": {"job.json": "{"}})
    assert [job.id for job in await ConfigMapJobs(cluster, "one").load()] == ["ft-1"]
    assert "not readable" in caplog.text


async def test_refusals_and_absences_are_told_apart(api: FakeApiServer, cluster: Cluster) -> None:
    jobs = ConfigMapJobs(cluster, "one")
    api.refuse = lambda method, plural: (403, "Forbidden", "you may not")
    with pytest.raises(RefusedError, match="create configmaps/ft-1: you may not"):
        await jobs.add(JOB)
    api.refuse = lambda method, plural: (429, "TooManyRequests", "slow down")
    with pytest.raises(UnavailableError):
        await jobs.add(JOB)
