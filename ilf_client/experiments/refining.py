"""Contexts with their refinements and the judges' scores, and refinements without feedback."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ilf_client.evaluation.files import seed_of
from ilf_client.experiments.lab import Lab, Record, Step
from ilf_client.experiments.runs import finished_run
from ilf_client.experiments.task import TaskRow
from ilf_client.files import new_file
from ilf_client.models.inference import GenerateItem, SamplingParams
from ilf_client.models.specs import DatasetSpec, FeedbackSource, FeedbackStage, OutputSource, RunSpec

_FILE = "rows.jsonl"


@dataclass(frozen=True)
class RefinedRow:
    """A context with its candidates.

    Attributes:
        row: The task's row.
        candidates: Refinements.
        scores: The ranker's, one a candidate.
        judges: Scores of each judge by name, one a candidate.
    """

    row: TaskRow
    candidates: Sequence[str]
    scores: Sequence[float]
    judges: Mapping[str, Sequence[float]]

    @property
    def best(self) -> str:
        """The candidate with the highest score, the first of equals."""
        return self.candidates[max(range(len(self.scores)), key=lambda index: self.scores[index])]


def from_columns(spec: RunSpec) -> RunSpec:
    """The run with initial outputs and feedback out of its dataset."""
    return replace(
        spec,
        generate=replace(spec.generate, source=OutputSource.COLUMN),
        feedback=FeedbackStage(
            source=FeedbackSource.COLUMN,
            nothing_to_change=spec.feedback.nothing_to_change,
            on_nothing_to_change=spec.feedback.on_nothing_to_change,
        ),
    )


@dataclass(frozen=True)
class Refined(Step):
    """Contexts of a part, refined by their feedback and ranked: a run that ends before anything is trained.

    Attributes:
        part: "train", "dev" or "test".
        contexts: How many.
        samples: Refinements of each.
        seed: Of the contexts and of the samples.
    """

    part: str
    contexts: int
    samples: int
    seed: int

    @property
    def title(self) -> str:
        """For people."""
        return f"refine and rank {self.contexts} {self.part} contexts, {self.samples} samples each, seed {self.seed}"

    async def make(self, lab: Lab) -> Record:
        """Runs it."""
        rows = lab.task.rows(self.part, self.contexts, self.seed)
        spec = from_columns(lab.task.spec())
        spec = replace(
            spec,
            dataset=DatasetSpec(train_uri=await push_rows(lab, self, rows)),
            iterations=1,
            seed=self.seed,
            preview_rows=self.contexts,
            refine=replace(
                spec.refine, sampling=replace(spec.refine.sampling or SamplingParams(), n=self.samples, seed=None)
            ),
            evaluate=replace(spec.evaluate, disabled=True),
        )
        run = await finished_run(lab, self, spec)
        by_id = {row.id: row for row in rows}
        count = 0
        with new_file(lab.folder(self) / _FILE) as stream:
            async for sample in lab.client.runs.samples(run.name, iteration=1):
                if sample.error is not None:
                    continue
                judges = {
                    judge.judge: [_of(judge.judge, one.score.judge_scores) for one in sample.candidates]
                    for judge in sample.candidates[0].score.judge_scores
                }
                line = {
                    "id": by_id[sample.item_id].id,
                    "candidates": [one.text for one in sample.candidates],
                    "scores": [one.score.score for one in sample.candidates],
                    "judges": judges,
                }
                stream.write(json.dumps(line, ensure_ascii=False) + "\n")
                count += 1
        return {"rows": count, "failed": len(rows) - count}

    def read(self, lab: Lab) -> list[RefinedRow]:
        """The rows with candidates, in the order of the task's rows."""
        rows = lab.task.rows(self.part, self.contexts, self.seed)
        found = {line["id"]: line for line in _lines(lab.folder(self) / _FILE)}
        return [
            RefinedRow(row, found[row.id]["candidates"], found[row.id]["scores"], found[row.id]["judges"])
            for row in rows
            if row.id in found
        ]


@dataclass(frozen=True)
class RefinedBlindly(Step):
    """One refinement of each initial output by a refiner that is not told the feedback.

    Attributes:
        part: "train", "dev" or "test".
        contexts: How many.
        seed: Of the contexts and of the samples.
    """

    part: str
    contexts: int
    seed: int

    @property
    def title(self) -> str:
        """For people."""
        return f"refine {self.contexts} {self.part} contexts without feedback, seed {self.seed}"

    async def make(self, lab: Lab) -> Record:
        """Samples them."""
        rows = lab.task.rows(self.part, self.contexts, self.seed)
        refine = lab.task.spec().refine
        items = [
            GenerateItem(row.id, row.context, seed_of(self.seed, row.id), initial_output=row.initial_output)
            for row in rows
        ]
        outcomes = lab.client.batch_generate(
            refine.refiner,
            items,
            sampling=replace(refine.sampling or SamplingParams(), n=1, seed=None),
            template=lab.task.refine_without_feedback,
            post_processing=refine.post_processing,
        )
        return {"texts": {outcome.item_id: outcome.unwrap().outputs[0].text async for outcome in outcomes}}


async def push_rows(lab: Lab, step: Step, rows: Sequence[TaskRow]) -> str:
    """Sends rows to the artifact store as a dataset of the loop; answers its URI."""
    return await push_lines(
        lab,
        step,
        "dataset",
        [
            {
                "id": row.id,
                "context": row.context,
                "initial_output": row.initial_output,
                "feedback": row.feedback,
                "reference": row.reference,
            }
            for row in rows
        ],
    )


async def push_lines(lab: Lab, step: Step, name: str, lines: Sequence[Mapping[str, Any]]) -> str:
    """Sends JSON lines to the artifact store; answers their URI there."""
    file = lab.folder(step) / f"{name}.jsonl"
    with new_file(file) as stream:
        stream.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    return (await lab.client.data.push(file)).uri


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _of(judge: str, scores: Sequence[Any]) -> float:
    return next(float(score.score) for score in scores if score.judge == judge)
