"""The reward service over a real gRPC server: codes, details, streams."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from typing import Any

import grpc
import pytest
from ilf.common.v1 import common_pb2
from ilf.reward.v1 import reward_service_pb2 as pb
from ilf.reward.v1 import reward_service_pb2_grpc as pb_grpc

from ilf_common.errors import (
    AlreadyExistsError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    ResourceExhaustedError,
)
from ilf_common.rewards.card import RewardStatistics
from ilf_common.rewards.comparisons import Comparison, Comparisons
from ilf_common.rewards.kinds import RewardLoss
from ilf_common.rewards.measuring import report_at
from ilf_common.rpc.client import call, stream
from ilf_common.rpc.status import from_status
from services.reward.models import Limits
from services.reward.wiring import register
from tests.fakes.reward import NOW, FakeRewardModel, FakeWorld, running_service
from tests.support import running_channel

UUID = "6f1b4c1e-3f5a-4c6e-9d6f-0a8a1c9b7d11"


@asynccontextmanager
async def reward_stub(around: FakeWorld, limits: Limits | None = None) -> AsyncIterator[pb_grpc.RewardServiceStub]:
    async with (
        running_service(around, limits) as service,
        running_channel(lambda server: register(server, service), component="reward") as channel,
    ):
        yield pb_grpc.RewardServiceStub(channel)


@pytest.fixture
def around() -> FakeWorld:
    return FakeWorld(models={"rm/a": FakeRewardModel(statistics=RewardStatistics(5.0, 2.0)), "rm/b": FakeRewardModel()})


@pytest.fixture
async def stub(around: FakeWorld) -> AsyncIterator[pb_grpc.RewardServiceStub]:
    async with reward_stub(around) as connected:
        await call(connected.LoadRewardModel, pb.LoadRewardModelRequest(name="a", uri="rm/a"), timeout=5)
        yield connected


def items(*outputs: str) -> list[pb.ScoreItem]:
    return [pb.ScoreItem(item_id=str(index), context="c", output=output) for index, output in enumerate(outputs)]


async def test_score_answers_reward_and_tokens(stub: pb_grpc.RewardServiceStub) -> None:
    request = pb.ScoreRequest(models=["a"], context="c", output="45")
    expected = pb.ScoreResponse(reward=9.0, token_count=5, model_rewards=[9.0])
    assert await call(stub.Score, request, timeout=5) == expected
    request.normalize = True
    assert (await call(stub.Score, request, timeout=5)).reward == 2.0


async def test_score_names_all_wrong_fields_at_once(stub: pb_grpc.RewardServiceStub) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        await call(stub.Score, pb.ScoreRequest(models=[""], context=" ", output="x" * 200_001), timeout=5)
    assert caught.value.reason == "INVALID_FIELD"
    assert [violation.field for violation in caught.value.violations] == ["models", "context", "output"]


async def test_score_of_too_long_a_text_says_how_long_it_is(stub: pb_grpc.RewardServiceStub, around: FakeWorld) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        await call(stub.Score, pb.ScoreRequest(models=["a"], context="c" * 2000, output="1"), timeout=5)
    assert caught.value.reason == "PROMPT_TOO_LONG"
    assert caught.value.metadata == {"tokens": "2003", "limit": "1000"}


async def test_an_unknown_model_is_a_resource_not_found(stub: pb_grpc.RewardServiceStub) -> None:
    for method, request in (
        (stub.Score, pb.ScoreRequest(models=["none"], context="c")),
        (stub.GetRewardModel, pb.GetRewardModelRequest(name="none")),
    ):
        with pytest.raises(NotFoundError) as caught:
            await call(method, request, timeout=5)
        assert caught.value.reason == "REWARD_MODEL_NOT_FOUND"
        assert (caught.value.resource_type, caught.value.resource_name) == ("reward_model", "none")


async def test_batch_score_answers_each_item_once_and_refuses_a_bad_one_alone(stub: pb_grpc.RewardServiceStub) -> None:
    rows = [*items(*map(str, range(500))), pb.ScoreItem(item_id="bad", context="", output="1")]
    found: dict[str, pb.ScoreOutcome] = {}
    async for message in stream(stub.BatchScore, pb.BatchScoreRequest(models=["a"], items=rows), timeout=10):
        for outcome in message.outcomes:
            assert outcome.item_id not in found
            found[outcome.item_id] = outcome
    assert len(found) == 501
    error = from_status(found.pop("bad").error)
    assert isinstance(error, InvalidArgumentError) and error.violations[0].field == "items[500].context"
    assert all(outcome.result.reward == sum(map(int, name)) for name, outcome in found.items())


async def test_a_batch_with_equal_ids_is_refused_whole(stub: pb_grpc.RewardServiceStub) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        async for _ in stream(stub.BatchScore, pb.BatchScoreRequest(models=["a"], items=items("1")[:1] * 2), timeout=5):
            pass
    assert [violation.field for violation in caught.value.violations] == ["items[0].item_id", "items[1].item_id"]


async def test_a_full_queue_says_when_to_come_back(around: FakeWorld) -> None:
    model = around.models["rm/a"]
    async with reward_stub(around, Limits(batch_tokens=5, max_batch_size=1, max_queue=2, window=1)) as stub:
        await call(stub.LoadRewardModel, pb.LoadRewardModelRequest(name="a", uri="rm/a"), timeout=5)
        model.gate.clear()
        request = pb.BatchScoreRequest(models=["a"], items=items("1", "2", "3"))
        async with aclosing(stream(stub.BatchScore, request, timeout=10)) as waiting:
            first = asyncio.create_task(anext(waiting))
            assert await asyncio.to_thread(model.entered.wait, 10)
            with pytest.raises(ResourceExhaustedError) as caught:
                await call(stub.Score, pb.ScoreRequest(models=["a"], context="c", output="1"), timeout=5)
            assert (caught.value.reason, caught.value.retry_after) == ("QUEUE_FULL", 1.0)
            model.gate.set()
            await first


async def test_a_cancelled_batch_leaves_its_waiting_texts_unscored(around: FakeWorld) -> None:
    model = around.models["rm/a"]
    async with reward_stub(around, Limits(batch_tokens=5, max_batch_size=1)) as stub:
        await call(stub.LoadRewardModel, pb.LoadRewardModelRequest(name="a", uri="rm/a"), timeout=5)
        model.gate.clear()
        running: Any = stub.BatchScore(pb.BatchScoreRequest(models=["a"], items=items(*["1"] * 100)))
        reading = asyncio.ensure_future(running.read())
        assert await asyncio.to_thread(model.entered.wait, 10)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        second = asyncio.create_task(
            call(stub.Score, pb.ScoreRequest(models=["a"], context="c", output="2"), timeout=10)
        )
        await asyncio.to_thread(model.gate.set)
        assert (await second).reward == 2.0
        assert len(model.batches) < 50


async def test_best_of_n_answers_samples_rewards_and_the_chosen_one(
    stub: pb_grpc.RewardServiceStub, around: FakeWorld
) -> None:
    request = pb.BestOfNRequest(
        reward_models=["a"],
        model="policy",
        context="c",
        sampling=common_pb2.SamplingParams(n=4, temperature=0.0, seed=3),
        template=common_pb2.PromptTemplate(name="summarize"),
        post_processing=common_pb2.PostProcessing(first_line_only=True),
    )
    response = await call(stub.BestOfN, request, timeout=5)
    assert (response.output, response.chosen_index, response.model_version) == ("9", 2, "policy@abc")
    assert list(response.rewards) == [3.0, 3.0, 9.0, 9.0]
    assert [sample.text for sample in response.samples] == ["3", "12", "9", "9"]
    asked = around.sampled[0]
    assert (asked.sampling.temperature, asked.sampling.top_p, asked.sampling.seed) == (0.0, None, 3)
    assert asked.template.name == "summarize" and asked.post_processing.first_line_only


@pytest.mark.parametrize("n", [0, 1025])
async def test_best_of_n_wants_1_to_1024_samples(stub: pb_grpc.RewardServiceStub, n: int) -> None:
    request = pb.BestOfNRequest(
        reward_models=["a"], model="policy", context="c", sampling=common_pb2.SamplingParams(n=n)
    )
    with pytest.raises(InvalidArgumentError) as caught:
        await call(stub.BestOfN, request, timeout=5)
    assert caught.value.violations[0].field == "sampling.n"


async def test_training_answers_the_job_of_the_finetune_service(
    stub: pb_grpc.RewardServiceStub, around: FakeWorld
) -> None:
    request = pb.TrainRewardModelRequest(
        request_id=UUID, base_model="base", dataset_uri="d.jsonl", output_uri="out", batch_size=4, lora=True
    )
    assert (await call(stub.TrainRewardModel, request, timeout=5)).job == f"jobs/{UUID}"
    assert around.jobs[0].batch_size == 4 and around.jobs[0].lora


async def test_training_names_all_wrong_fields_at_once(stub: pb_grpc.RewardServiceStub) -> None:
    request = pb.TrainRewardModelRequest(request_id="x", learning_rate=float("nan"), epochs=-1)
    with pytest.raises(InvalidArgumentError) as caught:
        await call(stub.TrainRewardModel, request, timeout=5)
    assert [violation.field for violation in caught.value.violations] == [
        "request_id",
        "base_model",
        "dataset_uri",
        "output_uri",
        "learning_rate",
        "epochs",
    ]


async def test_models_are_loaded_listed_by_page_and_unloaded(stub: pb_grpc.RewardServiceStub) -> None:
    loaded = await call(stub.LoadRewardModel, pb.LoadRewardModelRequest(name="b", uri="rm/b"), timeout=5)
    assert loaded.load_time.ToDatetime(NOW.tzinfo) == NOW and loaded.max_length == 1000
    first = await call(stub.ListRewardModels, pb.ListRewardModelsRequest(page_size=1), timeout=5)
    second = await call(
        stub.ListRewardModels, pb.ListRewardModelsRequest(page_size=1, page_token=first.next_page_token), timeout=5
    )
    assert [model.name for model in (*first.reward_models, *second.reward_models)] == ["a", "b"]
    assert (first.reward_models[0].reward_mean, first.reward_models[0].reward_std) == (5.0, 2.0)
    assert not second.next_page_token
    for _ in range(2):
        await call(stub.UnloadRewardModel, pb.UnloadRewardModelRequest(name="b"), timeout=5)
    with pytest.raises(NotFoundError):
        await call(stub.GetRewardModel, pb.GetRewardModelRequest(name="b"), timeout=5)


async def test_a_name_that_serves_other_content_is_taken(stub: pb_grpc.RewardServiceStub) -> None:
    with pytest.raises(AlreadyExistsError) as caught:
        await call(stub.LoadRewardModel, pb.LoadRewardModelRequest(name="a", uri="rm/b"), timeout=5)
    assert caught.value.reason == "REWARD_MODEL_CONFLICT"


async def test_a_missing_checkpoint_and_missing_statistics_have_their_reasons(stub: pb_grpc.RewardServiceStub) -> None:
    with pytest.raises(NotFoundError) as missing:
        await call(stub.LoadRewardModel, pb.LoadRewardModelRequest(name="c", uri="rm/c"), timeout=5)
    assert missing.value.reason == "CHECKPOINT_NOT_FOUND"
    await call(stub.LoadRewardModel, pb.LoadRewardModelRequest(name="b", uri="rm/b"), timeout=5)
    with pytest.raises(FailedPreconditionError) as bare:
        await call(stub.Score, pb.ScoreRequest(models=["b"], context="c", output="1", normalize=True), timeout=5)
    assert bare.value.reason == "REWARD_STATISTICS_MISSING"


async def test_a_wrong_page_token_is_named(stub: pb_grpc.RewardServiceStub) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        await call(stub.ListRewardModels, pb.ListRewardModelsRequest(page_token="?"), timeout=5)
    assert caught.value.violations[0].field == "page_token"


async def test_errors_name_the_component(stub: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Score(pb.ScoreRequest())
    assert b"reward.ilf" in dict(caught.value.trailing_metadata())["grpc-status-details-bin"]


async def test_compare_answers_probability_spread_and_each_model_s(around: FakeWorld) -> None:
    around.models["rm/a"] = FakeRewardModel(loss=RewardLoss.A_B, temperature=2.0)
    async with reward_stub(around) as stub:
        for name in ("a", "b"):
            await call(stub.LoadRewardModel, pb.LoadRewardModelRequest(name=name, uri=f"rm/{name}"), timeout=5)
        request = pb.CompareRequest(models=["a", "b"], context="c", output_a="4", output_b="2")
        response = await call(stub.Compare, request, timeout=5)
        assert list(response.model_probabilities) == pytest.approx([0.7310586, 0.8807971])
        assert response.probability_a == pytest.approx(0.8059278) and response.spread == pytest.approx(0.0748693)
        rows = [pb.CompareItem(item_id=str(n), context="c", output_a=str(n), output_b="2") for n in range(5)]
        rows.append(pb.CompareItem(item_id="bad", output_a="1", output_b="2"))
        found: dict[str, pb.CompareOutcome] = {}
        async for message in stream(stub.BatchCompare, pb.BatchCompareRequest(models=["a"], items=rows), timeout=5):
            found |= {outcome.item_id: outcome for outcome in message.outcomes}
        assert from_status(found.pop("bad").error).violations[0].field == "items[5].context"  # type: ignore[attr-defined]
        assert found["2"].result.probability_a == 0.5 and len(found) == 5


async def test_a_report_reaches_the_caller_whole(stub: pb_grpc.RewardServiceStub, around: FakeWorld) -> None:
    around.comparisons = Comparisons((Comparison(1, "one", "55", "3", slice="x"),), {"equal_texts": 2})
    request = pb.EvaluateRewardModelRequest(models=["a"], dataset_uri="pairs.jsonl", slice_column="topic")
    report = (await call(stub.EvaluateRewardModel, request, timeout=5)).report
    assert (report.pairs, report.accuracy.value, report.accuracy.n) == (1, 1.0, 1)
    # One context says nothing about the error.
    assert report.accuracy.standard_error == float("inf")
    assert report.dropped["equal_texts"] == 2 and report.slices[0].value == "x" and report.margins.mean == 7.0
    assert sum(part.count for part in report.calibrated.bins) == 2
    assert report.length.slope.value == 7.0 and not report.length.HasField("matched_accuracy")


async def test_a_loaded_model_says_its_kind_and_what_it_is_worth(around: FakeWorld) -> None:
    model = FakeRewardModel(loss=RewardLoss.YES_NO, temperature=1.5)
    report = report_at([Comparison(1, "one", "55", "3")], [1.0], 1.5, {})
    model.card = replace(model.card, held_out=report)
    around.models["rm/a"] = model
    async with reward_stub(around) as stub:
        loaded = await call(stub.LoadRewardModel, pb.LoadRewardModelRequest(name="a", uri="rm/a"), timeout=5)
    assert (loaded.loss, loaded.temperature) == (common_pb2.REWARD_LOSS_YES_NO, 1.5)
    assert loaded.held_out.pairs == 1


async def test_how_to_train_reaches_the_finetune_service(stub: pb_grpc.RewardServiceStub, around: FakeWorld) -> None:
    template = common_pb2.PromptTemplate(
        text="{context} {candidate}?", positive_answers=["Yes"], negative_answers=["No"]
    )
    request = pb.TrainRewardModelRequest(
        base_model="base", dataset_uri="d.jsonl", output_uri="out", loss=common_pb2.REWARD_LOSS_YES_NO,
        template=template, held_out_share=0.2, slice_column="topic",
    )  # fmt: skip
    await call(stub.TrainRewardModel, request, timeout=5)
    wanted = around.jobs[0]
    assert wanted.question is not None and wanted.question.positive_answers == ("Yes",)
    assert (wanted.loss, wanted.held_out_share, wanted.slice_column) == (RewardLoss.YES_NO, 0.2, "topic")
