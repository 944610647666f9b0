"""The tasks of the experiments: their rows have all fields, their parts share nothing, and their scores are exact."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.experiments.slf5k import Slf5k
from examples.experiments.word_removal import WordRemoval, words_off
from examples.word_removal.program import HIDDEN_WORDS
from ilf_client import AsyncClient
from ilf_client.experiments.task import TaskRow
from ilf_client.models.inference import (
    CandidateScore,
    CompareItem,
    Comparison,
    Outcome,
    RankerSpec,
    RankItem,
    RankResult,
)
from ilf_common.errors import InvalidArgumentError

NO_CLIENT = cast(AsyncClient, None)
SUMMARIES = Path(__file__).parents[4] / "examples" / "summarization"
CONTEXT = "Repeat this: You are a silly grumpy kind bossy person."


def row(**fields: str) -> TaskRow:
    known = {"initial_output": "", "feedback": "", "reference": "", **fields}
    return TaskRow(id="1", context=CONTEXT, **known)


def test_words_off_counts_what_has_to_go_and_to_come() -> None:
    assert words_off(CONTEXT, " You are a silly kind person. ") == 0
    assert words_off(CONTEXT, "You are a silly grumpy kind person.") == 1
    assert words_off(CONTEXT, "You are a silly grumpy bossy person.") == 3
    assert words_off(CONTEXT, "You are a kind silly person.") == 1
    assert words_off(CONTEXT, "") == 6


async def test_word_removal_scores_exactly() -> None:
    task, rows = WordRemoval(), 3 * [row(feedback="Remove grumpy, bossy.")]
    outputs = ["You are a silly kind person.", "You are a silly kind bossy person.", "You are a kind person."]
    assert await task.scores(NO_CLIENT, rows, outputs) == [1.0, 0.0, 0.0]
    assert await task.incorporated(NO_CLIENT, rows, outputs) == [1.0, 0.0, 1.0]
    rivals = ["You are a silly kind bossy person.", "You are a kind person.", "You are a silly kind person."]
    assert await task.wins(NO_CLIENT, rows, outputs, rivals) == [1.0, 0.5, 0.0]
    assert task.final_answer("Remove grumpy.\nYou are a kind person. ") == "You are a kind person."


@given(st.sampled_from(["train", "dev", "test"]), st.integers(0, 3), st.integers(1, 6))
def test_word_removal_rows_have_all_fields(part: str, seed: int, count: int) -> None:
    rows = WordRemoval().rows(part, count, seed)
    assert len(rows) == count and rows == WordRemoval().rows(part, count + 2, seed)[:count]
    for one in rows:
        assert words_off(one.context, one.reference) == 0 < words_off(one.context, one.initial_output)
        assert HIDDEN_WORDS & set(one.feedback.strip(".").replace(",", "").split())
        assert words_off(one.context, one.chosen) < words_off(one.context, one.rejected)


def test_parts_and_seeds_share_no_context() -> None:
    task = WordRemoval()
    sets = [{one.context for one in task.rows(part, 50, seed)} for part in ("train", "dev", "test") for seed in (0, 1)]
    assert len(set().union(*sets)) == sum(map(len, sets))
    with pytest.raises(InvalidArgumentError, match="train, dev and test"):
        task.rows("model", 1, 0)


def test_word_removal_refines_blindly_with_feedback_that_says_nothing() -> None:
    template = WordRemoval().refine_without_feedback
    assert template.fields == {"context", "initial_output"} and "Nothing to change." in template.text


def test_a_tasks_key_is_its_run_as_written_with_its_templates() -> None:
    key = WordRemoval().key
    assert key["run"]["refine"]["sampling"] == {"n": 5, "temperature": 1.0, "top_p": 0.95, "max_new_tokens": 24}
    assert "best_of_n" not in key["run"]["evaluate"]
    assert len(key["templates"]) == 7
    assert slf5k("policy=a").key != slf5k("policy=b").key == slf5k("policy=b").key


def slf5k(*overrides: str) -> Slf5k:
    return Slf5k(SUMMARIES / "data", SUMMARIES / "run.yaml", overrides)


def test_slf5k_rows_come_from_its_files() -> None:
    (first, *_) = slf5k().rows("train", 24, 0)
    line = json.loads((SUMMARIES / "data" / "train.jsonl").read_text().splitlines()[0])
    assert first.context.endswith(line["post"]) and line["title"] in first.context
    assert first.initial_output == line["generated_summary_for_feedback"]
    assert first.reference == line["ideal_human_summary"] and first.feedback == line["feedback"]
    assert first.chosen == line["generated_summary_for_comparison_B"]
    assert slf5k().refine_without_feedback.fields == {"context", "initial_output"}
    with pytest.raises(InvalidArgumentError, match="wants 25 rows of train, the file has 24"):
        slf5k().rows("train", 25, 0)


def test_slf5k_refuses_files_that_share_contexts(tmp_path: Path) -> None:
    for name in ("train", "dev", "test"):
        line = (SUMMARIES / "data" / "train.jsonl").read_text().splitlines()[0]
        (tmp_path / f"{name}.jsonl").write_text(f"{line}\n")
    with pytest.raises(InvalidArgumentError, match="dev has 1 contexts of another file"):
        Slf5k(tmp_path, SUMMARIES / "run.yaml").rows("train", 1, 0)


def test_slf5k_wants_its_files(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match=r"has no train\.jsonl"):
        Slf5k(tmp_path, SUMMARIES / "run.yaml").rows("train", 1, 0)


class Judges:
    """Prefers the longer text, where it is a little longer too little to tell; holds long ones for good refinements."""

    async def batch_rank(self, items: Sequence[RankItem], *, ranker: RankerSpec) -> AsyncIterator[Outcome[RankResult]]:
        assert [judge.model for judge in ranker.judges] == ["other"]
        for item in items:
            scores = [CandidateScore(len(text) / 100) for text in item.candidates]
            yield Outcome(item.item_id, RankResult(scores, 0, ranker.name))

    async def batch_compare(self, items: Sequence[CompareItem], *, judges: Any) -> AsyncIterator[Outcome[Comparison]]:
        assert [judge.model for judge in judges] == ["other"]
        for item in items:
            longer = len(item.output_a) - len(item.output_b)
            yield Outcome(item.item_id, Comparison(0.5 + max(-0.4, min(0.4, longer / 100))))


JUDGES = (
    "evaluate.judges=[{name: a, model: other}]",
    "rank.ranker={name: instruct_rm, judges: [{name: b, model: tiny}]}",
)


async def test_slf5k_is_judged_by_others_than_its_rankers() -> None:
    rows = 3 * [row(reference="x" * 20)]
    outputs = ["x" * 20, "x" * 21, "x" * 60]
    assert await slf5k(*JUDGES).scores(cast(AsyncClient, Judges()), rows, outputs) == [0.5, 0.5, 1.0]


async def test_slf5k_asks_others_whether_feedback_is_incorporated() -> None:
    rows, outputs = 2 * [row(feedback="longer")], ["x" * 51, "x" * 50]
    assert await slf5k(*JUDGES).incorporated(cast(AsyncClient, Judges()), rows, outputs) == [1.0, 0.0]


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        JUDGES[:1],
        JUDGES[1:],
        (*JUDGES, "evaluate.judges=[{name: a, model: tiny}]"),
        (*JUDGES, "refine.refiner=other"),
    ],
)
async def test_slf5k_refuses_judges_of_their_own_choice(overrides: Sequence[str]) -> None:
    with pytest.raises(InvalidArgumentError, match=r"own choice|judges on another model"):
        await slf5k(*overrides).scores(NO_CLIENT, [row(reference="b")], ["a"])
