"""Ranking on KubeRay, called through its front with TLS and token: judges come from 0, change, and go; no call fails.

Needs the images of ILF_TEST_REGISTRY and ILF_TEST_TAG on the cluster of KUBECONFIG, and the KubeRay operator there.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from ilf.ranking.v1 import ranking_service_pb2 as pb
from ilf.ranking.v1 import ranking_service_pb2_grpc as pb_grpc

from examples.word_removal.data import write_datasets
from ilf_client.cluster.api import KubernetesCluster
from ilf_client.cluster.connect import Bridge, SecretNames
from ilf_client.cluster.release import find_release
from ilf_common.rpc.client import ChannelSettings, call, open_channel
from tests.cluster.chart import CHART, values_file
from tests.cluster.e2e.outside import connected, plugin

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

TEMPLATE = CHART.parents[1] / "examples" / "word_removal" / "templates" / "judge_1.yaml"
CALLERS = 3
CALL_SECONDS = 240.0
OPERATOR = "kuberay-operator"
ENDED = ("succeeded", "failed", "cancelled")


def command(*arguments: str, timeout: float = 120) -> str:
    """What a program prints; its complaint is the assertion's message where it fails."""
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=timeout, check=False)
    assert done.returncode == 0, f"{' '.join(arguments)}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def values(judge: str) -> dict[str, Any]:
    """Over charts/ilf/ci/cpu-values.yaml: ranking on Ray, with one judge of this name."""
    template = yaml.safe_load(TEMPLATE.read_text(encoding="utf-8"))
    answers = {f"{kind}_answers": template["answers"][kind] for kind in ("positive", "negative")}
    content = {"text": template["text"], **answers}
    return {
        "image": {"registry": os.environ["ILF_TEST_REGISTRY"], "tag": os.environ["ILF_TEST_TAG"]},
        "ranking": {
            "ray": {"mode": "kuberay"},
            "pool": {"maxReplicas": 1, "idleSeconds": 5},
            "settings": {"judges": [{"name": judge, "model": "word-removal", "template": content}]},
        },
        "reward": {"enabled": False},
        "tests": {"enabled": False},
        "networkPolicy": {"plugins": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]},
        "postgresql": {"image": os.environ["ILF_TEST_POSTGRES_IMAGE"]}
        if "ILF_TEST_POSTGRES_IMAGE" in os.environ
        else {},
    }


@dataclass(frozen=True)
class Release:
    """The chart in a namespace of its own, where everything sleeps but ranking."""

    namespace: str
    folder: Path

    def install(self, judge: str) -> None:
        """Installs or upgrades to one judge of this name."""
        file = self.folder / "values.json"
        file.write_text(json.dumps(values(judge)), encoding="utf-8")
        files = [option for one in (values_file("cpu"), file) for option in ("--values", str(one))]
        command("helm", "upgrade", "--install", "ilf", str(CHART), "-n", self.namespace, *files)
        self.scale_others(0)

    def scale_others(self, replicas: int) -> None:
        """Sends everything but ranking to sleep, or wakes it."""
        others = "app.kubernetes.io/part-of=ilf,app.kubernetes.io/component!=ranking-front"
        for kind in ("deployment", "statefulset"):
            command("kubectl", "-n", self.namespace, "scale", kind, "-l", others, f"--replicas={replicas}")

    def wait(self) -> None:
        """Until the application runs on Ray and the front is ready."""
        for what, condition in (("rayservice/ilf-ranking", "Ready"), ("deployment/ilf-ranking-front", "Available")):
            waiting = ("wait", what, f"--for=condition={condition}", "--timeout=300s")
            command("kubectl", "-n", self.namespace, *waiting, timeout=320)

    def pods(self, component: str) -> set[str]:
        """Names of a component's pods, also of those that are about to end."""
        selector = f"app.kubernetes.io/component={component}"
        return set(command("kubectl", "-n", self.namespace, "get", "pods", "-l", selector, "-o", "name").split())

    def judges(self) -> set[str]:
        return self.pods("ranking-judge")


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Release]:
    _skip_without_what_is_needed()
    release = Release(f"ilf-ray-{uuid.uuid4().hex[:6]}", tmp_path_factory.mktemp("ray"))
    command("kubectl", "create", "namespace", release.namespace)
    level = "pod-security.kubernetes.io/enforce=restricted"
    command("kubectl", "label", "namespace", release.namespace, level)
    try:
        release.install("first")
        release.wait()
        yield release
    finally:
        subprocess.run(["helm", "uninstall", "ilf", "-n", release.namespace], capture_output=True, check=False)
        command("kubectl", "delete", "namespace", release.namespace, "--wait=false")


def _skip_without_what_is_needed() -> None:
    if not os.environ.get("KUBECONFIG"):
        pytest.skip("there is no cluster: KUBECONFIG is not set")
    if missing := [name for name in ("ILF_TEST_REGISTRY", "ILF_TEST_TAG") if name not in os.environ]:
        pytest.skip(f"no images are named: {' and '.join(missing)} not set")
    if missing := [name for name in ("helm", "kubectl") if shutil.which(name) is None]:
        pytest.skip(f"there is no {' and no '.join(missing)} on the PATH")
    if "ray.io/v1" not in command("kubectl", "api-versions").split():
        pytest.skip("there is no KubeRay in this cluster (API ray.io/v1)")


@pytest.fixture(scope="module")
def front(release: Release) -> Iterator[ChannelSettings]:
    """The front as `ilf connect` shows it to a laptop."""
    cluster = KubernetesCluster(release.namespace)
    found = find_release(cluster)
    bridge = Bridge(cluster, found, SecretNames(found), release.folder, lambda error: print(error.message))
    security = bridge.open()
    try:
        assert security.tls_cert_file and security.token_file, "calls are to show a certificate and a token"
        yield ChannelSettings(address=bridge.endpoints.ranking, **vars(security))
    finally:
        bridge.close()


