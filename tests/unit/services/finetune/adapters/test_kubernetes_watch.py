"""The cache follows the API server through everything that a watch can meet."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from services.finetune.adapters import kubernetes_watch
from services.finetune.adapters.kubernetes_api import PODS, Cluster
from services.finetune.adapters.kubernetes_watch import Watched
from tests.fakes.kubernetes_api import FakeApiServer, Object

JOB = f"ft-{'a' * 24}"
OTHER = f"ft-{'b' * 24}"


def pod(name: str, phase: str = "Pending") -> Object:
    return {"metadata": {"name": name, "managedFields": [{}]}, "spec": {"containers": []}, "status": {"phase": phase}}


@asynccontextmanager
async def watching(cluster: Cluster, told: list[str] | None = None) -> AsyncIterator[Watched]:
    watched = Watched(cluster, PODS, (told if told is not None else []).append)
    task = asyncio.create_task(watched.follow())
    try:
        await watched.listed()
        yield watched
    finally:
        task.cancel()
        await asyncio.wait({task})


async def until(fits: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not fits():
            await asyncio.sleep(0.01)


def phases(watched: Watched, job: str = JOB) -> list[str]:
    return sorted(found["status"]["phase"] for found in watched.of(job))


async def test_what_is_there_and_what_comes_is_known(api: FakeApiServer, cluster: Cluster) -> None:
    api.put("pods", pod(f"{JOB}-0-x"))
    api.put("pods", pod("nobody-s"))
    told: list[str] = []
    async with watching(cluster, told) as watched:
        assert phases(watched) == ["Pending"] and told == [JOB]
        api.put("pods", pod(f"{JOB}-0-x", "Running"))
        await until(lambda: phases(watched) == ["Running"])
        api.put("pods", pod(f"{OTHER}-0-y"))
        await until(lambda: phases(watched, OTHER) == ["Pending"])
        api.remove("pods", f"{JOB}-0-x")
        await until(lambda: watched.of(JOB) == [])
        assert told == [JOB, JOB, OTHER, JOB]
        assert "managedFields" not in watched.of(OTHER)[0]["metadata"]
    assert api.requests.count("GET pods") == 2


async def test_a_watch_that_ends_goes_on_without_another_list(api: FakeApiServer, cluster: Cluster) -> None:
    async with watching(cluster) as watched:
        await until(lambda: len(api.requests) == 2)
        api.cut_watches()
        await until(lambda: len(api.requests) == 3)
        api.put("pods", pod(f"{JOB}-0-x"))
        await until(lambda: phases(watched) == ["Pending"])
    assert len(api.requests) == 3


async def test_a_version_that_is_forgotten_leads_to_a_new_list(api: FakeApiServer, cluster: Cluster) -> None:
    api.put("pods", pod(f"{JOB}-0-x"))
    told: list[str] = []
    async with watching(cluster, told) as watched:
        await until(lambda: len(api.requests) == 2)
        # What happens while nobody watches, and is forgotten before somebody does.
        api.refuse = lambda method, plural: (500, "InternalError", "restarting")
        api.cut_watches()
        api.remove("pods", f"{JOB}-0-x")
        api.put("pods", pod(f"{OTHER}-0-y"))
        api.forget_history()
        told.clear()
        api.refuse = lambda method, plural: None
        await until(lambda: phases(watched, OTHER) == ["Pending"])
        assert watched.of(JOB) == []
        assert JOB in told


async def test_an_api_server_that_is_away_is_waited_for(api: FakeApiServer, cluster: Cluster) -> None:
    async with watching(cluster) as watched:
        api.refuse = lambda method, plural: (503, "ServiceUnavailable", "away")
        api.cut_watches()
        await until(lambda: len(api.requests) >= 4)
        api.refuse = lambda method, plural: None
        api.put("pods", pod(f"{JOB}-0-x"))
        await until(lambda: phases(watched) == ["Pending"])


async def test_an_own_object_is_known_before_its_event_and_never_after_its_end(
    api: FakeApiServer, cluster: Cluster
) -> None:
    async with watching(cluster) as watched:
        made = await cluster.create(PODS, pod(f"{JOB}-0-x"))
        watched.put(made)
        assert phases(watched) == ["Pending"]
        api.remove("pods", f"{JOB}-0-x")
        await until(lambda: watched.of(JOB) == [])
        watched.put(made)
        assert watched.of(JOB) == []


def test_names_hold_the_ids_of_jobs() -> None:
    names = {f"job-{JOB}-1a2b": JOB, f"{JOB}-trainer-0-0-x": JOB, "ft-short": None, "other": None}
    assert {name: kubernetes_watch.job_id_in(pod(name)) for name in names} == names
