from __future__ import annotations

import asyncio
from typing import Any

import pytest
from ilf.orchestrator.v1 import orchestrator_service_pb2 as orchestrator

from ilf_client import (
    AsyncClient,
    DeadlineExceededError,
    Endpoints,
    FinetuneKind,
    FinetuneSpec,
    Hyperparameters,
    InternalError,
    InvalidArgumentError,
    JobState,
    JudgeSpec,
    NotFoundError,
    Preference,
    PromptTemplate,
    RankerSpec,
    RankItem,
    RefineItem,
    ResourceExhaustedError,
    RunSpec,
    RunState,
    SamplingParams,
    Timeouts,
    UnavailableError,
)
from ilf_common.rpc.context import REQUEST_ID_KEY
from tests.fakes.ilf_server import FakeServices
from tests.rpc.client.conftest import FAST
from tests.support import running_server


async def test_refine_carries_everything_there_and_back(client: AsyncClient, services: FakeServices) -> None:
    template = PromptTemplate(name="mine", text="{context} {feedback}", target_prefix=" ")
    result = await client.refine(
        "toy", "c", "x0", "f", sampling=SamplingParams(n=2, temperature=0.0, seed=7, stop=("\n",)), template=template
    )
    assert [sample.text for sample in result.refinements] == ["x0 0", "x0 1"]
    assert result.usage.completion_tokens == 4
    assert result.model_version == "toy@1"
    request = services.calls["Refine"][0]
    assert (request.model, request.context, request.initial_output, request.feedback) == ("toy", "c", "x0", "f")
    assert request.sampling.HasField("temperature") and request.sampling.temperature == 0.0
    assert not request.sampling.HasField("top_p")
    assert (request.sampling.seed, list(request.sampling.stop)) == (7, ["\n"])
    assert (request.template.name, request.template.text) == ("mine", template.text)
    assert not request.HasField("post_processing")


async def test_an_error_keeps_its_class_reason_and_fields(client: AsyncClient) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        await client.refine("toy", "", "x0", "f")
    assert caught.value.reason == "INVALID_FIELD"
    assert [(v.field, v.description) for v in caught.value.violations] == [("context", "is empty")]
    with pytest.raises(NotFoundError) as missing:
        await client.jobs.get("none")
    assert (missing.value.reason, missing.value.resource_name) == ("JOB_NOT_FOUND", "jobs/none")


async def test_a_value_of_the_wrong_type_is_refused_before_the_call(
    client: AsyncClient, services: FakeServices
) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        await client.refine("toy", "c", "x0", "f", sampling=SamplingParams(n="five"))  # type: ignore[arg-type]
    assert caught.value.violations[0].field == "n"
    assert not services.calls["Refine"]


async def test_unavailable_is_repeated_with_the_same_request_id(client: AsyncClient, services: FakeServices) -> None:
    services.failures["CreateFinetuneJob"] = [UnavailableError("restarting"), UnavailableError("restarting")]
    spec = FinetuneSpec(FinetuneKind.SFT, "base", "data.jsonl", "out", Hyperparameters(epochs=2))
    job = await client.jobs.create(spec)
    requests = services.calls["CreateFinetuneJob"]
    assert len(requests) == 3
    assert len({request.request_id for request in requests}) == 1
    assert len(requests[0].request_id) == 36
    assert job.spec.hyperparameters.epochs == 2
    assert job.spec.hyperparameters.learning_rate is None
    assert job.state is JobState.PENDING


async def test_a_given_request_id_names_the_same_job_twice(client: AsyncClient) -> None:
    spec = FinetuneSpec(FinetuneKind.SFT, "base", "data.jsonl", "out")
    first = await client.jobs.create(spec, request_id="one")
    assert (await client.jobs.create(spec, request_id="one")).name == first.name
    assert (await client.jobs.create(spec, request_id="two")).name != first.name


async def test_what_is_no_passing_trouble_is_not_repeated(client: AsyncClient, services: FakeServices) -> None:
    services.failures["Refine"] = [InternalError("fault")]
    with pytest.raises(InternalError):
        await client.refine("toy", "c", "x0", "f")
    assert len(services.calls["Refine"]) == 1


