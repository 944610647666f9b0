from __future__ import annotations

import asyncio

import pytest

from ilf_common.errors import (
    AlreadyExistsError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    UnavailableError,
)
from ilf_common.rewards.card import RewardStatistics
from services.reward.models import (
    BestOfNCall,
    ItemOutcome,
    Reward,
    SamplingChoice,
    ScoreCall,
    ScoreItem,
    TrainCall,
)
from services.reward.service import RewardService
from tests.fakes.reward import NOW, FakeRewardModel, FakeWorld, running_service


def world(**models: FakeRewardModel) -> FakeWorld:
    return FakeWorld(models={f"rm/{name}": model for name, model in models.items()})


async def outcomes(service: RewardService, call: ScoreCall) -> dict[str, ItemOutcome[Reward]]:
    return {outcome.item_id: outcome async for group in service.score_batch(call) for outcome in group}


async def test_a_loaded_model_scores_and_normalizes() -> None:
    async with running_service(world(a=FakeRewardModel(statistics=RewardStatistics(5.0, 2.0)))) as service:
        version = await service.models.load("", "a", "rm/a")
        assert (version.digest, version.load_time, version.max_length) == ("digest of rm/a", NOW, 1000)
        item = ScoreItem("", "context", "45")
        plain = await service.score(["a"], item, normalize=False)
        assert (plain.value, plain.token_count) == (9.0, len("context") + 2 + 2)
        assert (await service.score(["a"], item, normalize=True)).value == 2.0


@pytest.mark.parametrize("statistics", [None, RewardStatistics(1.0, 0.0)])
async def test_nothing_is_normalized_without_statistics(statistics: RewardStatistics | None) -> None:
    async with running_service(world(a=FakeRewardModel(statistics=statistics))) as service:
        await service.models.load("", "a", "rm/a")
        with pytest.raises(FailedPreconditionError) as caught:
            await service.score(["a"], ScoreItem("", "c", "1"), normalize=True)
        assert caught.value.reason == "REWARD_STATISTICS_MISSING"
        with pytest.raises(FailedPreconditionError):
            await outcomes(service, ScoreCall(("a",), [ScoreItem("1", "c", "1")], normalize=True))


async def test_a_bad_item_fails_alone() -> None:
    async with running_service(world(a=FakeRewardModel(max_length=20))) as service:
        await service.models.load("", "a", "rm/a")
        items = [
            ScoreItem("good", "c", "12"),
            ScoreItem("empty", " ", "1"),
            ScoreItem("long", "c" * 30, "1"),
            ScoreItem("huge", "c", "x" * 200_001),
            ScoreItem("no output", "c", ""),
        ]
        found = await outcomes(service, ScoreCall(("a",), items))
    assert found["good"].result is not None and found["good"].result.value == 3.0
    assert found["no output"].result is not None and found["no output"].result.value == 0.0
    errors = {name: outcome.error for name, outcome in found.items() if outcome.error is not None}
    assert {name: error.violations[0].field for name, error in errors.items()} == {  # type: ignore[attr-defined]
        "empty": "items[1].context",
        "long": "items[2].context",
        "huge": "items[3].output",
    }
    assert errors["long"].reason == "PROMPT_TOO_LONG"


async def test_best_of_n_keeps_the_first_of_the_best() -> None:
    around = world(a=FakeRewardModel())
    async with running_service(around) as service:
        await service.models.load("", "a", "rm/a")
        best = await service.best_of_n(BestOfNCall(("a",), "policy", "c", SamplingChoice(4, seed=7)))
    assert best.rewards == (3.0, 3.0, 9.0, 9.0)
    assert best.chosen_index == 2 and best.samples[2].text == "9" and best.model_version == "policy@abc"
    assert around.sampled[0].sampling.seed == 7


async def test_best_of_n_passes_the_refinement_service_s_error_on() -> None:
    around = world(a=FakeRewardModel())
    around.error = UnavailableError("down", reason="ENGINE_DEAD")
    async with running_service(around) as service:
        await service.models.load("", "a", "rm/a")
        with pytest.raises(UnavailableError, match="down"):
            await service.best_of_n(BestOfNCall(("a",), "policy", "c", SamplingChoice(4)))


async def test_training_goes_to_the_finetune_service_under_one_request_id() -> None:
    around = world()
    async with running_service(around) as service:
        call = TrainCall("6f1b4c1e-3f5a-4c6e-9d6f-0a8a1c9b7d11", "base", "data.jsonl", "out", epochs=2)
        assert await service.train(call) == f"jobs/{call.request_id}"
        assert around.jobs == [call]
        await service.train(TrainCall("", "base", "data.jsonl", "out"))
        assert around.jobs[1].request_id


