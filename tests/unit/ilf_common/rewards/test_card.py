from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from ilf_common.errors import InvalidArgumentError
from ilf_common.rewards.card import RewardCard, RewardStatistics, read_card, write_card
from ilf_common.rewards.comparisons import Comparison
from ilf_common.rewards.kinds import RewardLoss, check_question, shipped_question
from ilf_common.rewards.measuring import report_at
from ilf_common.templates import PromptTemplate

ASKED = PromptTemplate("reward_question", "{context} {candidate}?", " ", ("Yes",), ("No",))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    return tmp_path


@pytest.mark.parametrize(
    "card",
    [
        RewardCard(),
        RewardCard(RewardLoss.YES_NO, ASKED, RewardStatistics(0.5, 2.0), 1.5, "digest"),
        RewardCard(
            statistics=RewardStatistics(0.5, 2.0),
            held_out=report_at([Comparison(1, "a", "x", "y")], [1.0], 1.0, {}),
            trained_on=frozenset({"a" * 32, "b" * 32}),
        ),
    ],
)
def test_a_card_is_read_as_it_was_written_and_keeps_the_rest(folder: Path, card: RewardCard) -> None:
    write_card(folder, card)
    assert read_card(folder) == card
    assert json.loads((folder / "config.json").read_text())["model_type"] == "llama"


def test_a_directory_that_says_nothing_has_a_head(folder: Path) -> None:
    assert read_card(folder) == RewardCard()


@pytest.mark.parametrize(
    "content",
    [{"reward_loss": "other"}, {"reward_temperature": 0}, {"reward_temperature": "warm"}, {"reward_loss": "a_b"}],
)
def test_a_card_that_is_not_understood_is_an_error(folder: Path, content: dict[str, object]) -> None:
    (folder / "config.json").write_text(json.dumps(content))
    with pytest.raises((ValueError, KeyError)):
        read_card(folder)


def test_the_shipped_questions_fit_their_losses() -> None:
    for loss in (RewardLoss.YES_NO, RewardLoss.A_B):
        check_question(loss, shipped_question(loss), "template")
    check_question(RewardLoss.BRADLEY_TERRY, None, "template")


@pytest.mark.parametrize(
    ("loss", "template", "field"),
    [
        (RewardLoss.BRADLEY_TERRY, ASKED, "template"),
        (RewardLoss.A_B, ASKED, "template.text"),
        (RewardLoss.YES_NO, replace(ASKED, text="{candidate}?"), "template.text"),
        (RewardLoss.YES_NO, replace(ASKED, positive_answers=("Yes", "yes")), "template.positive_answers"),
        (RewardLoss.YES_NO, replace(ASKED, negative_answers=()), "template.negative_answers"),
    ],
)
def test_a_question_that_does_not_fit_is_refused(loss: RewardLoss, template: PromptTemplate, field: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        check_question(loss, template, "template")
    assert caught.value.violations[0].field == field
