"""kill -9 of real services in the middle of a run: it finishes, and its result is that of an undisturbed run."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from examples.word_removal.data import write_datasets
from examples.word_removal.demo import plugin
from ilf_client.stack.config import SERVICES
from ilf_client.stack.processes import ProcessRecord
from ilf_client.stack.state import read_state, write_state
from tests.e2e.conftest import Stack

pytestmark = [pytest.mark.engine, pytest.mark.crash]

RUN = "examples/word_removal/run.yaml"
WAIT_SECONDS = 240.0


def start_run(stack: Stack, name: str, folder: Path, addresses: tuple[str, str]) -> None:
    settings = {
        "iterations": 1,
        "seed": 5,
        "shard_rows": 10,
        "policy": "tiny",
        "refine.refiner": "tiny",
        "finetune.hyperparameters.epochs": 2,
        "dataset": json.dumps({"train_uri": str(folder / "train.jsonl"), "test_uri": str(folder / "test.jsonl")}),
        "feedback.plugin_address": addresses[0],
        "evaluate.plugin_address": addresses[1],
        **{f"rank.ranker.judges.{number}.model": "tiny" for number in range(5)},
    }
    overrides = [f"--set={key}={value}" for key, value in settings.items()]
    stack.ilf("run", RUN, *overrides, "--name", name, "--detach")


def results(stack: Stack, name: str) -> dict[str, str]:
    """Digests of what a run has made, by path: every shard of every stage, and the trained weights."""
    folder = stack.folder / ".ilf" / "artifacts" / "runs" / name
    files = [*folder.glob("it-*/*/part-*.parquet"), *folder.glob("it-*/checkpoint/model.safetensors")]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def wait_for(stack: Stack, name: str, pattern: str) -> None:
    folder = stack.folder / ".ilf" / "artifacts" / "runs" / name
    deadline = time.monotonic() + WAIT_SECONDS
    while not any(folder.glob(pattern)):
        assert time.monotonic() < deadline, f"{pattern} did not appear"
        time.sleep(0.02)


def kill_and_start_again(stack: Stack, *services: str) -> None:
    state = read_state(stack.folder / ".ilf")
    assert state is not None
    for service in services:
        os.kill(state.processes[service].pid, signal.SIGKILL)
    environment = {**stack.environment, "ILF_CONFIG_FILE": str(stack.folder / ".ilf" / "config.yaml")}
    for service in services:
        with (stack.folder / ".ilf" / "logs" / f"{service}.log").open("ab") as log:
            child = subprocess.Popen(
                [sys.executable, "-m", f"services.{service}"],
                cwd=stack.folder,
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        state.processes[service] = ProcessRecord.of(child.pid)
    write_state(stack.folder / ".ilf", state)


@contextmanager
def plugins() -> Iterator[tuple[str, str]]:
    with ExitStack() as running:
        feedback = running.enter_context(plugin("examples.word_removal.program:feedback"))
        yield feedback, running.enter_context(plugin("examples.word_removal.program:exact_match", "--score"))


@pytest.mark.timeout(900)
def test_a_run_survives_killed_services_with_the_bytes_of_an_undisturbed_one(stack: Stack, tmp_path: Path) -> None:
    write_datasets(tmp_path, {"train": 40, "test": 20})
    with plugins() as addresses:
        start_run(stack, "undisturbed", tmp_path, addresses)
        stack.ilf("runs", "watch", "undisturbed", timeout=300)

        start_run(stack, "disturbed", tmp_path, addresses)
        wait_for(stack, "disturbed", "it-1/generate/_MANIFEST.json")
        kill_and_start_again(stack, "refinement")
        wait_for(stack, "disturbed", "it-1/finetune-data/_MANIFEST.json")
        kill_and_start_again(stack, *SERVICES)
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            try:
                stack.ilf("runs", "watch", "disturbed", timeout=300)
                break
            except AssertionError:
                # The orchestrator is on its way back; a run that failed would stay failed.
                assert time.monotonic() < deadline
    # The run needs no ranking any more; whoever uses the services next may.
    stack.wait_until_all_serve()
    run = json.loads(stack.ilf("runs", "show", "disturbed", "-o", "json"))
    assert run["state"] == "succeeded"
    assert len(results(stack, "undisturbed")) > 20
    assert results(stack, "disturbed") == results(stack, "undisturbed")