async def test_attempts_end(client: AsyncClient, services: FakeServices) -> None:
    services.failures["Generate"] = [UnavailableError("down") for _ in range(9)]
    with pytest.raises(UnavailableError, match="down"):
        await client.generate("toy", "c")
    assert len(services.calls["Generate"]) == FAST.max_attempts


async def test_the_deadline_reaches_the_server_and_is_settable() -> None:
    remaining: list[float] = []

    class Slow(FakeServices):
        async def Refine(self, request: Any, context: Any) -> None:  # type: ignore[override]
            remaining.append(context.time_remaining())
            await asyncio.Event().wait()

    async with (
        running_server(Slow().register) as address,
        AsyncClient(Endpoints.at(address), timeouts=Timeouts(call=0.2)) as client,
    ):
        with pytest.raises(DeadlineExceededError):
            await client.refine("toy", "c", "x0", "f")
        with pytest.raises(DeadlineExceededError):
            await client.refine("toy", "c", "x0", "f", timeout=0.1)
    assert 0.1 < remaining[0] < 0.25 and remaining[1] < 0.15


async def test_a_batch_streams_outcomes_and_a_bad_item_fails_alone(client: AsyncClient) -> None:
    items = [RefineItem("a", "c", "x", "f"), RefineItem("b", "", "x", "f"), RefineItem("c", "c", "x", "f", seed=3)]
    outcomes = {outcome.item_id: outcome async for outcome in client.batch_refine("toy", items)}
    assert set(outcomes) == {"a", "b", "c"}
    assert outcomes["a"].unwrap().refinements[0].text == "x 0"
    assert outcomes["b"].result is None
    with pytest.raises(InvalidArgumentError) as caught:
        outcomes["b"].unwrap()
    assert caught.value.violations[0].field == "context"


async def test_a_broken_batch_sends_only_what_is_missing(client: AsyncClient, services: FakeServices) -> None:
    services.break_after["BatchRefine"] = (2, UnavailableError("restarting"))
    items = [RefineItem(str(index), "c", "x", "f") for index in range(5)]
    ids = [outcome.item_id async for outcome in client.batch_refine("toy", items)]
    assert ids == ["0", "1", "2", "3", "4"]
    assert [len(request.items) for request in services.calls["BatchRefine"]] == [5, 3]


async def test_a_full_queue_is_repeated_when_the_server_says_when(client: AsyncClient, services: FakeServices) -> None:
    services.failures["BatchRank"] = [ResourceExhaustedError("full", retry_after=0.01)]
    items = [RankItem("a", "c", "x", "f", ["one", "three"])]
    outcomes = [outcome async for outcome in client.batch_rank(items, ranker="length")]
    assert outcomes[0].unwrap().chosen_index == 1
    services.failures["BatchRank"] = [ResourceExhaustedError("full")]
    with pytest.raises(ResourceExhaustedError):
        [outcome async for outcome in client.batch_rank(items)]


async def test_large_batches_travel_in_parts(client: AsyncClient, services: FakeServices) -> None:
    items = (RefineItem(str(index), "c", "x", "f") for index in range(1500))
    assert len([outcome async for outcome in client.batch_refine("toy", items)]) == 1500
    assert [len(request.items) for request in services.calls["BatchRefine"]] == [1024, 476]


async def test_long_texts_travel_in_parts(client: AsyncClient, services: FakeServices) -> None:
    items = [RefineItem(str(index), "c" * 200_000, "x", "f") for index in range(300)]
    assert len([outcome async for outcome in client.batch_refine("toy", items)]) == 300
    assert [len(request.items) for request in services.calls["BatchRefine"]] == [150, 150]


async def test_an_id_that_occurs_twice_is_refused(client: AsyncClient) -> None:
    with pytest.raises(InvalidArgumentError, match="twice"):
        [outcome async for outcome in client.batch_refine("toy", [RefineItem("a", "c", "x", "f")] * 2)]


