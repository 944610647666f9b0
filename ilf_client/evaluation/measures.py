"""What can be measured on the rows of a part; each measure writes its values into them and answers what it left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ilf_client.evaluation.collecting import LENGTH, POSITION_BIAS, WIN_RATE, RowValues
from ilf_client.evaluation.judging import Bench, won
from ilf_client.evaluation.likelihood import Divergences, Gap, Likelihoods
from ilf_client.evaluation.metrics import Metric, measure
from ilf_client.evaluation.overlap import rouge_l
from ilf_client.evaluation.parts import Stage, failure_of
from ilf_client.evaluation.rows import Part, RowReader
from ilf_client.evaluation.sampling import Version, pinned
from ilf_client.evaluation.scoring import Candidates, RankerScores
from ilf_client.evaluation.texts import TextMap
from ilf_client.models.evaluation import EvaluationSpec, Pairing
from ilf_client.models.inference import CompareItem, RankerSpec, ScoreTextItem

if TYPE_CHECKING:
    from ilf_client.aio.services import AsyncServices

Outputs = Mapping[str, Mapping[str, str]]
"""Texts by arm and row id."""

Measure = Callable[[Part, Outputs, Sequence[RowValues]], Awaitable[Counter[str]]]

INCORPORATED = "incorporated"
INCORPORATED_PROBABILITY = "incorporated_probability"
ROUGE_L = "rouge_l"


async def measures_of(
    client: AsyncServices,
    spec: EvaluationSpec,
    versions: Mapping[str, Version],
    rows: RowReader,
    metrics: Mapping[str, Metric],
    folder: Path,
) -> list[Measure]:
    """All that a spec asks for, ready to work.

    Args:
        client: The services.
        spec: What to measure.
        versions: Of the arms that are policies.
        rows: The dataset.
        metrics: Functions of context and output.
        folder: Where answers lie.

    Raises:
        NotFoundError: There is no such base or reward model.
        InvalidArgumentError: There is no such column, or the divergence has a template that is only named.
    """
    found: list[Measure] = [measure_lengths]
    if metrics:
        found.append(metric_measure(metrics))
    if spec.rouge:
        rouge_l("", "")  # says now, not after the work, that its library is missing
        found.append(measure_rouge)
    for evaluator in spec.evaluators:
        digests = {name: (await client.reward.get(name)).digest for name in evaluator.reward_models}
        found.append(win_measure(Bench(client, evaluator, digests, folder), spec.pairings))
    if spec.incorporated is not None:
        found.append(incorporated_measure(client, spec.incorporated, folder))
    for column in spec.nll_columns:
        targets = TextMap(rows.column(column), f"nll_columns {column}")
        for arm, version in versions.items():
            scorer = Likelihoods(client, version, spec.template, folder, "nll")
            found.append(nll_measure(arm, column, scorer, targets))
    if spec.divergence is not None:
        base = await pinned(client, spec.divergence.base)
        for arm, version in versions.items():
            divergences = Divergences(client, version, base, spec.divergence, spec.template, spec.seed, folder)
            found.append(divergence_measure(arm, divergences))
    return found


async def measure_lengths(part: Part, outputs: Outputs, rows: Sequence[RowValues]) -> Counter[str]:
    """Characters of each output: what the length-controlled win rate controls for."""
    for row in rows:
        for arm, texts in outputs.items():
            if row.id in texts:
                row.arms.setdefault(arm, {})[LENGTH] = float(len(texts[row.id]))
    return Counter()


async def measure_rouge(part: Part, outputs: Outputs, rows: Sequence[RowValues]) -> Counter[str]:
    """ROUGE-L against the reference, where there is one."""
    for source, row in zip(part.rows, rows, strict=True):
        for arm, texts in outputs.items():
            if source.reference and row.id in texts:
                row.arms[arm][ROUGE_L] = rouge_l(texts[row.id], source.reference)
    return Counter()


def metric_measure(metrics: Mapping[str, Metric]) -> Measure:
    """A task's own metrics."""

    async def work(part: Part, outputs: Outputs, rows: Sequence[RowValues]) -> Counter[str]:
        for source, row in zip(part.rows, rows, strict=True):
            for arm, texts in outputs.items():
                if row.id in texts:
                    for name, metric in metrics.items():
                        row.arms[arm][name] = await measure(metric, name, source.context, texts[row.id])
        return Counter()

    return work