@asynccontextmanager
async def calling(front: ChannelSettings) -> AsyncIterator[Counter[str]]:
    """Programs that rank one item after the other; counts answers by judge. A call that fails, fails the test."""
    answers: Counter[str] = Counter()
    stopping = asyncio.Event()

    async def keep_calling(stub: Any) -> None:
        while not stopping.is_set():
            answers[await rank(stub)] += 1

    async with open_channel(front) as channel, asyncio.TaskGroup() as group:
        for _ in range(CALLERS):
            group.create_task(keep_calling(pb_grpc.RankingServiceStub(channel)))
        yield answers
        stopping.set()


async def rank(stub: Any) -> str:
    """The judge that answered the one attempt."""
    request = pb.RankRequest(
        ranker=pb.RankerSpec(name="instruct_rm"),
        context="The cat sleeps in the warm sun.",
        initial_output="A cat runs.",
        feedback="It sleeps.",
        candidates=["A cat sleeps.", "A cat runs fast."],
    )
    response = await call(stub.Rank, request, timeout=CALL_SECONDS)
    (judge,) = {one.judge for score in response.scores for one in score.judge_scores}
    return str(judge)


async def until(condition: Callable[[], bool], seconds: float, otherwise: str) -> None:
    """Waits for a condition, which may ask the cluster."""
    try:
        async with asyncio.timeout(seconds):
            while not await asyncio.to_thread(condition):
                await asyncio.sleep(1)
    except TimeoutError:
        raise AssertionError(otherwise) from None


async def until_answered(answers: Counter[str], judge: str) -> None:
    """Waits for further answers of a judge: more than can have been on their way."""
    enough = answers[judge] + CALLERS + 1
    await until(lambda: answers[judge] >= enough, CALL_SECONDS, f"{judge} answers no more: {answers}")


@asynccontextmanager
async def operator_away() -> AsyncIterator[None]:
    """Stops the KubeRay operator, and brings it back."""
    await asyncio.to_thread(scale_operator, 0)
    try:
        yield
    finally:
        await asyncio.to_thread(scale_operator, 1)


def scale_operator(replicas: int) -> None:
    deployments = json.loads(command("kubectl", "get", "deployments", "-A", "-o", "json"))["items"]
    (found,) = [one["metadata"] for one in deployments if one["metadata"]["name"] == OPERATOR]
    scope = ("kubectl", "-n", found["namespace"])
    command(*scope, "scale", "deployment", OPERATOR, f"--replicas={replicas}")
    command(*scope, "rollout", "status", f"deployment/{OPERATOR}", "--timeout=120s", timeout=130)


async def test_a_judge_wakes_for_the_first_call(release: Release, front: ChannelSettings) -> None:
    assert not release.judges()
    async with calling(front) as answers:
        await until_answered(answers, "first")
    assert len(release.judges()) == 1


async def test_calls_go_on_while_the_operator_is_away(front: ChannelSettings) -> None:
    async with calling(front) as answers:
        await until_answered(answers, "first")
        async with operator_away():
            await asyncio.sleep(60)
            await until_answered(answers, "first")


async def test_calls_wait_for_head_and_judges_that_are_lost(release: Release, front: ChannelSettings) -> None:
    async with calling(front) as answers:
        await until_answered(answers, "first")
        lost = release.pods("ranking-worker") | release.judges()
        at_once = ("--grace-period=0", "--force", "--wait=false")
        command("kubectl", "-n", release.namespace, "delete", *lost, *at_once)
        await until(lambda: bool(release.judges() - lost), 180, "no new judge was asked for")
        await until_answered(answers, "first")
    assert not lost & (release.pods("ranking-worker") | release.judges())


async def test_new_judges_take_over_without_a_failed_call(release: Release, front: ChannelSettings) -> None:
    fronts, old = release.pods("ranking-front"), release.pods("ranking-worker")
    async with calling(front) as answers:
        await until_answered(answers, "first")
        await asyncio.to_thread(release.install, "second")
        await until_answered(answers, "second")
        await until(lambda: not old & release.pods("ranking-worker"), 180, "the old Ray cluster stays")
        first = answers["first"]
        await until_answered(answers, "second")
    assert answers["first"] == first, "an old judge answered after its cluster had gone"
    assert release.pods("ranking-front") == fronts, "the front was replaced"


async def test_a_run_goes_on_while_the_operator_is_away(release: Release, tmp_path: Path) -> None:
    write_datasets(tmp_path, {"train": 60, "test": 20})
    release.scale_others(1)
    for name in ("orchestrator", "finetune", "refinement-front"):
        ready = ("rollout", "status", f"deployment/ilf-{name}", "--timeout=240s")
        command("kubectl", "-n", release.namespace, *ready, timeout=250)
    with (
        connected(release.namespace, tmp_path) as laptop,
        plugin("feedback") as feedback,
        plugin("exact_match", "--score") as metric,
    ):
        laptop.start_run(tmp_path, feedback, metric, iterations=1)
        async with operator_away():
            await asyncio.sleep(60)
        await until(lambda: laptop.run("loop")["state"] in ENDED, 300, "the run did not end")
        run = laptop.run("loop")
    assert run["state"] == "succeeded", run.get("error")
    assert not any(stage.get("bad_rows") for stage in run["iterations"][1]["stages"])
    release.scale_others(0)


async def test_judges_go_when_nobody_calls(release: Release) -> None:
    await until(lambda: not release.judges(), 120, "judges stay")
    assert release.pods("ranking-worker"), "the head stays to receive the next call"
