from dataclasses import replace
from pathlib import Path

import pytest

from ilf_common.errors import FailedPreconditionError
from ilf_common.templates import PromptTemplate
from services.finetune.adapters.job_files import JobFiles
from services.finetune.models import (
    Condition,
    FinetuneJob,
    FinetuneKind,
    FinetuneSpec,
    Hyperparameters,
    JobFailure,
    JobState,
    LoraSpec,
    Progress,
)

JOB = FinetuneJob(
    "ft-1",
    "request",
    FinetuneSpec(
        FinetuneKind.SFT,
        "base",
        "d.jsonl",
        "out",
        Hyperparameters(learning_rate=1e-5, max_grad_norm=0.0, lora=LoraSpec(4, target_modules=("q", "v"))),
        PromptTemplate("p", "{context}", " "),
    ),
    JobState.FAILED,
    create_time=1.5,
    attempts=2,
    progress=Progress(3, 9, 0.1, metrics={"train_loss": 0.25}),
    failure=JobFailure("BAD_DATA", "row 3"),
    conditions=(Condition("Ended", "BAD_DATA", "row 3", 2.5),),
)


async def test_a_job_comes_back_as_it_was_written(tmp_path: Path) -> None:
    files = JobFiles(tmp_path / "jobs")
    await files.save(JOB)
    await files.save(replace(JOB, id="ft-2"))
    await files.save(replace(JOB, attempts=3))
    assert await files.load() == [replace(JOB, attempts=3), replace(JOB, id="ft-2")]


async def test_a_folder_belongs_to_one_service(tmp_path: Path) -> None:
    first = JobFiles(tmp_path / "jobs")
    with pytest.raises(FailedPreconditionError) as raised:
        JobFiles(tmp_path / "jobs")
    assert raised.value.reason == "STATE_IN_USE"
    await first.close()
    await JobFiles(tmp_path / "jobs").close()


async def test_an_unreadable_job_is_left_out_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    files = JobFiles(tmp_path / "jobs")
    await files.save(JOB)
    (tmp_path / "jobs/ft-0").mkdir()
    (tmp_path / "jobs/ft-0/job.json").write_text("{")
    assert [job.id for job in await files.load()] == ["ft-1"]
    assert "not readable" in caplog.text


async def test_the_first_job_with_an_id_stays(tmp_path: Path) -> None:
    files = JobFiles(tmp_path / "jobs")
    assert await files.add(JOB) == JOB
    assert await files.add(replace(JOB, attempts=9)) == JOB
    await files.remove(JOB.id)
    assert await files.read(JOB.id) is None
