"""What a reward model's directory says of itself: in its `config.json`, and in two files beside the weights."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ilf_common.rewards.kinds import RewardLoss
from ilf_common.rewards.report import RewardReport, read_report, write_report
from ilf_common.templates import PromptTemplate

CONFIG_FILE = "config.json"
REPORT_FILE = "reward_report.json"
"""The report on held-out comparisons; not there where none were held out."""
CONTEXTS_FILE = "reward_contexts.txt"
"""Digests of the contexts that the model was trained on, one a line."""


@dataclass(frozen=True)
class RewardStatistics:
    """Mean and standard deviation of a model's rewards over its training comparisons."""

    mean: float
    std: float


@dataclass(frozen=True)
class RewardCard:
    """What is needed to serve a reward model, beside its weights.

    Attributes:
        loss: What it was trained with.
        question: What it is asked; None for a head.
        statistics: None where rewards were not measured, and for A_B.
        temperature: Advantages are divided by it to become log-odds.
        vocabulary: Digest of the tokenizer's vocabulary in training; "" where it is not known.
        held_out: What was measured at the end of training; None where nothing was held out.
        trained_on: Digests of the contexts of the training comparisons; none where they are not known.
    """

    loss: RewardLoss = RewardLoss.BRADLEY_TERRY
    question: PromptTemplate | None = None
    statistics: RewardStatistics | None = None
    temperature: float = 1.0
    vocabulary: str = ""
    held_out: RewardReport | None = None
    trained_on: frozenset[str] = frozenset()


def read_card(folder: Path) -> RewardCard:
    """The card of a directory; one that says nothing has a Bradley-Terry head.

    Raises:
        ValueError: It says something that is not understood.
    """
    config = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    loss = RewardLoss(config.get("reward_loss", RewardLoss.BRADLEY_TERRY))
    temperature = config.get("reward_temperature", 1.0)
    if not isinstance(temperature, int | float) or not 0 < temperature < math.inf:
        raise ValueError("reward_temperature must be a positive number")
    return RewardCard(
        loss=loss,
        question=_question(config["reward_question"]) if loss.asks else None,
        statistics=_statistics(config),
        temperature=float(temperature),
        vocabulary=str(config.get("reward_vocabulary", "")),
        held_out=read_report((folder / REPORT_FILE).read_bytes()) if (folder / REPORT_FILE).is_file() else None,
        trained_on=_lines(folder / CONTEXTS_FILE),
    )


def write_card(folder: Path, card: RewardCard) -> None:
    """Writes the card into a directory that has a `config.json`."""
    path = folder / CONFIG_FILE
    config = json.loads(path.read_text(encoding="utf-8"))
    config |= {"reward_loss": card.loss.value, "reward_temperature": card.temperature}
    if card.question is not None:
        config["reward_question"] = {
            "text": card.question.text,
            "target_prefix": card.question.target_prefix,
            "positive_answers": list(card.question.positive_answers),
            "negative_answers": list(card.question.negative_answers),
        }
    if card.statistics is not None:
        config |= {"reward_mean": card.statistics.mean, "reward_std": card.statistics.std}
    if card.vocabulary:
        config["reward_vocabulary"] = card.vocabulary
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    if card.held_out is not None:
        (folder / REPORT_FILE).write_bytes(write_report(card.held_out))
    if card.trained_on:
        (folder / CONTEXTS_FILE).write_text("".join(f"{digest}\n" for digest in sorted(card.trained_on)))


def vocabulary_digest(tokenizer: Any) -> str:
    """sha256 over a transformers tokenizer's tokens and their ids."""
    tokens = sorted(tokenizer.get_vocab().items(), key=lambda entry: (entry[1], entry[0]))
    return hashlib.sha256(json.dumps(tokens).encode()).hexdigest()


def _lines(file: Path) -> frozenset[str]:
    return frozenset(file.read_text().split()) if file.is_file() else frozenset()


def _question(content: Mapping[str, Any]) -> PromptTemplate:
    return PromptTemplate(
        name="reward_question",
        text=content["text"],
        target_prefix=content["target_prefix"],
        positive_answers=tuple(content["positive_answers"]),
        negative_answers=tuple(content["negative_answers"]),
    )


def _statistics(config: Mapping[str, Any]) -> RewardStatistics | None:
    mean, std = config.get("reward_mean"), config.get("reward_std")
    if not isinstance(mean, int | float) or not isinstance(std, int | float):
        return None
    return RewardStatistics(float(mean), float(std)) if math.isfinite(mean) and math.isfinite(std) else None
