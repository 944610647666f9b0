"""Training of reward models: what is learned, what is published, what is refused."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from services.finetune.models import FinetuneKind, LoraSpec
from services.finetune.trainer.outcome import EXIT_INTERRUPTED, FailureReason
from tests.integration.finetune.conftest import Workshop
from tests.integration.finetune.test_sft import StopAfter
from tests.tiny_models import WORDS, build_tiny_model, tiny_sentence

pytestmark = pytest.mark.engine


def comparisons(count: int, start: int = 0) -> list[dict[str, Any]]:
    """The text with the word "good" in it is preferred."""
    rows = []
    for seed in range(start, start + count):
        words = [word for word in random.Random(seed).choices(WORDS, k=6) if word not in ("good", "bad")]
        where = random.Random(seed).randrange(len(words) + 1)
        chosen, rejected = (" ".join([*words[:where], word, *words[where:]]) for word in ("good", "bad"))
        rows.append({"prompt": tiny_sentence(seed), "chosen": chosen, "rejected": rejected})
    return rows


def reward_job(workshop: Workshop, name: str, dataset: str, **changes: Any) -> Any:
    options = {"epochs": 4, "learning_rate": 2e-3, **changes}
    return workshop.job(name, dataset, kind=FinetuneKind.REWARD_MODEL, template=None, **options)


def published_scores(workshop: Workshop, name: str, rows: list[dict[str, Any]]) -> list[tuple[float, float]]:
    """Rewards of chosen and rejected texts, one text at a time, by the published directory alone."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from ilf_common.engine.prompt_encoder import PromptEncoder

    folder = workshop.store.fetch_directory(f"out/{name}")
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    encoder = PromptEncoder(AutoTokenizer.from_pretrained(folder), chat=True)

    def score(prompt: str, text: str) -> float:
        ids = encoder.encode_prompt(prompt) + encoder.encode_completion(text, add_eos=True)
        with torch.no_grad():
            return float(model(input_ids=torch.tensor([ids])).logits[0, 0])

    return [(score(row["prompt"], row["chosen"]), score(row["prompt"], row["rejected"])) for row in rows]


@pytest.mark.parametrize("lora", [None, LoraSpec(rank=8)], ids=["full", "lora"])
def test_preferences_are_learned_and_generalise(workshop: Workshop, lora: LoraSpec | None) -> None:
    dataset = workshop.write_rows("pairs", comparisons(200))
    result = workshop.run(reward_job(workshop, "rm", dataset, lora=lora, epochs=6, learning_rate=5e-3))
    assert result.reason is None, result.message
    assert result.metrics["accuracy"] > 0.9
    scores = published_scores(workshop, "rm", comparisons(60, start=1000))
    assert sum(chosen > rejected for chosen, rejected in scores) / len(scores) > 0.8


def test_the_directory_is_whole_and_knows_its_own_scale(workshop: Workshop) -> None:
    rows = comparisons(24)
    result = workshop.run(reward_job(workshop, "rm", workshop.write_rows("pairs", rows), lora=LoraSpec(rank=4)))
    folder = workshop.store.fetch_directory("out/rm")
    config = json.loads((folder / "config.json").read_text())
    assert config["architectures"] == ["LlamaForSequenceClassification"]
    assert not (folder / "adapter_config.json").exists()
    assert config["pad_token_id"] != config["eos_token_id"]
    scores = [score for pair in published_scores(workshop, "rm", rows) for score in pair]
    mean = sum(scores) / len(scores)
    deviation = (sum((score - mean) ** 2 for score in scores) / (len(scores) - 1)) ** 0.5
    # Scored in batches with padding there, one at a time here.
    assert config["reward_mean"] == pytest.approx(mean, abs=1e-3)
    assert config["reward_std"] == pytest.approx(deviation, abs=1e-3)
    assert result.metrics["reward_mean"] == config["reward_mean"]


def test_a_tokenizer_without_padding_gets_a_token_of_its_own(workshop: Workshop) -> None:
    from transformers import AutoTokenizer

    base = build_tiny_model(workshop.folder / "nopad")
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.pad_token = tokenizer.eos_token
    tokenizer.save_pretrained(base)
    rows = comparisons(8)
    result = workshop.run(reward_job(workshop, "rm", workshop.write_rows("pairs", rows), base_model=str(base)))
    assert result.reason is None, result.message
    config = json.loads((workshop.store.fetch_directory("out/rm") / "config.json").read_text())
    assert config["pad_token_id"] == len(tokenizer) == config["vocab_size"] - 1
    scores = published_scores(workshop, "rm", rows)
    accuracy = sum(chosen > rejected for chosen, rejected in scores) / len(scores)
    assert accuracy == pytest.approx(result.metrics["accuracy"])


def test_the_loss_is_that_of_bradley_and_terry(workshop: Workshop) -> None:
    import torch
    from torch.nn.functional import logsigmoid

    rows = [{**row, "margin": 0.5 * number} for number, row in enumerate(comparisons(5))]
    dataset = workshop.write_rows("pairs", rows)
    # A rate so small that the published model is the one that the only step saw.
    result = workshop.run(reward_job(workshop, "rm", dataset, epochs=1, micro_batch_size=2, learning_rate=1e-12))
    gaps = [chosen - rejected - row["margin"] for (chosen, rejected), row in
            zip(published_scores(workshop, "rm", rows), rows, strict=True)]  # fmt: skip
    expected = float(-logsigmoid(torch.tensor(gaps)).mean())
    assert result.metrics["train_loss"] == pytest.approx(expected, abs=1e-4)


def test_an_interrupted_run_continues_to_the_same_bytes(workshop: Workshop) -> None:
    from services.finetune.trainer.run import run_job

    dataset = workshop.write_rows("pairs", comparisons(20))
    undisturbed = workshop.run(reward_job(workshop, "undisturbed", dataset))
    job = reward_job(workshop, "interrupted", dataset)
    assert run_job(job, StopAfter(5)) == EXIT_INTERRUPTED
    result = workshop.run(job)
    assert result.checkpoint_digest == undisturbed.checkpoint_digest
    assert result.metrics == undisturbed.metrics


def test_pairs_that_cannot_be_learned_are_refused_by_row(workshop: Workshop) -> None:
    rows = comparisons(4)
    rows[1]["chosen"] = "good " * 100
    rows[3]["rejected"] = "bad " * 100
    result = workshop.run(reward_job(workshop, "rm", workshop.write_rows("pairs", rows), max_length=64))
    assert result.reason is FailureReason.BAD_DATA
    assert "2 problems" in result.message and "row 2:" in result.message and "row 4:" in result.message
    assert not workshop.store.exists("out/rm")
