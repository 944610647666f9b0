"""Training in several processes: two that torchrun starts end with the weights of one."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from services.finetune.models import FinetuneKind
from services.finetune.trainer.job import TrainerJob, write_job
from services.finetune.trainer.outcome import read_result
from tests.integration.finetune.conftest import Workshop, reversals
from tests.integration.finetune.test_reward_model import comparisons

pytestmark = pytest.mark.engine


def run_in_two(job: TrainerJob) -> None:
    work = Path(job.work_dir)
    work.mkdir(parents=True)
    (work / "trainer.json").write_bytes(write_job(job))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    ended = subprocess.run(
        [*command, "-m", "services.finetune.trainer", "--job", str(work / "trainer.json")],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    result = read_result(work)
    assert ended.returncode == 0 and result is not None and result.reason is None, ended.stderr[-3000:]


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
    spec = replace(job.spec, output_uri="out/two")
    two = replace(job, job_id="two", spec=spec, work_dir=str(workshop.folder / "work" / "two"))
    run_in_two(two)
    left, right = workshop.weights(job), workshop.weights(two)
    assert left.keys() == right.keys()
    assert max(float((left[name] - right[name]).abs().max()) for name in left) < 1e-4
    both = read_result(Path(two.work_dir))
    assert both is not None
    assert both.metrics["train_loss"] == pytest.approx(one.metrics["train_loss"], abs=1e-4)