def win_measure(bench: Bench, pairings: Sequence[Pairing]) -> Measure:
    """Wins of arms over rivals by one evaluator, and how much it favours what it sees first."""

    async def work(part: Part, outputs: Outputs, rows: Sequence[RowValues]) -> Counter[str]:
        dropped: Counter[str] = Counter()
        for pairing in pairings:
            own, other = outputs[pairing.arm], outputs[pairing.rival]
            items = [
                CompareItem(row.id, row.context, own[row.id], other[row.id])
                for row in part.rows
                if row.id in own and row.id in other
            ]
            found = await bench.probabilities(part.index, items)
            for row in rows:
                record = found.get(row.id)
                if record is None:
                    continue
                if "error" in record:
                    dropped[f"{bench.name}: {failure_of(record)}"] += 1
                    continue
                verdict = {WIN_RATE: won(record["probability"])}
                if "position_bias" in record:
                    verdict[POSITION_BIAS] = record["position_bias"]
                row.verdicts[pairing.arm, pairing.rival, bench.name] = verdict
        return dropped

    return work


def incorporated_measure(client: AsyncServices, ranker: RankerSpec, folder: Path) -> Measure:
    """Whether outputs take the feedback in: the ranker's probability, and the share in which it is above one half."""
    scorer = RankerScores(client, ranker)
    stage = Stage(folder, "incorporated", scorer.key)

    async def work(part: Part, outputs: Outputs, rows: Sequence[RowValues]) -> Counter[str]:
        arms = {row.id: [arm for arm, texts in outputs.items() if row.id in texts] for row in rows}
        items = [
            Candidates(
                row.id,
                row.context,
                row.initial_output or "",
                row.feedback,
                tuple(outputs[arm][row.id] for arm in arms[row.id]),
            )
            for row in part.rows
            if row.feedback and arms[row.id]
        ]
        found = await stage.part(part.index, items, scorer.ask)
        dropped: Counter[str] = Counter()
        for row in rows:
            record = found.get(row.id, {})
            if "error" in record:
                dropped[f"{INCORPORATED}: {failure_of(record)}"] += 1
                continue
            for arm, score in zip(arms[row.id], record.get("scores", ()), strict=False):
                row.arms[arm][INCORPORATED] = float(score > 0.5)
                row.arms[arm][INCORPORATED_PROBABILITY] = score
        return dropped

    return work


def nll_measure(arm: str, column: str, scorer: Likelihoods, targets: TextMap) -> Measure:
    """Negative log-likelihood of a column under one policy, of the whole text and of a token, in nats."""

    async def work(part: Part, outputs: Outputs, rows: Sequence[RowValues]) -> Counter[str]:
        texts = targets.of([row.id for row in part.rows])
        items = [ScoreTextItem(row.id, row.context, texts[row.id]) for row in part.rows if row.id in texts]
        found = await scorer.of(part.index, items)
        dropped: Counter[str] = Counter()
        for row in rows:
            record = found.get(row.id)
            if record is None:
                continue
            if "error" in record:
                dropped[f"nll {column}: {failure_of(record)}"] += 1
                continue
            values = row.arms.setdefault(arm, {})
            values[f"nll {column}"] = -record["logprob"]
            values[f"nll per token {column}"] = -record["logprob"] / record["token_count"]
        return dropped

    return work


def divergence_measure(arm: str, divergences: Divergences) -> Measure:
    """Forward and reverse KL of one policy and the base, in nats a sample."""

    async def work(part: Part, outputs: Outputs, rows: Sequence[RowValues]) -> Counter[str]:
        dropped: Counter[str] = Counter()
        both: dict[str, Mapping[str, Gap]] = {
            "kl forward": await divergences.forward(part),
            "kl reverse": await divergences.reverse(part),
        }
        for name, gaps in both.items():
            for row in rows:
                gap = gaps[row.id]
                if gap.failure:
                    dropped[f"{name} {arm}: {gap.failure}"] += 1
                else:
                    row.arms.setdefault(arm, {})[name] = gap.nats
        return dropped

    return work
