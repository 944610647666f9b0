"""kill -9 of a trainer: the next one goes on, and the checkpoint has the bytes of an undisturbed run."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.finetune.trainer.checkpoints import last_complete
from services.finetune.trainer.outcome import EXIT_INTERRUPTED, read_progress, read_result
from tests.crash.finetune.conftest import kill, start_trainer, wait_until
from tests.integration.finetune.conftest import Workshop, reversals

pytestmark = [pytest.mark.crash, pytest.mark.engine]


def test_a_killed_trainer_goes_on_to_the_same_bytes(workshop: Workshop) -> None:
    dataset = workshop.write_rows("rows", reversals(64))
    changes = {"epochs": 12, "batch_size": 4, "save_steps": 10, "seed": 5}
    undisturbed = workshop.run(workshop.job("undisturbed", dataset, **changes))

    job = workshop.job("killed", dataset, **changes)
    work = Path(job.work_dir)
    trainer = start_trainer(job)
    checkpoint = wait_until(lambda: last_complete(work / "checkpoints"))
    kill(trainer.pid)
    trainer.wait()
    assert read_result(work) is None
    assert 10 <= checkpoint.step < 192
    assert not workshop.store.exists("out/killed")

    # What a kill in the middle of writing the next checkpoint leaves.
    (work / "checkpoints" / "checkpoint-9999").mkdir()
    (work / "checkpoints" / "checkpoint-9999" / "model.safetensors").write_bytes(b"half")
    again = start_trainer(job)
    assert again.wait(240) == 0, (work / "trainer.log").read_text()[-2000:]
    result = read_result(work)
    assert result is not None
    assert result.checkpoint_digest == undisturbed.checkpoint_digest
    assert dict(result.metrics) == dict(undisturbed.metrics)
    # The second trainer did not begin at the beginning.
    first_lines = [line for line in (work / "trainer.log").read_text().splitlines() if line.startswith("step ")]
    assert first_lines[0].startswith("step 0/192")
    assert any(int(line.split()[1].split("/")[0]) >= 10 and "loss" in line for line in first_lines[1:])


def test_a_terminated_trainer_leaves_a_checkpoint_of_its_last_step(workshop: Workshop) -> None:
    job = workshop.job("terminated", workshop.write_rows("rows", reversals(64)), epochs=200, batch_size=4)
    work = Path(job.work_dir)
    trainer = start_trainer(job)
    wait_until(lambda: read_progress(work).step > 0)
    trainer.terminate()
    assert trainer.wait(180) == EXIT_INTERRUPTED, (work / "trainer.log").read_text()[-2000:]
    checkpoint = last_complete(work / "checkpoints")
    assert checkpoint is not None
    assert checkpoint.step == read_progress(work).step
    assert checkpoint.tally.steps == checkpoint.step
