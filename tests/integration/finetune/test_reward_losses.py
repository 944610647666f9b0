"""Reward models that are asked, and what every kind is measured on: learned, published, served, refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ilf_common.rewards.card import read_card
from ilf_common.rewards.comparisons import context_digest
from ilf_common.rewards.kinds import RewardLoss
from ilf_common.rewards.report import read_report
from ilf_common.templates import PromptTemplate
from services.finetune.models import LoraSpec, RewardOptions
from services.finetune.trainer.outcome import FailureReason
from tests.integration.finetune.conftest import Workshop
from tests.integration.finetune.test_reward_model import comparisons, reward_job
from tests.tiny_models import build_tiny_adapter

pytestmark = pytest.mark.engine

QUESTIONS = {
    RewardLoss.BRADLEY_TERRY: None,
    RewardLoss.YES_NO: PromptTemplate("q", "{context} {candidate} good?", "", (" Yes",), (" No",)),
    RewardLoss.A_B: PromptTemplate("q", "{context}: {output_a}, {output_b}?", "", (" better",), (" worse",)),
}


def job_of(loss: RewardLoss, workshop: Workshop, name: str, dataset: str, **changes: Any) -> Any:
    """`options` change the reward options, the rest the spec and the hyperparameters."""
    options = RewardOptions(loss, **changes.pop("options", {}))
    job = reward_job(workshop, name, dataset, **changes)
    return replace(job, spec=replace(job.spec, reward=options, template=QUESTIONS[loss]))


@pytest.mark.parametrize("lora", [None, LoraSpec(rank=8)], ids=["full", "lora"])
@pytest.mark.parametrize("loss", [RewardLoss.YES_NO, RewardLoss.A_B])
def test_answers_are_learned_and_generalise(workshop: Workshop, loss: RewardLoss, lora: LoraSpec | None) -> None:
    dataset = workshop.write_rows("pairs", comparisons(200))
    unseen = workshop.write_rows("unseen", comparisons(60, start=1000))
    job = job_of(
        loss, workshop, "rm", dataset, lora=lora, epochs=6, learning_rate=5e-3, options={"held_out_uri": unseen}
    )
    result = workshop.run(job)
    assert result.reason is None, result.message
    assert result.metrics["accuracy"] > 0.9 and result.metrics["held_out_accuracy"] > 0.8
    folder = workshop.store.fetch_directory("out/rm")
    assert json.loads((folder / "config.json").read_text())["architectures"] == ["LlamaForCausalLM"]
    assert not (folder / "adapter_config.json").exists()
    card = read_card(folder)
    assert card.loss is loss and card.question is not None and card.question.text == QUESTIONS[loss].text
    assert (card.statistics is not None) == loss.gives_rewards


@pytest.mark.parametrize("loss", list(RewardLoss))
def test_what_is_measured_in_training_is_what_the_service_measures(workshop: Workshop, loss: RewardLoss) -> None:
    from ilf_common.rewards.transformers_model import TransformersRewardLoader

    rows = comparisons(40)
    options = {"held_out_share": 0.25, "slice_column": "topic"}
    for number, row in enumerate(rows):
        row["topic"] = "ab"[number % 2]
    result = workshop.run(job_of(loss, workshop, "rm", workshop.write_rows("pairs", rows), options=options))
    assert result.reason is None, result.message
    folder = workshop.store.fetch_directory("out/rm")
    report = read_report((folder / "reward_report.json").read_bytes())
    assert report == read_card(folder).held_out
    assert report.pairs == report.contexts == 10 and [part.value for part in report.slices] == ["a", "b"]
    assert result.metrics["held_out_accuracy"] == report.accuracy.value

    card = read_card(folder)
    held_out = [row for row in rows if context_digest(row["prompt"]) not in card.trained_on]
    assert len(held_out) == 10 and len(card.trained_on) == 30
    model = TransformersRewardLoader(device="cpu").load(folder)
    ahead = []
    for row in held_out:
        first, second = model.score(model.inputs.pair(row["prompt"], row["chosen"], row["rejected"]))
        ahead.append(model.inputs.advantage(first, second))
    assert sum(a > 0 for a in ahead) / len(ahead) == report.accuracy.value
    assert sum(ahead) / len(ahead) == pytest.approx(report.margins.mean, abs=1e-3)
    assert card.temperature == report.temperature


def test_the_loss_of_an_answer_is_its_negative_log_probability(workshop: Workshop) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from ilf_common.engine.prompt_encoder import PromptEncoder
    from ilf_common.rewards.inputs import RewardInputs

    rows = comparisons(5)
    dataset = workshop.write_rows("pairs", rows)
    # A rate so small that the published model is the one that the only step saw.
    tiny = {"epochs": 1, "micro_batch_size": 2, "learning_rate": 1e-12}
    result = workshop.run(job_of(RewardLoss.YES_NO, workshop, "rm", dataset, **tiny))
    folder = workshop.store.fetch_directory("out/rm")
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    encoder = PromptEncoder(AutoTokenizer.from_pretrained(folder), chat=True)
    inputs = RewardInputs(RewardLoss.YES_NO, encoder, QUESTIONS[RewardLoss.YES_NO])
    assert inputs.answers is not None
    losses = []
    for row in rows:
        for text, answer in ((row["chosen"], inputs.answers[0]), (row["rejected"], inputs.answers[1])):
            ids = torch.tensor([inputs.single(row["prompt"], text)])
            with torch.no_grad():
                losses.append(-float(model(input_ids=ids).logits[0, -1].log_softmax(-1)[answer]))
    assert result.metrics["train_loss"] == pytest.approx(sum(losses) / len(losses), abs=1e-4)


def test_held_out_comparisons_of_contexts_that_are_trained_on_are_dropped_and_counted(workshop: Workshop) -> None:
    rows = comparisons(12)
    leaking = [*comparisons(4, start=500), {**rows[0], "chosen": "dog", "rejected": "cat"}, rows[1]]
    dataset, held_out = workshop.write_rows("pairs", rows), workshop.write_rows("held_out", leaking)
    job = job_of(RewardLoss.BRADLEY_TERRY, workshop, "rm", dataset, epochs=1, options={"held_out_uri": held_out})
    result = workshop.run(job)
    assert result.metrics["held_out_pairs"] == 4 and result.metrics["held_out_dropped_context_trained_on"] == 2
    report = read_card(workshop.store.fetch_directory("out/rm")).held_out
    assert report is not None and report.dropped == {"context_trained_on": 2}


@pytest.mark.parametrize(
    ("rows", "part"),
    [
        ([{"prompt": "a", "chosen": "x", "rejected": "x"}], "No comparison of the dataset can be used: 1 dropped"),
        ([{"prompt": "a", "chosen": "cat"}], "row 1: rejected must be text"),
    ],
)
def test_a_dataset_without_a_usable_comparison_is_refused(
    workshop: Workshop, rows: list[dict[str, Any]], part: str
) -> None:
    result = workshop.run(reward_job(workshop, "rm", workshop.write_rows("pairs", rows)))
    assert result.reason is FailureReason.BAD_DATA and part in result.message


def test_a_held_out_part_that_is_all_leaked_is_refused(workshop: Workshop) -> None:
    dataset = workshop.write_rows("pairs", comparisons(4))
    job = job_of(RewardLoss.BRADLEY_TERRY, workshop, "rm", dataset, options={"held_out_uri": dataset})
    result = workshop.run(job)
    assert result.reason is FailureReason.BAD_DATA and "4 dropped as context_trained_on" in result.message


def test_rows_that_say_nothing_are_counted_and_unused_margins_too(workshop: Workshop) -> None:
    rows = [{**row, "margin": 1.0} for row in comparisons(8)]
    rows[2]["rejected"] = rows[2]["chosen"]
    # Two words that the tokenizer does not know are one token.
    rows[5] |= {"chosen": "unheard", "rejected": "unseen"}
    job = job_of(RewardLoss.YES_NO, workshop, "rm", workshop.write_rows("pairs", rows), epochs=1)
    metrics = workshop.run(job).metrics
    assert (metrics["dropped_equal_texts"], metrics["dropped_equal_tokens"], metrics["margins_not_used"]) == (1, 1, 6)


def test_answers_that_the_tokenizer_cannot_tell_apart_are_refused(workshop: Workshop) -> None:
    job = job_of(RewardLoss.A_B, workshop, "rm", workshop.write_rows("pairs", comparisons(4)))
    shipped = replace(job, spec=replace(job.spec, template=None))  # " A" and " B" are unknown words here
    result = workshop.run(shipped)
    assert result.reason is FailureReason.BAD_CONFIG and "cannot tell" in result.message


def test_a_language_model_may_start_from_an_adapter(workshop: Workshop, tmp_path: Path) -> None:
    adapter = build_tiny_adapter(tmp_path / "adapter", workshop.base_model)
    workshop.store.publish_directory(adapter, "adapters/a")
    dataset = workshop.write_rows("pairs", comparisons(8))
    result = workshop.run(job_of(RewardLoss.YES_NO, workshop, "rm", dataset, base_model="adapters/a"))
    assert result.reason is None, result.message
