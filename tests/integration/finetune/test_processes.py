"""Training in several processes: two that torchrun starts end with the weights of one, copied or sharded."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from services.finetune.models import FinetuneKind, LoraSpec
from services.finetune.trainer.checkpoints import CHECKPOINTS, last_complete
from services.finetune.trainer.job import TrainerJob, write_job
from services.finetune.trainer.outcome import read_result
from tests.integration.finetune.conftest import TEMPLATE, Workshop, reversals
from tests.integration.finetune.test_reward_model import comparisons

pytestmark = pytest.mark.engine


SHARDING = "tests.fakes.sharding_trainer"


def start_two(job: TrainerJob, trainer: str = "services.finetune.trainer") -> subprocess.Popen[str]:
    work = Path(job.work_dir)
    work.mkdir(parents=True, exist_ok=True)
    (work / "trainer.json").write_bytes(write_job(job))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    return subprocess.Popen(
        [*command, "-m", trainer, "--job", str(work / "trainer.json")],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run_in_two(job: TrainerJob, trainer: str = "services.finetune.trainer") -> None:
    process = start_two(job, trainer)
    told, _ = process.communicate(timeout=240)
    result = read_result(Path(job.work_dir))
    assert process.returncode == 0 and result is not None and result.reason is None, told[-8000:]


def in_two(workshop: Workshop, job: TrainerJob, name: str, *, fsdp: bool = False) -> TrainerJob:
    spec, runtime = replace(job.spec, output_uri=f"out/{name}"), replace(job.runtime, fsdp=fsdp)
    return replace(job, job_id=name, spec=spec, runtime=runtime, work_dir=str(workshop.folder / "work" / name))


def furthest(workshop: Workshop, one: TrainerJob, other: TrainerJob) -> float:
    """Largest difference between two published checkpoints, which have the same tensors."""
    left, right = workshop.weights(one), workshop.weights(other)
    assert left.keys() == right.keys()
    return max(float((left[name] - right[name]).abs().max()) for name in left)


@pytest.mark.parametrize("kind", [FinetuneKind.SFT, FinetuneKind.REWARD_MODEL])
def test_two_processes_end_with_the_weights_of_one(workshop: Workshop, kind: FinetuneKind) -> None:
    # 19 items in batches of 4: the last batch is not full, and cannot be divided by two.
    if kind is FinetuneKind.SFT:
        rows = [
            {**row, "item_id": f"item-{n // 2}", "weight": 0.4 + 0.2 * (n % 2)} for n, row in enumerate(reversals(38))
        ]
        job = workshop.job("one", workshop.write_rows("rows", rows), epochs=3, batch_size=4)
    else:
        dataset = workshop.write_rows("pairs", comparisons(19))
        job = workshop.job("one", dataset, kind=kind, template=None, epochs=3, batch_size=4)
    one = workshop.run(job)
    two = in_two(workshop, job, "two")
    run_in_two(two)
    assert furthest(workshop, job, two) < 1e-4
    both = read_result(Path(two.work_dir))
    assert both is not None
    assert both.metrics["train_loss"] == pytest.approx(one.metrics["train_loss"], abs=1e-4)


@pytest.mark.parametrize("kind", [FinetuneKind.SFT, FinetuneKind.REWARD_MODEL])
@pytest.mark.parametrize("lora", [None, pytest.param(LoraSpec(rank=4), marks=pytest.mark.slow)], ids=["full", "lora"])
def test_a_sharded_model_ends_with_the_weights_of_a_whole_one(
    workshop: Workshop, kind: FinetuneKind, lora: LoraSpec | None
) -> None:
    sft = kind is FinetuneKind.SFT
    dataset = workshop.write_rows("rows", reversals(19) if sft else comparisons(19))
    template = TEMPLATE if sft else None
    job = workshop.job("whole", dataset, kind=kind, template=template, epochs=3, batch_size=4, lora=lora)
    job = replace(job, spec=replace(job.spec, merge_adapter=True))
    workshop.run(job)
    sharded = in_two(workshop, job, "sharded", fsdp=True)
    run_in_two(sharded, SHARDING)
    assert furthest(workshop, job, sharded) < 1e-4


@pytest.mark.slow
def test_a_sharded_training_goes_on_from_its_checkpoint(workshop: Workshop) -> None:
    dataset = workshop.write_rows("rows", reversals(60))
    job = workshop.job("whole", dataset, epochs=2, batch_size=2, save_steps=5)
    workshop.run(job)
    sharded = in_two(workshop, job, "sharded", fsdp=True)
    process = start_two(sharded, SHARDING)
    while last_complete(Path(sharded.work_dir) / CHECKPOINTS) is None:
        assert process.poll() is None, process.communicate()[0][-8000:]
    for victim in [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]:
        victim.kill()
    process.communicate(timeout=60)
    assert read_result(Path(sharded.work_dir)) is None
    run_in_two(sharded, SHARDING)
    assert furthest(workshop, job, sharded) < 1e-4
