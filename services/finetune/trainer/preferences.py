"""What is special about training a reward model: its comparisons, and what its directory says of itself."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ilf_common.artifacts import ArtifactStore
from ilf_common.errors import IlfError, InvalidArgumentError
from ilf_common.rewards.card import RewardCard, RewardStatistics, vocabulary_digest, write_card
from ilf_common.rewards.comparisons import Comparisons, context_digest, split_by_context
from ilf_common.rewards.inputs import Encoder, RewardInputs
from ilf_common.rewards.measuring import fitted_report
from ilf_common.rewards.report import RewardReport
from ilf_common.rewards.transformers_model import Device, Dtype, TransformersRewardLoader, TransformersRewardModel
from services.finetune.models import Hyperparameters, RewardOptions
from services.finetune.trainer.data import read_comparisons
from services.finetune.trainer.encoding import EncodedPair, encode_pairs
from services.finetune.trainer.job import TrainerJob
from services.finetune.trainer.outcome import FailureReason, TrainerError
from services.finetune.trainer.training import uses_gpu

_EQUAL_TOKENS = "equal_tokens"
_BATCH_SIZE = 16


@dataclass(frozen=True)
class PreferenceData:
    """The comparisons of a job.

    Attributes:
        train: What is learned.
        held_out: What is measured on; no context of it is in `train`.
        held_out_dropped: Held-out rows that were left out, by reason.
        dropped: Training rows that were left out, by reason.
    """

    train: list[EncodedPair]
    held_out: list[EncodedPair]
    held_out_dropped: Mapping[str, int]
    dropped: Mapping[str, int]

    @property
    def counts(self) -> dict[str, int]:
        """For the record of the training."""
        sides = [side for pair in self.train for side in (pair.chosen, pair.rejected)]
        counts = {"pairs": len(self.train), "held_out_pairs": len(self.held_out), "tokens": sum(map(len, sides))}
        return {**counts, **{f"dropped_{reason}": count for reason, count in self.dropped.items()}}


def read_preferences(
    store: ArtifactStore, job: TrainerJob, inputs: RewardInputs, wanted: Hyperparameters
) -> PreferenceData:
    """Reads, checks, splits and encodes a job's comparisons, before any model is loaded.

    Raises:
        TrainerError: BAD_DATA; broken rows, or none that are left.
    """
    options = job.spec.reward or RewardOptions()
    found = _read(store, job.spec.dataset_uri, "dataset_uri", options)
    training, measured = split_by_context(found.rows, options.held_out_share, wanted.seed)
    train, dropped = _encode(Comparisons(tuple(training), found.dropped), inputs, wanted, "the dataset")
    held_out = Comparisons(tuple(measured), {})
    if options.held_out_uri:
        held_out = _read(store, options.held_out_uri, "held_out_uri", options).without_contexts(_contexts(train))
    elif not options.held_out_share:
        return PreferenceData(train, [], {}, dropped)
    return PreferenceData(train, *_encode(held_out, inputs, wanted, "the held-out part"), dropped)


def _read(store: ArtifactStore, uri: str, field: str, options: RewardOptions) -> Comparisons:
    return read_comparisons(store, store.resolve(uri, field=field), slice_column=options.slice_column)


def _encode(
    found: Comparisons, inputs: RewardInputs, wanted: Hyperparameters, where: str
) -> tuple[list[EncodedPair], dict[str, int]]:
    pairs, alike = encode_pairs(found.rows, inputs, max_length=wanted.max_length)
    dropped = {**found.dropped, **({_EQUAL_TOKENS: alike} if alike else {})}
    if not pairs:
        reasons = ", ".join(f"{count} dropped as {reason}" for reason, count in dropped.items()) or "none is left"
        raise TrainerError(FailureReason.BAD_DATA, f"No comparison of {where} can be used: {reasons}.")
    return pairs, dropped


def _contexts(pairs: Sequence[EncodedPair]) -> frozenset[str]:
    return frozenset(context_digest(pair.row.context) for pair in pairs)


def reward_inputs(job: TrainerJob, encoder: Encoder) -> RewardInputs:
    """How the job's model reads texts.

    Raises:
        TrainerError: BAD_CONFIG; the tokenizer cannot tell the answers to the question apart.
    """
    try:
        return RewardInputs((job.spec.reward or RewardOptions()).loss, encoder, job.spec.template)
    except InvalidArgumentError as error:
        raise TrainerError(FailureReason.BAD_CONFIG, error.message) from error


def finish_reward_model(
    folder: Path, job: TrainerJob, tokenizer: Any, wanted: Hyperparameters, inputs: RewardInputs, data: PreferenceData
) -> dict[str, float]:
    """Loads a staged reward model as the reward service will, measures it, and writes what it is worth beside it.

    Returns:
        `accuracy`, and but for A_B `reward_mean` and `reward_std`, over the training comparisons; what was measured
        on the held-out ones as `held_out_…`; and how many rows were dropped and margins not used.

    Raises:
        TrainerError: LOAD_TEST_FAILED, or NAN_LOSS where rewards are not finite.
    """
    card = RewardCard(
        inputs.loss,
        inputs.question if inputs.loss.asks else None,
        vocabulary=vocabulary_digest(tokenizer),
        trained_on=_contexts(data.train),
    )
    write_card(folder, card)
    device: Device = "cuda" if uses_gpu(job.runtime) else "cpu"
    dtype: Dtype = "bfloat16" if wanted.dtype == "bfloat16" else "float32"
    try:
        model = TransformersRewardLoader(device, dtype, threads=job.runtime.threads or None).load(folder)
    except IlfError as error:
        raise TrainerError(FailureReason.LOAD_TEST_FAILED, f"The checkpoint does not serve: {error.message}") from error
    numbers = _score(model, data.train)
    advantages = [inputs.advantage(*pair) for pair in numbers]
    metrics = {"accuracy": statistics.fmean((math.copysign(1, a) + 1) / 2 if a else 0.5 for a in advantages)}
    if inputs.loss.gives_rewards:
        rewards = [number for pair in numbers for number in pair]
        card = replace(card, statistics=RewardStatistics(statistics.fmean(rewards), statistics.stdev(rewards)))
        metrics |= {"reward_mean": statistics.fmean(rewards), "reward_std": statistics.stdev(rewards)}
    if data.held_out:
        report = _measure(model, data)
        card = replace(card, temperature=report.temperature, held_out=report)
        metrics |= _metrics(report)
    write_card(folder, card)
    return metrics | _left_out(inputs, data)


def _measure(model: TransformersRewardModel, data: PreferenceData) -> RewardReport:
    advantages = [model.inputs.advantage(*pair) for pair in _score(model, data.held_out)]
    return fitted_report([pair.row for pair in data.held_out], advantages, data.held_out_dropped)


def _score(model: TransformersRewardModel, pairs: Sequence[EncodedPair]) -> list[tuple[float, float]]:
    """The two numbers of each comparison.

    Raises:
        TrainerError: NAN_LOSS.
    """
    sequences = [side for pair in pairs for side in (pair.chosen, pair.rejected)]
    # Neighbours of like length waste little on padding.
    order = sorted(range(len(sequences)), key=lambda place: len(sequences[place]))
    numbers = [0.0] * len(sequences)
    for start in range(0, len(order), _BATCH_SIZE):
        places = order[start : start + _BATCH_SIZE]
        for place, number in zip(places, model.score([sequences[place] for place in places]), strict=True):
            numbers[place] = number
    broken = sum(not math.isfinite(number) for number in numbers)
    if broken:
        raise TrainerError(FailureReason.NAN_LOSS, f"{broken} of {len(numbers)} rewards are not finite.")
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def _metrics(report: RewardReport) -> dict[str, float]:
    return {
        "held_out_pairs": report.pairs,
        "held_out_accuracy": report.accuracy.value,
        "held_out_accuracy_low": report.accuracy_low,
        "held_out_accuracy_high": report.accuracy_high,
        "held_out_margin": report.margins.mean,
        "held_out_ece": report.calibrated.ece,
        "held_out_brier": report.calibrated.brier,
        "temperature": report.temperature,
    }


def _left_out(inputs: RewardInputs, data: PreferenceData) -> dict[str, float]:
    found = {f"dropped_{reason}": float(count) for reason, count in data.dropped.items()}
    found |= {f"held_out_dropped_{reason}": float(count) for reason, count in data.held_out_dropped.items()}
    margins = sum(pair.row.margin != 0 for pair in data.train) if inputs.loss.asks else 0
    return found | ({"margins_not_used": float(margins)} if margins else {})
