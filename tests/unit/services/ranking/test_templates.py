from __future__ import annotations

from itertools import takewhile
from pathlib import Path

import pytest

import services.ranking
from ilf_common.templates import PromptTemplate, load_templates
from services.ranking.catalog import COMPARE, RANK, JudgeCatalog

TEMPLATES = Path(services.ranking.__file__).parent / "templates"
PREFIX, PAPER, COMPARISON = (load_templates(TEMPLATES / name) for name in ("prefix", "paper", "compare"))


def test_both_sets_have_the_same_judges_with_the_same_answers() -> None:
    assert list(PREFIX) == list(PAPER) == [f"instruct_rm_{i}" for i in range(1, 6)]
    for name, template in PREFIX.items():
        assert template.positive_answers == PAPER[name].positive_answers
        assert template.negative_answers == PAPER[name].negative_answers


def test_judges_one_two_four_answer_yes_or_no_and_three_five_true_or_false() -> None:
    firsts = [template.positive_answers[0] for template in PAPER.values()]
    assert firsts == [" Yes", " Yes", " True", " Yes", " True"]


def test_prompts_of_the_prefix_set_are_equal_up_to_and_including_the_candidate() -> None:
    columns = zip(*(template.text for template in PREFIX.values()), strict=False)
    shared = "".join(letters[0] for letters in takewhile(lambda letters: len(set(letters)) == 1, columns))
    fields = ["{context}", "{initial_output}", "{feedback}", "{candidate}"]
    assert sorted(fields, key=shared.index) == fields
    longest = max(len(template.text.removeprefix(shared)) for template in PREFIX.values())
    assert longest < 80


@pytest.mark.parametrize("template", [*PREFIX.values(), *PAPER.values()])
def test_judge_templates_read_the_whole_item(template: PromptTemplate) -> None:
    assert template.fields == RANK.allowed


@pytest.mark.parametrize("template", COMPARISON.values())
def test_comparison_templates_read_context_and_both_outputs(template: PromptTemplate) -> None:
    assert template.fields == COMPARE.allowed


def test_shipped_judges_are_accepted_by_their_own_catalog() -> None:
    catalog = JudgeCatalog(("m",), {"prefix": PREFIX, "paper": PAPER}, COMPARISON)
    for template_set in ("", "prefix", "paper"):
        assert [judge.model for judge in catalog.for_ranking((), template_set, "ranker")] == ["m"] * 5
    assert len(catalog.for_comparison((), "judges")) == 3