async def test_loading_again_answers_what_is_there_and_other_content_is_refused() -> None:
    around = world(a=FakeRewardModel(), b=FakeRewardModel())
    async with running_service(around) as service:
        first = await service.models.load("", "a", "rm/a")
        assert await service.models.load("", "a", "rm/a") == first
        with pytest.raises(AlreadyExistsError) as caught:
            await service.models.load("", "a", "rm/b")
        assert caught.value.reason == "REWARD_MODEL_CONFLICT"
        assert [version.name for version in service.models.list_models()] == ["a"]


async def test_loads_at_the_same_time_end_in_one_model() -> None:
    around = world(a=FakeRewardModel())
    async with running_service(around) as service:
        versions = await asyncio.gather(*(service.models.load("", "a", "rm/a") for _ in range(5)))
        assert len(set(versions)) == 1


@pytest.mark.parametrize(
    ("uri", "error", "reason"),
    [
        ("rm/none", NotFoundError, "CHECKPOINT_NOT_FOUND"),
        ("rm/broken", FailedPreconditionError, "CHECKPOINT_UNSUPPORTED"),
    ],
)
async def test_a_checkpoint_that_cannot_be_loaded_leaves_nothing_behind(
    uri: str, error: type[Exception], reason: str
) -> None:
    broken = FakeRewardModel()
    broken.error = RuntimeError("broken")
    around = world(broken=broken)
    async with running_service(around) as service:
        with pytest.raises(error) as caught:
            await service.models.load("", "a", uri)
        assert caught.value.reason == reason  # type: ignore[attr-defined]
        assert list(service.models.list_models()) == [] and around.remembered == {}


async def test_loaded_models_are_there_again_after_a_restart() -> None:
    around = world(a=FakeRewardModel(), b=FakeRewardModel(100.0))
    async with running_service(around) as service:
        await service.models.load("", "a", "rm/a")
        before = await service.models.load("", "b", "rm/b")
        await service.models.unload("", "a")
    async with running_service(around) as service:
        assert list(service.models.list_models()) == [before]
        assert (await service.score(["b"], ScoreItem("", "c", "1"), normalize=False)).value == 101.0


async def test_what_cannot_be_restored_says_so_stays_remembered_and_can_be_loaded_again() -> None:
    around = world(a=FakeRewardModel(), b=FakeRewardModel())
    async with running_service(around) as service:
        await service.models.load("", "a", "rm/a")
        await service.models.load("", "b", "rm/b")
    gone = around.models.pop("rm/a")
    around.digests["rm/b"] = "another digest"
    async with running_service(around) as service:
        for name in ("a", "b"):
            with pytest.raises(NotFoundError, match="could not be restored"):
                service.models.get(name)
        assert set(around.remembered) == {"a", "b"}
        around.models["rm/a"] = gone
        await service.models.load("", "a", "rm/a")
        assert service.models.get("a").name == "a"


async def test_unloading_waits_for_running_calls_frees_the_model_and_repeats_do_nothing() -> None:
    model = FakeRewardModel()
    async with running_service(world(a=model)) as service:
        await service.models.load("", "a", "rm/a")
        model.gate.clear()
        running = asyncio.create_task(service.score(["a"], ScoreItem("", "c", "7"), normalize=False))
        assert await asyncio.to_thread(model.entered.wait, 10)
        unloading = asyncio.create_task(service.models.unload("", "a"))
        model.gate.set()
        assert (await running).value == 7.0
        await unloading
        assert model.closed
        with pytest.raises(NotFoundError) as caught:
            await service.score(["a"], ScoreItem("", "c", "7"), normalize=False)
        assert caught.value.reason == "REWARD_MODEL_NOT_FOUND"
        await service.models.unload("", "a")


@pytest.mark.parametrize(
    ("call", "fields"),
    [
        (ScoreCall(("",), []), ["models", "items"]),
        (ScoreCall(("a",), [ScoreItem("1", "c", "o")] * 2), ["items[0].item_id", "items[1].item_id"]),
        (ScoreCall(("a",), [ScoreItem("", "c", "o")]), ["items[0].item_id"]),
        (ScoreCall(("a",), [ScoreItem(str(n), "c", "o") for n in range(4097)]), ["items"]),
    ],
    ids=["nothing", "duplicates", "no-id", "too-many"],
)
async def test_a_batch_without_usable_shape_is_refused_whole(call: ScoreCall, fields: list[str]) -> None:
    async with running_service(world()) as service:
        with pytest.raises(InvalidArgumentError) as caught:
            await outcomes(service, call)
        assert [violation.field for violation in caught.value.violations] == fields