async def test_rank_and_compare_send_judges(client: AsyncClient, services: FakeServices) -> None:
    judges = [JudgeSpec("mine", "toy", "prefix_1")]
    result = await client.rank("c", "x0", "f", ["a", "abc"], ranker=RankerSpec(judges=judges))
    assert (result.chosen_index, result.scores[1].judge_scores[0].judge) == (1, "judge_1")
    assert services.calls["Rank"][0].ranker.judges[0].template.name == "prefix_1"
    assert (await client.compare("c", "a", "b", judges=judges)).probability_a == 0.75
    assert [ranker.name async for ranker in client.rankers()] == ["length"]


async def test_lists_follow_their_pages(client: AsyncClient) -> None:
    policies = [policy async for policy in client.policies.list()]
    assert [policy.name for policy in policies] == ["toy", "toy/it-1"]
    assert policies[1].aliases == ("production",)


async def test_watching_outlives_a_restart(client: AsyncClient, services: FakeServices) -> None:
    services.run_history = [
        orchestrator.Run(name="runs/toy", state=orchestrator.RUN_STATE_RUNNING),
        orchestrator.Run(name="runs/toy", state=orchestrator.RUN_STATE_SUCCEEDED),
    ]
    services.break_after["WatchRun"] = (1, UnavailableError("restarting"))
    states = [run.state async for run in client.runs.watch("toy")]
    assert states == [RunState.RUNNING, RunState.RUNNING, RunState.SUCCEEDED]
    assert [request.name for request in services.calls["WatchRun"]] == ["runs/toy", "runs/toy"]


async def test_runs_are_created_with_their_whole_spec(client: AsyncClient, services: FakeServices) -> None:
    run = await client.runs.create(RunSpec(iterations=2, policy="toy", max_bad_row_share=0.0), run_id="mine")
    assert run.name == "runs/mine"
    assert (run.spec.iterations, run.spec.policy, run.spec.max_bad_row_share) == (2, "toy", 0.0)
    assert services.calls["CreateRun"][0].spec.HasField("max_bad_row_share")


async def test_reward_calls(client: AsyncClient) -> None:
    assert (await client.reward.score("rm", "c", "x")).reward == 1.5
    best = await client.reward.best_of_n("rm", "toy", "c", sampling=SamplingParams(n=3))
    assert (best.output, best.chosen_index, best.rewards) == ("c 2", 2, (0.0, 1.0, 2.0))
    assert await client.reward.train("base", "pairs.jsonl", "out", lora=True) == "jobs/rm"
    assert [model.name async for model in client.reward.list()] == ["rm"]


async def test_people_answer_tasks(client: AsyncClient, services: FakeServices) -> None:
    services.tasks = [orchestrator.FeedbackTask(name="runs/toy/feedbackTasks/1", item_id="1", context="c")]
    services.pairs = [orchestrator.ComparisonTask(name="runs/toy/comparisonTasks/1", output_a="a", output_b="b")]
    leased = await client.feedback.lease("anna")
    assert (leased.tasks[0].context, leased.progress.total) == ("c", 1)
    assert (await client.feedback.submit(leased.tasks[0].name, "anna", "too long")).feedback == "too long"
    pair = (await client.comparisons.lease("anna", run="toy")).tasks[0]
    assert (await client.comparisons.submit(pair.name, "anna", Preference.B)).preference is Preference.B
    assert services.calls["ListFeedbackTasks"][0].parent == "runs/-"


async def test_every_attempt_of_a_call_has_one_id_in_the_logs(services: FakeServices) -> None:
    seen: list[str] = []

    class Noting(FakeServices):
        async def Score(self, request: Any, context: Any) -> object:  # type: ignore[override]
            seen.append(dict(context.invocation_metadata() or ())[REQUEST_ID_KEY])
            return await super().Score(request, context)

    fake = Noting()
    fake.failures["Score"] = [UnavailableError("restarting")]
    async with (
        running_server(fake.register) as address,
        AsyncClient(Endpoints.at(address), retry=FAST) as client,
    ):
        await client.reward.score("rm", "c", "x")
    assert len(seen) == 2 and len(set(seen)) == 1
