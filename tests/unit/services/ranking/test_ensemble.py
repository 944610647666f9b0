from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import pytest

from ilf_common.engine.port import NextTokenRequest
from ilf_common.templates import PromptTemplate
from services.ranking.ensemble import Ensemble
from services.ranking.models import CompareItem, Judge, RankItem
from tests.fakes.engine import FakeEngine
from tests.fakes.judges import InProcessJudgePool

YES = FakeEngine().encode("Yes")[0]


def judge(name: str, text: str, model: str = "m", prefix: str = "") -> Judge:
    return Judge(name, model, PromptTemplate(name, text, prefix, ("Yes",), ("No",)))


def opinion(probabilities: dict[str, float]) -> FakeEngine:
    """An engine that says Yes with the probability whose key the prompt contains, and No with the rest of 0.8."""

    def next_token(request: NextTokenRequest, token: int) -> float:
        yes = next(p for key, p in probabilities.items() if key in request.prompt)
        return math.log(yes if token == YES else 0.8 - yes)

    return FakeEngine(next_token=next_token)


def item(item_id: str, *candidates: str) -> RankItem:
    return RankItem(item_id, "ctx", "old", "fb", candidates)


async def test_score_is_the_mean_of_normalised_probabilities_with_population_spread() -> None:
    pool = InProcessJudgePool({"m": opinion({"good q1": 0.6, "good q2": 0.4, "bad": 0.2})})
    judges = [judge("one", "{candidate} q1"), judge("two", "{candidate} q2")]
    (outcome,) = await Ensemble(pool).rank([item("a", "good", "bad")], judges, None)
    assert outcome.value is not None
    good, bad = outcome.value
    assert [score.score for score in good.judge_scores] == [pytest.approx(0.75), pytest.approx(0.5)]
    assert [score.judge for score in good.judge_scores] == ["one", "two"]
    assert good.score == pytest.approx(0.625)
    assert good.spread == pytest.approx(statistics.pstdev([0.75, 0.5]))
    assert good.missing_mass == pytest.approx(0.2)
    assert bad.score == pytest.approx(0.25)
    assert bad.spread == pytest.approx(0.0, abs=1e-12)


async def test_prompts_of_an_item_travel_together_with_equal_beginnings_side_by_side() -> None:
    pool = InProcessJudgePool({"m": FakeEngine()})
    judges = [judge("one", "{context} {candidate} q1"), judge("two", "{context} {candidate} q2")]
    await Ensemble(pool).rank([item("a", "x", "y"), item("b", "z")], judges, None)
    assert pool.calls == [("m", 6)]
    prompts = [question.prompt for question in pool.questions]
    assert prompts == ["ctx x q1", "ctx x q2", "ctx y q1", "ctx y q2", "ctx z q1", "ctx z q2"]


async def test_every_model_is_asked_once_and_at_the_same_time() -> None:
    pool = InProcessJudgePool({"m": FakeEngine("m"), "n": FakeEngine("n")})
    judges = [judge("one", "{candidate} q", "m"), judge("two", "{candidate} q", "n")]
    outcomes = await Ensemble(pool).rank([item("a", "x"), item("b", "y")], judges, None)
    assert pool.calls == [("m", 2), ("n", 2)]
    assert all(outcome.value is not None for outcome in outcomes)


async def test_equal_candidates_are_asked_about_once_and_score_the_same() -> None:
    pool = InProcessJudgePool({"m": opinion({"good": 0.6, "bad": 0.2})})
    (outcome,) = await Ensemble(pool).rank([item("a", "good", "bad", "good")], [judge("one", "{candidate} q")], None)
    assert pool.calls == [("m", 2)]
    assert outcome.value is not None
    assert [score.score for score in outcome.value] == [pytest.approx(0.75), pytest.approx(0.25), pytest.approx(0.75)]


async def test_failed_prompt_fails_its_item_alone() -> None:
    pool = InProcessJudgePool({"m": FakeEngine(max_model_len=5)})
    items = [item("a", "x"), item("b", "a b c d e f"), item("c", "z")]
    outcomes = await Ensemble(pool).rank(items, [judge("one", "{candidate} q")], None)
    assert [outcome.error and outcome.error.reason for outcome in outcomes] == [None, "PROMPT_TOO_LONG", None]


async def test_model_that_is_down_fails_the_items_that_need_it() -> None:
    pool = InProcessJudgePool({"m": FakeEngine(), "n": FakeEngine()})
    pool.down.add("n")
    judges = [judge("one", "{candidate} q", "m"), judge("two", "{candidate} q", "n")]
    outcomes = await Ensemble(pool).rank([item("a", "x")], judges, None)
    assert [outcome.error and outcome.error.reason for outcome in outcomes] == ["ENGINE_UNAVAILABLE"]


async def test_target_prefix_stands_before_every_spelling() -> None:
    pool = InProcessJudgePool({"m": FakeEngine()})
    await Ensemble(pool).rank([item("a", "x")], [judge("one", "{candidate}", prefix=" ")], None)
    assert pool.questions[0].positive == (" Yes",)


def comparison_judge() -> Judge:
    template = PromptTemplate("cmp", "{context} | {output_a} | {output_b}", "", ("Yes",), ("No",))
    return Judge("cmp", "m", template)


@pytest.mark.parametrize(
    ("first_then_second", "second_then_first", "probability", "bias"),
    [(0.6, 0.2, 0.75, 0.0), (0.6, 0.6, 0.5, 0.25), (0.2, 0.2, 0.5, -0.25)],
)
async def test_comparison_averages_both_orders(
    first_then_second: float, second_then_first: float, probability: float, bias: float
) -> None:
    pool = InProcessJudgePool({"m": opinion({"aa | bb": first_then_second, "bb | aa": second_then_first})})
    (outcome,) = await Ensemble(pool).compare([CompareItem("i", "c", "aa", "bb")], [comparison_judge()], None)
    assert outcome.value is not None
    assert outcome.value.probability_a == pytest.approx(probability)
    assert outcome.value.position_bias == pytest.approx(bias)
    assert outcome.value.missing_mass == pytest.approx(0.2)


async def test_swapped_outputs_get_the_complementary_probability() -> None:
    ensemble = Ensemble(InProcessJudgePool({"m": FakeEngine()}))
    pairs: Sequence[CompareItem] = [CompareItem("i", "c", "aa", "bb"), CompareItem("j", "c", "bb", "aa")]
    one, two = await ensemble.compare(pairs, [comparison_judge()], None)
    assert one.value and two.value
    assert one.value.probability_a == pytest.approx(1 - two.value.probability_a)
    assert one.value.position_bias == pytest.approx(two.value.position_bias)
