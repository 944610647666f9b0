"""What is measured of given refinements: choices against random ones, wins, feedback taken in, targets of training."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from examples.experiments.word_removal import WordRemoval
from ilf_client import AsyncClient
from ilf_client.experiments.lab import Lab, Shelf
from ilf_client.experiments.measuring import CEILING, ENSEMBLE, Choice, Chosen, Quality
from ilf_client.experiments.refining import Refined, RefinedBlindly
from ilf_client.experiments.training import Target
from ilf_client.models.inference import CandidateScore, Outcome, RankerSpec, RankItem, RankResult

SOURCE = Refined("train", 2, 3, 0)
ROWS = WordRemoval().rows("train", 2, 0)
RIGHT, ECHO = [row.reference for row in ROWS], [row.initial_output for row in ROWS]


class Ranking:
    """Ranks by length, the longest first."""

    async def batch_rank(self, items: Sequence[RankItem], *, ranker: RankerSpec) -> AsyncIterator[Outcome[RankResult]]:
        assert ranker.name == "length"
        for item in reversed(items):
            scores = [CandidateScore(float(len(text))) for text in item.candidates]
            yield Outcome(item.item_id, RankResult(scores, 0, "length"))


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """A lab where two contexts are refined: the first right in one of three, the second in none."""
    made = Lab(cast(AsyncClient, Ranking()), Shelf(WordRemoval(), {}, tmp_path), say=lambda line: None)
    lines = [
        {
            "id": ROWS[0].id,
            "candidates": [ECHO[0], RIGHT[0], ECHO[0]],
            "scores": [0.1, 0.9, 0.3],
            "judges": {"judge_1": [0.9, 0.1, 0.1]},
        },
        {
            "id": ROWS[1].id,
            "candidates": [ECHO[1], ECHO[1], ECHO[1]],
            "scores": [0.1, 0.1, 0.1],
            "judges": {"judge_1": [0.1, 0.2, 0.3]},
        },
    ]
    made.folder(SOURCE).mkdir()
    (made.folder(SOURCE) / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    made.shelf.put(SOURCE, {"rows": 2})
    return made


async def values(lab: Lab, step: Any) -> dict[str, list[float]]:
    found: dict[str, list[float]] = (await lab.get(step))["values"]
    return found


@pytest.mark.parametrize("ranker", [ENSEMBLE, CEILING])
async def test_a_right_choice_beats_the_two_wrong_ones_and_ties_with_itself(lab: Lab, ranker: str) -> None:
    found = await values(lab, Chosen(SOURCE, ranker))
    assert found["score"] == [1.0, 0.0]
    assert found["win against a random refinement"] == pytest.approx([(1 + 0.5 + 1) / 3, 0.5])


@pytest.mark.parametrize("ranker", ["judge_1", "length"])
async def test_a_wrong_choice_loses_against_the_right_one(lab: Lab, ranker: str) -> None:
    found = await values(lab, Chosen(SOURCE, ranker))
    assert found["score"] == [0.0, 0.0]
    assert found["win against a random refinement"] == pytest.approx([(0.5 + 0 + 0.5) / 3, 0.5])


async def test_quality_is_measured_against_both_ends(lab: Lab) -> None:
    best = await values(lab, Quality(SOURCE, Choice.BEST))
    assert best == {
        "win against the initial output": [1.0, 0.5],
        "win against the reference": [0.5, 0.0],
        "feedback incorporated": [1.0, 0.0],
    }
    reference = await values(lab, Quality(SOURCE, Choice.REFERENCE))
    assert reference["win against the initial output"] == reference["feedback incorporated"] == [1.0, 1.0]
    blind = RefinedBlindly("train", 2, 0)
    lab.folder(blind).mkdir()
    lab.shelf.put(blind, {"texts": dict(zip([row.id for row in ROWS], ECHO, strict=True))})
    unfed = await values(lab, Quality(SOURCE, Choice.BLIND, blind))
    assert unfed["win against the initial output"] == [0.5, 0.5]


def test_targets_are_the_texts_of_a_context(lab: Lab) -> None:
    first, _ = SOURCE.read(lab)
    assert {target: target.text(first) for target in Target if target is not Target.RANDOM} == {
        Target.REFINEMENT: RIGHT[0],
        Target.REFERENCE: RIGHT[0],
        Target.INITIAL_OUTPUT: ECHO[0],
        Target.FEEDBACK_AND_REFINEMENT: f"{ROWS[0].feedback}\n{RIGHT[0]}",
    }
    assert Target.RANDOM.text(first) in first.candidates
