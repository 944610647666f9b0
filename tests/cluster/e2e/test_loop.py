"""The word-removal loop on a cluster, called from outside, while all that it stands on goes away for a while."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from examples.word_removal.data import write_datasets
from tests.cluster.e2e.console import signed_in
from tests.cluster.e2e.outside import Laptop, connected, plugin
from tests.cluster.e2e.release import Release
from tests.cluster.e2e.trouble import (
    Fault,
    Scene,
    Trouble,
    cut_off,
    delete,
    fill_quota,
    hook,
    rotate_certificates,
    serves,
    stage_of,
    stop,
    take_gpus,
    until,
)
from tests.cluster.e2e.watching import SERVING, TRAINER, PodWatch

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(2400)]

CONTEXTS, TEST, ITERATIONS = 120, 60, 4
RUN_SECONDS = 1800
LOOK_SECONDS = 3


@pytest.fixture(scope="module")
def release() -> Iterator[Release]:
    release = Release("ilf", "ilf-e2e")
    release.drop()
    release.install()
    yield release
    if not os.environ.get("ILF_TEST_KEEP"):
        release.drop()


def test_a_run_learns_while_pools_come_and_go_and_things_break(release: Release, tmp_path: Path) -> None:
    write_datasets(tmp_path, {"train": ITERATIONS * CONTEXTS, "test": TEST})
    with (
        connected(release.namespace, tmp_path) as laptop,
        watching(release) as pods,
        plugin("feedback") as feedback,
        plugin("exact_match", "--score") as metric,
    ):
        trouble = Trouble(Scene(release, pods), faults())
        trouble.step()
        laptop.start_run(tmp_path, feedback, metric, iterations=ITERATIONS)
        run = follow(laptop, trouble)

        assert run["state"] == "succeeded", run.get("error")
        assert not trouble.left, f"the run ended before {[fault.name for fault in trouble.left]}"
        improves(run)
        uses_each_row_once(run)
        training_follows_serving(pods)
        assert pods.most_at_once("refinement-worker") == 2
        until(lambda: not any(release.pods(component) for component in SERVING), 120, "the pools did not go to 0")
        assert "refinement" in laptop.ilf("pools")
        checkpoint = run["iterations"][-1]["checkpoint_uri"]
        laptop.ilf("policies", "pull", checkpoint, str(tmp_path / "pulled"), timeout=300)
        assert (tmp_path / "pulled" / "config.json").is_file()


def test_the_console_shows_what_the_run_did(release: Release) -> None:
    with signed_in(release, "Eve") as page:
        page.get_by_role("link", name="loop", exact=True).click()
        expect(page.get_by_text("succeeded").first).to_be_visible()
        page.goto("/runs/loop/samples?iteration=1")
        expect(page.get_by_text(f"{CONTEXTS} samples")).to_be_visible()
        page.goto("/runs/loop/samples?iteration=1&order_by=score&descending=yes&size=10")
        expect(page.get_by_role("article")).to_have_count(10)
        page.goto("/jobs")
        expect(page.get_by_role("rowheader")).to_have_count(ITERATIONS)
        page.goto("/policies")
        expect(page.get_by_role("heading", name=f"loop/it-{ITERATIONS}")).to_be_visible()
        page.goto("/pools")
        for pool in ("refinement", "ranking", "reward"):
            expect(page.get_by_role("row", name=pool)).to_contain_text("0 of 0")


def test_helm_test_passes(release: Release) -> None:
    release.test()


def test_an_upgrade_in_the_middle_of_a_run_loses_nothing(release: Release, tmp_path: Path) -> None:
    write_datasets(tmp_path, {"train": 40, "test": 20})
    with (
        connected(release.namespace, tmp_path) as laptop,
        watching(release) as pods,
        plugin("feedback") as feedback,
        plugin("exact_match", "--score") as metric,
    ):
        laptop.start_run(tmp_path, feedback, metric, name="upgraded", iterations=1)
        until(lambda: stage_of(laptop.run("upgraded")).startswith("it-1/"), 300, "the run did not begin")
        release.upgrade(**{"podAnnotations.upgraded": "yes"})
        run = follow(laptop, Trouble(Scene(release, pods), []), name="upgraded")
    assert run["state"] == "succeeded", run.get("error")


def test_uninstall_leaves_only_what_holds_data(release: Release) -> None:
    """What stays: claims, and the records of training jobs with the finished Jobs that are theirs."""
    release.uninstall()
    until(lambda: not [pod for pod in release.get("pods") if not has_ended(pod)], 120, "pods are left")
    kinds = "deployments,statefulsets,services,configmaps,jobs,networkpolicies,roles,rolebindings,ingresses"
    left = [item for item in release.get(kinds) if not item["metadata"]["name"].startswith(("kube-root-ca", "ft-"))]
    assert not left, [f"{item['kind']}/{item['metadata']['name']}" for item in left]
    assert release.get("persistentvolumeclaims")


def faults() -> list[Fault]:
    """In their order; the next one has its moment when the last is mended."""
    return [
        fill_quota(),
        delete("refinement-worker"),
        delete("orchestrator"),
        delete("ranking-worker"),
        delete("trainer"),
        delete("trainer"),
        delete("finetune"),
        take_gpus(60),
        cut_off("ranking-front", serves("ranking-worker"), 20),
        delete("refinement-front", serves("refinement-worker")),
        delete("ranking-front", serves("ranking-worker")),
        stop("statefulset/{}-postgresql", 40),
        *hook("ILF_TEST_STOP_STORE", 40),
        *hook("ILF_TEST_RESTART_API"),
        stop("deployment/keda-operator", 60, namespace="keda"),
        rotate_certificates(),
    ]


def has_ended(pod: dict[str, Any]) -> bool:
    return pod["status"].get("phase") in ("Succeeded", "Failed")


@contextmanager
def watching(release: Release) -> Iterator[PodWatch]:
    watch = PodWatch(release.namespace)
    try:
        yield watch
    finally:
        watch.close()


def follow(laptop: Laptop, trouble: Trouble, *, name: str = "loop") -> dict[str, Any]:
    """The run at its end; until then it is troubled."""
    until_when, looked, told = time.monotonic() + RUN_SECONDS, 0.0, ""
    try:
        while True:
            if time.monotonic() - looked > LOOK_SECONDS:
                run = trouble.scene.run = laptop.run(name)
                looked = time.monotonic()
                if run["state"] in ("succeeded", "failed", "cancelled"):
                    return run
                if told != (told := f"{stage_of(run)} {trouble.scene.waits_for}"):
                    print(f"{time.strftime('%X')} {told}", flush=True)
                assert looked < until_when, told
            trouble.step()
            time.sleep(0.3)
    finally:
        trouble.mend()


def improves(run: dict[str, Any]) -> None:
    before, *_, after = [iteration["metrics"]["exact_match"]["value"] for iteration in run["iterations"]]
    assert before <= 0.05 and after >= before + 0.2, (before, after)


def uses_each_row_once(run: dict[str, Any]) -> None:
    for iteration in run["iterations"][1:]:
        for stage in iteration["stages"]:
            if stage["stage"] in ("generate", "feedback", "refine", "rank", "select"):
                assert stage["progress"] == {"done": CONTEXTS, "total": CONTEXTS}, (iteration["index"], stage)
                assert stage.get("bad_rows", 0) == 0


def training_follows_serving(pods: PodWatch) -> None:
    """No serving pod held its GPUs when a trainer's pod got a place."""
    trainers = pods.of(TRAINER)
    assert len(trainers) >= ITERATIONS + 2, "one a job, and two that were deleted"
    for trainer in trainers:
        left = [stay.component for stay in pods.of(*SERVING) if stay.overlaps(trainer.begin)]
        assert not left, f"training began while {left} were there"
