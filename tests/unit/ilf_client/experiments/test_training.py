"""Reward models learn on pairs of samples of one context, as far as one of them is better."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from examples.experiments.word_removal import WordRemoval, words_off
from ilf_client import AsyncClient
from ilf_client.experiments.lab import Lab, Shelf
from ilf_client.experiments.refining import Refined
from ilf_client.experiments.training import SampleRewardTrained
from ilf_client.models.jobs import FinetuneJob, FinetuneKind, FinetuneSpec, JobState
from ilf_common.errors import FailedPreconditionError

SOURCE = Refined("train", 2, 3, 0)
ROWS = WordRemoval().rows("train", 2, 0)
RIGHT, ECHO = [row.reference for row in ROWS], [row.initial_output for row in ROWS]


@dataclass
class Services:
    """Keeps what is pushed, and ends every job at once."""

    pushed: list[dict[str, str]] = field(default_factory=list)
    jobs_made: list[FinetuneSpec] = field(default_factory=list)

    @property
    def data(self) -> Services:
        return self

    @property
    def jobs(self) -> Services:
        return self

    @property
    def uri(self) -> str:
        return "datasets/comparisons"

    async def push(self, file: Path) -> Services:
        self.pushed = [json.loads(line) for line in file.read_text().splitlines()]
        return self

    async def create(self, spec: FinetuneSpec, *, request_id: str) -> FinetuneJob:
        self.jobs_made.append(spec)
        return FinetuneJob("jobs/1", spec, JobState.SUCCEEDED)


def lab_with(folder: Path, services: Services, candidates: Sequence[Sequence[str]]) -> Lab:
    lab = Lab(cast(AsyncClient, services), Shelf(WordRemoval(), {}, folder), say=print)
    lines = [
        {"id": row.id, "candidates": texts, "scores": [0.0] * len(texts), "judges": {}}
        for row, texts in zip(ROWS, candidates, strict=True)
    ]
    lab.folder(SOURCE).mkdir()
    (lab.folder(SOURCE) / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    lab.shelf.put(SOURCE, {"rows": len(lines)})
    return lab


def step(comparisons: int = 100) -> SampleRewardTrained:
    return SampleRewardTrained(SOURCE, comparisons, 7, WordRemoval.reward_hyperparameters)


async def made(folder: Path, candidates: Sequence[Sequence[str]], comparisons: int = 100) -> tuple[Services, Any]:
    services = Services()
    folder.mkdir(exist_ok=True)
    return services, await lab_with(folder, services, candidates).get(step(comparisons))


async def test_the_better_one_of_each_pair_is_chosen_and_ties_are_left_out(tmp_path: Path) -> None:
    candidates = [[ECHO[0], RIGHT[0], ECHO[0]], [RIGHT[1], "You are a person.", ECHO[1]]]
    services, record = await made(tmp_path, candidates)
    first, *others = sorted(services.pushed, key=lambda line: line["prompt"] != ROWS[0].context)
    assert first == {"prompt": ROWS[0].context, "chosen": RIGHT[0], "rejected": ECHO[0]}
    assert {line["prompt"] for line in others} == {ROWS[1].context}
    for line in services.pushed:
        assert words_off(line["prompt"], line["chosen"]) < words_off(line["prompt"], line["rejected"])
    (job,) = services.jobs_made
    assert job.kind is FinetuneKind.REWARD_MODEL and job.hyperparameters.seed == 7
    assert record["uri"] == job.output_uri and record["comparisons"] == len(services.pushed)


async def test_no_more_comparisons_are_drawn_than_wanted(tmp_path: Path) -> None:
    candidates = [[ECHO[0], RIGHT[0]], [RIGHT[1], ECHO[1]]]
    drawn = [(await made(tmp_path / name, candidates, 1))[0].pushed for name in ("a", "b")]
    assert len(drawn[0]) == 1 and drawn[0] == drawn[1]


@pytest.mark.parametrize("candidates", [[[text] * 3 for text in ECHO], [[text, f"{text} "] for text in RIGHT]])
async def test_samples_that_are_all_as_good_teach_nothing(tmp_path: Path, candidates: Sequence[Sequence[str]]) -> None:
    with pytest.raises(FailedPreconditionError, match="refine and rank 2 train contexts") as error:
        await made(tmp_path, candidates)
    assert error.value.reason == "NO_COMPARISONS"
