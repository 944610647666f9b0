"""Comparing, ensembles, tournaments and measuring, over fake models whose rewards are sums of digits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, pstdev
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ilf_common.errors import FailedPreconditionError, InternalError, InvalidArgumentError
from ilf_common.rewards.card import RewardStatistics
from ilf_common.rewards.comparisons import Comparison, Comparisons, context_digest
from ilf_common.rewards.kinds import RewardLoss
from services.reward.models import (
    BestOfNCall,
    CompareCall,
    CompareItem,
    EvaluateCall,
    SamplingChoice,
    ScoreCall,
    ScoreItem,
)
from tests.fakes.reward import FakeRewardModel, FakeWorld, running_service


async def loaded(service: Any, world: FakeWorld) -> Any:
    for uri in world.models:
        await service.models.load("", uri.removeprefix("rm/"), uri)
    return service


def world(**models: FakeRewardModel) -> FakeWorld:
    return FakeWorld(models={f"rm/{name}": model for name, model in models.items()})


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


@pytest.mark.parametrize("loss", list(RewardLoss))
async def test_every_kind_compares_at_its_temperature_and_without_regard_to_the_order(loss: RewardLoss) -> None:
    around = world(a=FakeRewardModel(7.0, loss=loss, temperature=2.0))
    async with running_service(around) as service:
        await loaded(service, around)
        there = await service.compare(["a"], CompareItem("", "c", "5", "2"))
        back = await service.compare(["a"], CompareItem("", "c", "2", "5"))
    # The offset, which for A_B is a liking for the first place, cancels.
    assert there.probability_a == pytest.approx(sigmoid(3 / 2))
    assert there.probability_a + back.probability_a == pytest.approx(1)
    assert there.by_model == (there.probability_a,) and there.spread == 0


async def test_a_yes_no_model_says_its_probability_too() -> None:
    around = world(a=FakeRewardModel(loss=RewardLoss.YES_NO), b=FakeRewardModel())
    async with running_service(around) as service:
        await loaded(service, around)
        assert (await service.score(["a"], ScoreItem("", "c", "2"), normalize=False)).probability == pytest.approx(
            sigmoid(2)
        )
        assert (await service.score(["b"], ScoreItem("", "c", "2"), normalize=False)).probability is None


@given(
    means=st.lists(st.floats(-5, 5), min_size=1, max_size=4),
    stds=st.lists(st.floats(0.1, 5), min_size=4, max_size=4),
    digit=st.integers(0, 9),
)
async def test_several_models_answer_the_mean_of_their_normalized_rewards_and_its_spread(
    means: list[float], stds: list[float], digit: int
) -> None:
    statistics = [RewardStatistics(mean, std) for mean, std in zip(means, stds, strict=False)]
    names = [f"m{index}" for index in range(len(means))]
    around = world(**{n: FakeRewardModel(statistics=s) for n, s in zip(names, statistics, strict=True)})
    expected = [(digit - s.mean) / s.std for s in statistics]
    async with running_service(around) as service:
        await loaded(service, around)
        reward = await service.score(names, ScoreItem("", "c", str(digit)), normalize=True)
    assert reward.by_model == pytest.approx(expected)
    assert reward.value == pytest.approx(fmean(expected)) and reward.spread == pytest.approx(pstdev(expected))


async def test_several_models_without_a_common_scale_are_refused() -> None:
    around = world(a=FakeRewardModel(), b=FakeRewardModel())
    async with running_service(around) as service:
        await loaded(service, around)
        with pytest.raises(InvalidArgumentError) as caught:
            await service.score(["a", "b"], ScoreItem("", "c", "2"), normalize=False)
        assert caught.value.violations[0].field == "normalize"
        with pytest.raises(InvalidArgumentError, match="more than once"):
            await service.score(["a", "a"], ScoreItem("", "c", "2"), normalize=True)
        with pytest.raises(FailedPreconditionError):  # nothing to normalize by
            await service.best_of_n(BestOfNCall(("a", "b"), "policy", "c", SamplingChoice(4)))


async def test_an_item_that_one_of_several_models_cannot_read_fails_alone_and_once() -> None:
    statistics = RewardStatistics(0.0, 1.0)
    around = world(
        long=FakeRewardModel(statistics=statistics), short=FakeRewardModel(statistics=statistics, max_length=20)
    )
    items = [ScoreItem("good", "c", "1"), ScoreItem("long", "c" * 30, "1"), ScoreItem("empty", " ", "1")]
    async with running_service(around) as service:
        await loaded(service, around)
        call = ScoreCall(("long", "short"), items, normalize=True)
        found = [outcome async for group in service.score_batch(call) for outcome in group]
    assert sorted(outcome.item_id for outcome in found) == ["empty", "good", "long"]
    errors = {outcome.item_id: outcome.error.reason for outcome in found if outcome.error}
    assert errors == {"empty": "INVALID_FIELD", "long": "PROMPT_TOO_LONG"}


async def test_a_reward_that_is_no_number_is_an_error_of_its_item() -> None:
    around = world(a=FakeRewardModel())
    async with running_service(around) as service:
        await loaded(service, around)
        call = ScoreCall(("a",), [ScoreItem("good", "c", "1"), ScoreItem("nan", "c", "?")])
        found = {o.item_id: o async for group in service.score_batch(call) for o in group}
        assert found["good"].result is not None and found["nan"].error.reason == "REWARD_NOT_FINITE"
        with pytest.raises(InternalError):
            await service.compare(["a"], CompareItem("", "c", "?", "1"))
        around.outputs = ("1", "?")
        with pytest.raises(InternalError):
            await service.best_of_n(BestOfNCall(("a",), "policy", "c", SamplingChoice(2)))


async def test_pairs_are_compared_in_batches_and_bad_ones_fail_alone() -> None:
    around = world(a=FakeRewardModel(loss=RewardLoss.A_B))
    items = [CompareItem(str(n), "c", str(n % 10), str(n % 7)) for n in range(300)]
    items.append(CompareItem("bad", " ", "1", "x" * 200_001))
    async with running_service(around) as service:
        await loaded(service, around)
        call = CompareCall(("a",), items)
        found = {o.item_id: o async for group in service.compare_batch(call) for o in group}
    bad = found.pop("bad").error
    assert [violation.field for violation in bad.violations] == ["items[300].context", "items[300].output_b"]
    for n in range(300):
        assert found[str(n)].result.probability_a == pytest.approx(sigmoid(n % 10 - n % 7))


async def test_an_a_b_model_has_no_rewards() -> None:
    around = world(a=FakeRewardModel(loss=RewardLoss.A_B))
    async with running_service(around) as service:
        await loaded(service, around)
        with pytest.raises(FailedPreconditionError) as caught:
            await service.score(["a"], ScoreItem("", "c", "2"), normalize=False)
    assert caught.value.reason == "NO_SCALAR_REWARD"


async def test_the_best_of_n_by_comparisons_wins_most_against_the_others() -> None:
    around = world(a=FakeRewardModel(loss=RewardLoss.A_B), b=FakeRewardModel())
    around.outputs = ("3", "9", "5")
    async with running_service(around) as service:
        await loaded(service, around)
        alone = await service.best_of_n(BestOfNCall(("a",), "policy", "c", SamplingChoice(3)))
        both = await service.best_of_n(BestOfNCall(("a", "b"), "policy", "c", SamplingChoice(3)))
    assert alone.chosen_index == both.chosen_index == 1
    expected = [
        fmean([sigmoid(3 - 9), sigmoid(3 - 5)]),
        fmean([sigmoid(6), sigmoid(4)]),
        fmean([sigmoid(2), sigmoid(-4)]),
    ]
    assert alone.rewards == pytest.approx(expected) and both.rewards == pytest.approx(expected)


@pytest.mark.parametrize("loss", list(RewardLoss))
async def test_the_best_of_one_is_that_one(loss: RewardLoss) -> None:
    around = world(a=FakeRewardModel(loss=loss))
    around.outputs = ("3",)
    async with running_service(around) as service:
        await loaded(service, around)
        best = await service.best_of_n(BestOfNCall(("a",), "policy", "c", SamplingChoice(1)))
    assert best.chosen_index == 0 and best.rewards == ((0.5,) if loss is RewardLoss.A_B else (3.0,))


async def test_a_tournament_of_more_than_16_is_refused_before_anything_is_sampled() -> None:
    around = world(a=FakeRewardModel(loss=RewardLoss.A_B))
    async with running_service(around) as service:
        await loaded(service, around)
        with pytest.raises(InvalidArgumentError) as caught:
            await service.best_of_n(BestOfNCall(("a",), "policy", "c", SamplingChoice(17)))
    assert caught.value.violations[0].field == "sampling.n" and not around.sampled


def comparisons(*rows: tuple[str, str, str]) -> Comparisons:
    return Comparisons(tuple(Comparison(n, *row) for n, row in enumerate(rows, start=1)), {"equal_texts": 1})


async def evaluated(around: FakeWorld, models: Sequence[str]) -> Any:
    async with running_service(around) as service:
        await loaded(service, around)
        return await service.evaluate(EvaluateCall(tuple(models), "pairs.jsonl"))


async def test_a_model_is_measured_on_what_it_was_not_trained_on() -> None:
    model = FakeRewardModel(temperature=2.0, trained_on=frozenset({context_digest("seen")}), max_length=50)
    around = world(a=model)
    around.comparisons = comparisons(
        ("one", "5", "3"), ("two", "1", "3"), ("seen", "9", "1"), ("x" * 60, "5", "1"), ("three", "8", "2")
    )
    report = await evaluated(around, ["a"])
    assert (report.pairs, report.accuracy.value, report.temperature) == (3, 2 / 3, 2.0)
    assert report.margins.mean == pytest.approx((2 - 2 + 6) / 3)
    assert report.dropped == {"context_trained_on": 1, "equal_texts": 1, "too_long": 1}


async def test_several_models_are_measured_by_their_mean_probability() -> None:
    around = world(a=FakeRewardModel(temperature=2.0), b=FakeRewardModel(loss=RewardLoss.A_B, temperature=0.5))
    around.comparisons = comparisons(("one", "5", "3"), ("two", "1", "2"))
    report = await evaluated(around, ["a", "b"])
    means = [fmean([sigmoid(d / 2), sigmoid(d / 0.5)]) for d in (2, -1)]
    assert report.margins.mean == pytest.approx(fmean(math.log(p / (1 - p)) for p in means))
    assert report.temperature == 1.0 and report.accuracy.value == 0.5


async def test_many_comparisons_are_measured_in_pieces_that_leave_room_for_others() -> None:
    around = world(a=FakeRewardModel())
    around.comparisons = comparisons(*((f"c{n}", "5", "3") for n in range(1200)))
    report = await evaluated(around, ["a"])
    assert report.pairs == 1200 and report.accuracy.value == 1.0


async def test_a_number_that_is_none_ends_the_measuring() -> None:
    around = world(a=FakeRewardModel())
    around.comparisons = comparisons(("one", "5", "3"), ("two", "?", "2"))
    with pytest.raises(InternalError) as caught:
        await evaluated(around, ["a"])
    assert caught.value.reason == "REWARD_NOT_FINITE"


async def test_nothing_left_to_measure_on_says_why() -> None:
    around = world(a=FakeRewardModel(trained_on=frozenset({context_digest("seen")})))
    around.comparisons = comparisons(("seen", "9", "1"))
    with pytest.raises(InvalidArgumentError, match="1 dropped as context_trained_on") as caught:
        await evaluated(around, ["a"])
    assert caught.value.reason == "DATASET_INVALID"
