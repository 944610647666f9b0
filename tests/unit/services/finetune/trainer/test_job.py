from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ilf_common.templates import PromptTemplate
from services.finetune.models import FinetuneKind, FinetuneSpec, Hyperparameters, LoraSpec
from services.finetune.trainer.job import Runtime, TrainerJob, read_job, resolve, write_job
from services.finetune.trainer.outcome import FailureReason, TrainerError

SPEC = FinetuneSpec(
    FinetuneKind.SFT,
    "base",
    "d.jsonl",
    "out",
    Hyperparameters(learning_rate=3e-5, lora=LoraSpec(8, target_modules=("q_proj",)), max_grad_norm=0.0),
    PromptTemplate("p", "{context}", " "),
)
JOB = TrainerJob("ft-1", SPEC, "/store", "/work", Runtime(threads=2))


def test_a_job_file_comes_back_as_it_was_written(tmp_path: Path) -> None:
    (tmp_path / "job.json").write_bytes(write_job(JOB))
    assert read_job(tmp_path / "job.json") == JOB


def test_a_wrong_job_file_is_refused_with_its_fields(tmp_path: Path) -> None:
    (tmp_path / "job.json").write_text('{"job_id": "x", "spec": {"kind": "dance"}}')
    with pytest.raises(TrainerError) as raised:
        read_job(tmp_path / "job.json")
    assert raised.value.reason is FailureReason.BAD_CONFIG
    assert "spec.kind" in raised.value.message and "store_root" in raised.value.message


def test_the_digest_tells_jobs_apart_by_what_decides_the_checkpoint() -> None:
    assert replace(JOB, job_id="other", work_dir="/elsewhere", runtime=Runtime()).digest == JOB.digest
    assert replace(JOB, spec=replace(SPEC, output_uri="elsewhere")).digest == JOB.digest
    assert replace(JOB, spec=replace(SPEC, hyperparameters=Hyperparameters(seed=1))).digest != JOB.digest


def _resolve(
    wanted: Hyperparameters, *, window: int = 4096, processes: int = 1, on_gpu: bool = False
) -> Hyperparameters:
    return resolve(wanted, window=window, processes=processes, on_gpu=on_gpu)


def test_gaps_get_the_defaults_of_the_proto() -> None:
    plain = _resolve(Hyperparameters())
    assert (plain.learning_rate, plain.epochs, plain.batch_size, plain.micro_batch_size) == (1e-5, 1.0, 8, 8)
    assert (plain.max_length, plain.lr_schedule, plain.max_grad_norm, plain.dtype) == (2048, "linear", 1.0, "float32")
    lora = _resolve(Hyperparameters(lora=LoraSpec(4)), window=512, on_gpu=True)
    assert (lora.learning_rate, lora.max_length, lora.dtype) == (1e-4, 512, "bfloat16")
    assert lora.lora == LoraSpec(4, alpha=8.0)


def test_what_was_asked_for_is_kept() -> None:
    wanted = Hyperparameters(
        1e-3, 2.5, 12, 3, 0.1, 100, 0.1, "cosine", 0.01, 0.0, 7, LoraSpec(4, 3.0), "bfloat16", 5, True
    )
    assert _resolve(wanted, processes=2) == wanted


def test_the_batch_is_divided_over_the_processes() -> None:
    assert _resolve(Hyperparameters(batch_size=8), processes=2).micro_batch_size == 4
    with pytest.raises(TrainerError, match="batch_size 8 is no multiple"):
        _resolve(Hyperparameters(), processes=3)


def test_sequences_never_exceed_the_window() -> None:
    with pytest.raises(TrainerError, match="window of 512"):
        _resolve(Hyperparameters(max_length=513), window=512)
