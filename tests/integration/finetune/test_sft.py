"""Training of policies: what is published, and that only the job decides it."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from services.finetune.models import LoraSpec
from services.finetune.trainer.outcome import EXIT_INTERRUPTED, FailureReason, read_progress, read_result
from services.finetune.trainer.stop import StopFlag
from tests.integration.finetune.conftest import TEMPLATE, Workshop, reversals

pytestmark = pytest.mark.engine


class StopAfter(StopFlag):
    """Asks for an end once it was read `reads` times."""

    def __init__(self, reads: int) -> None:
        self._left = reads

    @property
    def requested(self) -> bool:  # type: ignore[override]
        self._left -= 1
        return self._left < 0


def _largest_difference(left: dict[str, Any], right: dict[str, Any]) -> float:
    assert left.keys() == right.keys()
    return max(float((left[name].float() - right[name].float()).abs().max()) for name in left)


def test_training_lowers_the_loss_and_publishes_a_directory_that_serves(workshop: Workshop) -> None:
    job = workshop.job("full", workshop.write_rows("rows", reversals(40)), epochs=6, learning_rate=3e-3)
    result = workshop.run(job)
    assert result.reason is None, result.message
    folder = workshop.store.fetch_directory("out/full")
    assert result.checkpoint_digest == workshop.store.read_manifest("out/full").digest
    names = {path.name for path in folder.iterdir()}
    assert {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "training_info.json",
    } <= names
    assert not any(name.endswith((".bin", ".pt", ".pth", ".md")) for name in names)
    info = json.loads((folder / "training_info.json").read_text())
    assert info["hyperparameters"]["batch_size"] == 8
    assert info["data"] == {"items": 40, "rows": 40, "tokens": info["data"]["tokens"]}
    assert result.metrics["final_loss"] < 0.8 * math.log(150)
    progress = read_progress(Path(job.work_dir))
    assert (progress.step, progress.max_steps, progress.remaining) == (30, 30, 0)
    assert progress.metrics["train_loss"] == result.metrics["train_loss"]
    assert [step for step, _ in progress.losses] == list(range(1, 31))
    assert progress.losses[-1][1] == result.metrics["final_loss"]


def test_the_same_job_gives_the_same_bytes(workshop: Workshop) -> None:
    dataset = workshop.write_rows("rows", reversals(20))
    first, second = (
        workshop.run(workshop.job(name, dataset, epochs=2, seed=3)).checkpoint_digest for name in ("first", "second")
    )
    assert first == second
    other = workshop.run(workshop.job("other", dataset, epochs=2, seed=4)).checkpoint_digest
    assert other != first


@pytest.mark.parametrize("lora", [None, LoraSpec(rank=4, dropout=0.1)], ids=["full", "lora"])
def test_an_interrupted_run_continues_to_the_same_bytes(workshop: Workshop, lora: LoraSpec | None) -> None:
    from services.finetune.trainer.run import run_job

    dataset = workshop.write_rows("rows", reversals(20))
    changes: dict[str, Any] = {"epochs": 3, "batch_size": 4, "lora": lora, "merge_adapter": True}
    undisturbed = workshop.run(workshop.job("undisturbed", dataset, **changes))
    job = workshop.job("interrupted", dataset, **changes)
    # One read before training, then one a step: stops in the middle of the second epoch.
    assert run_job(job, StopAfter(7)) == EXIT_INTERRUPTED
    assert read_result(Path(job.work_dir)) is None
    assert read_progress(Path(job.work_dir)).step == 7
    assert not workshop.store.exists("out/interrupted")
    assert workshop.run(job).checkpoint_digest == undisturbed.checkpoint_digest


def test_steps_do_not_depend_on_the_micro_batch(workshop: Workshop) -> None:
    rows = reversals(19)
    rows += [{**row, "item_id": f"{row['item_id']}-split", "weight": w} for row in rows[:6] for w in (0.3, 0.7)]
    dataset = workshop.write_rows("rows", rows)
    whole = workshop.job("whole", dataset, epochs=2)
    parts = workshop.job("parts", dataset, epochs=2, micro_batch_size=2)
    workshop.run(whole)
    workshop.run(parts)
    assert _largest_difference(workshop.weights(whole), workshop.weights(parts)) < 1e-5


def test_sharp_softmax_weights_train_like_the_argmax(workshop: Workshop) -> None:
    best = reversals(16)
    scores = {"best": 1.0, "second": 0.6, "third": 0.2}

    def weighted(beta: float) -> list[dict[str, Any]]:
        total = sum(math.exp(beta * (score - 1)) for score in scores.values())
        return [
            {**row, "completion": f"{row['completion']} {'' if name == 'best' else name}".strip(),
             "weight": math.exp(beta * (score - 1)) / total}
            for row in best
            for name, score in scores.items()
        ]  # fmt: skip

    argmax = workshop.job("argmax", workshop.write_rows("argmax", best), epochs=2)
    sharp = workshop.job("sharp", workshop.write_rows("sharp", weighted(50.0)), epochs=2)
    soft = workshop.job("soft", workshop.write_rows("soft", weighted(1.0)), epochs=2)
    losses = {job.job_id: workshop.run(job).metrics["train_loss"] for job in (argmax, sharp, soft)}
    assert losses["sharp"] == pytest.approx(losses["argmax"], abs=1e-6)
    assert abs(losses["soft"] - losses["argmax"]) > 1e-3
    # Items are counted, not rows: as many optimizer steps, however many completions an item has.
    steps = {job.job_id: read_progress(Path(job.work_dir)).max_steps for job in (argmax, sharp, soft)}
    assert steps == {"argmax": 4, "sharp": 4, "soft": 4}


def test_the_loss_is_that_of_trl_on_the_same_data(workshop: Workshop, tmp_path: Path) -> None:
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    rows = reversals(16)
    ours = workshop.job("ours", workshop.write_rows("rows", rows), epochs=4, batch_size=16, lr_schedule="constant")
    result = workshop.run(ours)
    torch.set_num_threads(1)
    texts = {
        "prompt": [TEMPLATE.render(context=row["context"]) for row in rows],
        "completion": [TEMPLATE.target_prefix + row["completion"] for row in rows],
    }
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(workshop.base_model, dtype=torch.float32),
        args=SFTConfig(
            output_dir=str(tmp_path / "trl"), per_device_train_batch_size=16, num_train_epochs=4, learning_rate=1e-3,
            lr_scheduler_type="constant", use_cpu=True, bf16=False, gradient_checkpointing=False, report_to="none",
            logging_steps=1, save_strategy="no", disable_tqdm=True, max_length=None,
        ),
        train_dataset=Dataset.from_dict(texts),
        processing_class=AutoTokenizer.from_pretrained(workshop.base_model),
    )  # fmt: skip
    theirs = trainer.train().training_loss
    assert result.metrics["train_loss"] == pytest.approx(theirs, abs=1e-3)
    model = trainer.model.state_dict()
    published = workshop.weights(ours)
    assert _largest_difference(published, {name: model[name] for name in published}) < 1e-3


def test_prompt_tokens_count_as_much_as_they_are_asked_to(workshop: Workshop) -> None:
    dataset = workshop.write_rows("rows", reversals(8))
    losses = [
        workshop.run(workshop.job(f"weight-{weight}", dataset, prompt_loss_weight=weight)).metrics["train_loss"]
        for weight in (0.0, 0.1, 1.0)
    ]
    assert len({round(loss, 4) for loss in losses}) == 3


def test_an_adapter_is_published_small_and_names_its_base(workshop: Workshop) -> None:
    dataset = workshop.write_rows("rows", reversals(16))
    first = workshop.job("adapter", dataset, lora=LoraSpec(rank=4))
    result = workshop.run(first)
    assert result.reason is None, result.message
    folder = workshop.store.fetch_directory("out/adapter")
    assert (folder / "adapter_model.safetensors").is_file()
    assert not (folder / "model.safetensors").exists()
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(workshop.base_model)

    onwards = workshop.run(workshop.job("onwards", dataset, base_model="out/adapter", lora=LoraSpec(rank=4)))
    assert onwards.reason is None, onwards.message
    assert onwards.metrics["train_loss"] < result.metrics["train_loss"]
    merged = workshop.run(workshop.job("merged", dataset, base_model="out/adapter"))
    assert merged.reason is None, merged.message
    assert (workshop.store.fetch_directory("out/merged") / "model.safetensors").is_file()


def test_bfloat16_is_computed_and_published(workshop: Workshop) -> None:
    import torch

    job = workshop.job("bf16", workshop.write_rows("rows", reversals(8)), dtype="bfloat16", gradient_checkpointing=True)
    assert workshop.run(job).reason is None
    assert {value.dtype for value in workshop.weights(job).values()} == {torch.bfloat16}


def test_a_job_that_died_after_publishing_is_done_without_publishing_again(workshop: Workshop) -> None:
    dataset = workshop.write_rows("rows", reversals(8))
    job = workshop.job("once", dataset)
    digest = workshop.run(job).checkpoint_digest
    published_at = workshop.store.local_path("out/once/_MANIFEST.json").stat().st_mtime_ns
    (Path(job.work_dir) / "result.json").unlink()
    assert workshop.run(job).checkpoint_digest == digest
    assert workshop.store.local_path("out/once/_MANIFEST.json").stat().st_mtime_ns == published_at

    other = workshop.run(workshop.job("other", dataset, output_uri="out/once", seed=9))
    assert other.reason is FailureReason.BAD_CONFIG
    assert "out/once" in other.message


def test_rows_that_are_too_long_are_named(workshop: Workshop) -> None:
    rows = reversals(6)
    rows[2]["completion"] = "word " * 40
    rows[4]["completion"] = "word " * 50
    result = workshop.run(workshop.job("long", workshop.write_rows("rows", rows), max_length=40))
    assert result.reason is FailureReason.BAD_DATA
    assert "item-2" in result.message and "item-4" in result.message and "item-3" not in result.message
    assert "word" not in result.message


def test_a_loss_that_is_no_number_fails_the_job(workshop: Workshop) -> None:
    job = workshop.job("nan", workshop.write_rows("rows", reversals(16)), learning_rate=1e30, epochs=4)
    result = workshop.run(job)
    assert result.reason is FailureReason.NAN_LOSS
    assert not workshop.store.exists("out/nan")


def test_running_out_of_memory_says_what_to_lower(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from services.finetune.trainer.sft import ItemSftTrainer

    def explode(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(ItemSftTrainer, "compute_loss", explode)
    result = workshop.run(workshop.job("oom", workshop.write_rows("rows", reversals(8))))
    assert result.reason is FailureReason.OUT_OF_MEMORY
    assert "micro_batch_size" in result.message


def test_a_checkpoint_that_does_not_serve_is_not_published(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    from services.finetune.trainer import publishing

    save_info = publishing._write_info

    def lose_tokenizer(folder: Path, *arguments: Any) -> None:
        save_info(folder, *arguments)
        (folder / "tokenizer.json").unlink()
        (folder / "tokenizer_config.json").unlink()

    monkeypatch.setattr(publishing, "_write_info", lose_tokenizer)
    result = workshop.run(workshop.job("lost", workshop.write_rows("rows", reversals(8))))
    assert result.reason is FailureReason.LOAD_TEST_FAILED
    assert not workshop.store.exists("out/lost")


def test_a_base_that_is_not_there_is_a_configuration_error(workshop: Workshop) -> None:
    job = workshop.job("nobase", workshop.write_rows("rows", reversals(8)))
    result = workshop.run(replace(job, spec=replace(job.spec, base_model="runs/none/checkpoint")))
    assert result.reason is FailureReason.BAD_CONFIG
    assert "runs/none/checkpoint" in result.message
