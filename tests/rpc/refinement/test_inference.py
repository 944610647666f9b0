from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from ilf.common.v1 import common_pb2
from ilf.refinement.v1 import refinement_service_pb2 as pb

from ilf_common.errors import InvalidArgumentError, NotFoundError, ResourceExhaustedError, UnavailableError
from tests.rpc.refinement.harness import (
    CheckpointEngine,
    Harness,
    fields,
    item_error,
    outcomes,
    refused,
    running_service,
)

INVALID_ARGUMENT = grpc.StatusCode.INVALID_ARGUMENT.value[0]


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[Harness]:
    async with running_service(tmp_path) as harness:
        yield harness


def refine(**changes: Any) -> pb.RefineRequest:
    values = {"model": "base", "context": "a post", "initial_output": "a summary", "feedback": "shorter"}
    return pb.RefineRequest(**{**values, **changes})


def batch(count: int, **changes: Any) -> pb.BatchRefineRequest:
    items = [
        pb.RefineItem(item_id=f"i{k}", context=f"post {k}", initial_output="a summary", feedback="shorter")
        for k in range(count)
    ]
    return pb.BatchRefineRequest(**{"model": "base", "items": items, **changes})


async def test_refine_answers_five_samples_by_default_with_usage_and_version(harness: Harness) -> None:
    response = await harness.stub.Refine(refine())

    assert len(response.refinements) == 5
    assert response.model_version.startswith("base@")
    assert response.usage.prompt_tokens > 0
    assert response.usage.completion_tokens == sum(sample.token_count for sample in response.refinements)
    assert all(sample.finish_reason == common_pb2.FINISH_REASON_STOP for sample in response.refinements)


async def test_refine_shows_context_output_and_feedback_in_the_prompt(harness: Harness) -> None:
    await harness.stub.Refine(refine())

    prompt = harness.engines["base-source"].requests[-1].prompt
    assert "a post" in prompt and "a summary" in prompt and "shorter" in prompt


async def test_refine_with_equal_seed_answers_equal_samples_and_without_one_other_samples(harness: Harness) -> None:
    seeded = refine(sampling=common_pb2.SamplingParams(n=2, seed=7))
    first, second = await harness.stub.Refine(seeded), await harness.stub.Refine(seeded)
    free = await harness.stub.Refine(refine(sampling=common_pb2.SamplingParams(n=2)))

    assert first == second
    assert first.refinements != free.refinements


async def test_refine_names_all_wrong_fields_at_once(harness: Harness) -> None:
    error = await refused(
        harness.stub.Refine(
            pb.RefineRequest(
                context=" ",
                initial_output="x" * 200_001,
                sampling=common_pb2.SamplingParams(n=10_000, temperature=math.nan, top_p=0, max_new_tokens=-1),
                post_processing=common_pb2.PostProcessing(resample_budget=-1, forbidden_substrings=[""]),
            )
        )
    )

    assert isinstance(error, InvalidArgumentError)
    assert error.reason == "INVALID_FIELD"
    assert fields(error) == {
        "model",
        "context",
        "initial_output",
        "feedback",
        "sampling.n",
        "sampling.temperature",
        "sampling.top_p",
        "sampling.max_new_tokens",
        "post_processing.resample_budget",
        "post_processing.forbidden_substrings[0]",
    }


async def test_unknown_model_is_not_found_and_the_served_ones_are_listed(harness: Harness) -> None:
    error = await refused(harness.stub.Refine(refine(model="other")))

    assert isinstance(error, NotFoundError)
    assert (error.reason, error.resource_type, error.resource_name) == ("MODEL_NOT_FOUND", "model", "other")
    assert "served are: base" in error.message


async def test_prompt_longer_than_the_window_names_the_context(harness: Harness) -> None:
    error = await refused(harness.stub.Refine(refine(context="word " * 5000)))

    assert isinstance(error, InvalidArgumentError)
    assert error.reason == "PROMPT_TOO_LONG"
    assert fields(error) == {"context"}


@pytest.mark.parametrize(
    ("template", "field"),
    [
        (common_pb2.PromptTemplate(name="nowhere"), "template.name"),
        (common_pb2.PromptTemplate(text="{context} {secret}"), "template.text"),
        (common_pb2.PromptTemplate(text="{context} {candidate}"), "template.text"),
    ],
)
async def test_template_that_cannot_be_used_is_refused(
    harness: Harness, template: common_pb2.PromptTemplate, field: str
) -> None:
    error = await refused(harness.stub.Refine(refine(template=template)))

    assert isinstance(error, InvalidArgumentError)
    assert fields(error) == {field}


async def test_shipped_template_without_feedback_wants_no_feedback(harness: Harness) -> None:
    template = common_pb2.PromptTemplate(name="refine_without_feedback")

    response = await harness.stub.Refine(refine(feedback="", template=template))

    assert len(response.refinements) == 5


async def test_batch_refine_answers_every_item_once_and_only_bad_rows_fail(harness: Harness) -> None:
    request = batch(600)
    request.items[3].context = ""
    request.items[7].feedback = "x" * 200_001
    request.items[9].context = "word " * 5000

    found = await outcomes(harness.stub.BatchRefine(request))

    assert len(found) == 600
    assert item_error(found["i3"].error) == (INVALID_ARGUMENT, "INVALID_FIELD", {"items[3].context"})
    assert item_error(found["i7"].error) == (INVALID_ARGUMENT, "INVALID_FIELD", {"items[7].feedback"})
    assert item_error(found["i9"].error) == (INVALID_ARGUMENT, "PROMPT_TOO_LONG", {"context"})
    good = [outcome for item_id, outcome in found.items() if item_id not in ("i3", "i7", "i9")]
    assert all(len(outcome.result.refinements) == 5 for outcome in good)


async def test_batch_refine_coalesces_what_is_ready_together(harness: Harness) -> None:
    sizes = [len(response.outcomes) async for response in harness.stub.BatchRefine(batch(1000))]

    assert sum(sizes) == 1000
    assert len(sizes) <= 8
    assert max(sizes) <= 256


async def test_batch_hands_all_items_to_the_engine_in_order(harness: Harness) -> None:
    await outcomes(harness.stub.BatchRefine(batch(50)))

    contexts = [
        request.prompt.split("Text:\n")[1].split("\n")[0] for request in harness.engines["base-source"].requests
    ]
    assert contexts == [f"post {k}" for k in range(50)]


@pytest.mark.parametrize(
    ("items", "named"),
    [
        ([], {"items"}),
        (["a", "b", "a"], {"items[0].item_id", "items[2].item_id"}),
        (["a", ""], {"items[1].item_id"}),
    ],
)
async def test_batch_whose_items_cannot_be_told_apart_is_refused(
    harness: Harness, items: list[str], named: set[str]
) -> None:
    request = pb.BatchRefineRequest(
        model="base",
        items=[pb.RefineItem(item_id=k, context="c", initial_output="o", feedback="f") for k in items],
    )

    error = await refused(outcomes(harness.stub.BatchRefine(request)))

    assert isinstance(error, InvalidArgumentError)
    assert fields(error) == named


async def test_batch_seed_gives_every_item_its_own_samples_and_an_items_seed_goes_first(harness: Harness) -> None:
    request = batch(3, sampling=common_pb2.SamplingParams(n=1, seed=1))
    for item in request.items:
        item.context = "the same"
    request.items[2].seed = 5

    first = await outcomes(harness.stub.BatchRefine(request))
    request.sampling.seed = 2
    second = await outcomes(harness.stub.BatchRefine(request))

    texts = {item_id: outcome.result.refinements[0].text for item_id, outcome in first.items()}
    assert len(set(texts.values())) == 3
    assert texts["i0"] != second["i0"].result.refinements[0].text
    assert texts["i2"] == second["i2"].result.refinements[0].text


async def test_generate_answers_one_sample_by_default_of_the_bare_context(harness: Harness) -> None:
    response = await harness.stub.Generate(pb.GenerateRequest(model="base", context="a prompt"))

    assert len(response.outputs) == 1
    assert harness.engines["base-source"].requests[-1].prompt == "a prompt"


async def test_critic_template_shows_the_initial_output(harness: Harness) -> None:
    template = common_pb2.PromptTemplate(name="critic")
    request = pb.GenerateRequest(model="base", context="a post", initial_output="a summary", template=template)

    await harness.stub.Generate(request)
    request.initial_output = ""
    error = await refused(harness.stub.Generate(request))

    assert "a summary" in harness.engines["base-source"].requests[-1].prompt
    assert fields(error) == {"initial_output"}


async def test_batch_generate_answers_every_item(harness: Harness) -> None:
    items = [pb.GenerateItem(item_id=str(k), context=f"prompt {k}") for k in range(20)]

    found = await outcomes(harness.stub.BatchGenerate(pb.BatchGenerateRequest(model="base", items=items)))

    assert all(len(found[str(k)].result.outputs) == 1 for k in range(20))


async def test_score_text_counts_the_end_and_puts_the_target_prefix_in_front(harness: Harness) -> None:
    template = common_pb2.PromptTemplate(text="{context}\nTL;DR:", target_prefix=" ")
    request = pb.ScoreTextRequest(model="base", context="a post", text="three words here", template=template)

    response = await harness.stub.ScoreText(request)

    sent = harness.engines["base-source"].requests[-1]
    assert (sent.prompt, sent.text, sent.add_eos) == ("a post\nTL;DR:", " three words here", True)
    assert response.token_count == 4
    assert response.logprob < 0
    assert response.model_version.startswith("base@")


async def test_an_unfinished_text_is_scored_without_its_end(harness: Harness) -> None:
    request = pb.ScoreTextRequest(model="base", context="a post", text="three words here", unfinished=True)

    response = await harness.stub.ScoreText(request)

    assert not harness.engines["base-source"].requests[-1].add_eos
    assert response.token_count == 3


async def test_an_empty_text_can_end_but_not_be_cut(harness: Harness) -> None:
    ended = await harness.stub.ScoreText(pb.ScoreTextRequest(model="base", context="a post"))
    assert ended.token_count == 1

    error = await refused(harness.stub.ScoreText(pb.ScoreTextRequest(model="base", unfinished=True)))
    assert fields(error) == {"context", "text"}


async def test_batch_score_text_fails_only_the_bad_row(harness: Harness) -> None:
    items = [
        pb.ScoreTextItem(item_id=str(k), context="c", text=f"text {k}" if k else "", unfinished=k == 0)
        for k in range(10)
    ]

    found = await outcomes(harness.stub.BatchScoreText(pb.BatchScoreTextRequest(model="base", items=items)))

    assert item_error(found["0"].error) == (INVALID_ARGUMENT, "INVALID_FIELD", {"items[0].text"})
    assert all(found[str(k)].result.token_count == 3 for k in range(1, 10))


async def test_samples_lose_the_target_prefix_that_training_puts_back(tmp_path: Path) -> None:
    async with running_service(
        tmp_path, make_engine=lambda source: CheckpointEngine(source, reply=lambda request, index: " an answer")
    ) as harness:
        response = await harness.stub.Generate(
            pb.GenerateRequest(
                model="base", context="c", template=common_pb2.PromptTemplate(text="{context}:", target_prefix=" ")
            )
        )

    assert response.outputs[0].text == "an answer"


async def test_duplicates_are_drawn_again_with_further_seeds_within_the_budget(tmp_path: Path) -> None:
    def reply(request: Any, index: int) -> str:
        return ["same", "same", "", "bad", "new", "newer"][request.seed + index - 100]

    async with running_service(tmp_path, make_engine=lambda source: CheckpointEngine(source, reply=reply)) as harness:
        response = await harness.stub.Refine(
            refine(
                sampling=common_pb2.SamplingParams(n=4, seed=100),
                post_processing=common_pb2.PostProcessing(resample_budget=6, forbidden_substrings=["bad"]),
            )
        )
        sent = harness.engines["base-source"].requests

    assert [sample.text for sample in response.refinements] == ["same", "new", "newer", "same"]
    assert [(request.seed, request.sampling.n) for request in sent] == [(100, 4), (104, 2)]


async def test_full_queue_says_when_to_come_back(tmp_path: Path) -> None:
    async with running_service(tmp_path, max_queued_items=10) as harness:
        engine = harness.engines["base-source"]
        engine.gate.clear()
        running = asyncio.ensure_future(outcomes(harness.stub.BatchRefine(batch(10))))
        while not engine.requests:
            await asyncio.sleep(0)

        error = await refused(harness.stub.Refine(refine()))
        engine.gate.set()

        assert isinstance(error, ResourceExhaustedError)
        assert (error.reason, error.retry_after) == ("QUEUE_FULL", 1.0)
        assert len(await running) == 10
        assert len((await harness.stub.Refine(refine())).refinements) == 5


@pytest.mark.parametrize("by_deadline", [False, True])
async def test_a_caller_that_gives_up_aborts_the_engines_work(harness: Harness, by_deadline: bool) -> None:
    engine = harness.engines["base-source"]
    engine.gate.clear()
    call = harness.stub.BatchRefine(batch(100), timeout=0.2 if by_deadline else None)
    reading = asyncio.ensure_future(call.read())
    while not engine.requests:
        await asyncio.sleep(0.001)

    if not by_deadline:
        call.cancel()
    await asyncio.gather(reading, return_exceptions=True)

    while not engine.aborted:
        await asyncio.sleep(0.001)
    engine.gate.set()
    assert len(engine.requests) == 1
    assert (await harness.stub.GetPolicy(pb.GetPolicyRequest(name="base"))).running_requests == 0


async def test_dead_engine_is_unavailable(harness: Harness) -> None:
    harness.engines["base-source"].dead = True

    error = await refused(outcomes(harness.stub.BatchRefine(batch(3))))

    assert isinstance(error, UnavailableError)


async def test_unforeseen_fault_tells_the_caller_nothing_of_it(tmp_path: Path) -> None:
    def reply(request: Any, index: int) -> str:
        raise KeyError("secret prompt")

    async with running_service(tmp_path, make_engine=lambda source: CheckpointEngine(source, reply=reply)) as harness:
        error = await refused(harness.stub.Refine(refine()))

    assert error.reason == "INTERNAL"
    assert "secret" not in error.message


async def test_metrics_count_items_and_tokens_by_model(harness: Harness) -> None:
    request = batch(10)
    request.items[0].context = ""
    await outcomes(harness.stub.BatchRefine(request))

    def value(name: str, **labels: str) -> float | None:
        return harness.registry.get_sample_value(name, labels)

    assert value("ilf_refinement_items_total", model="base", call="refine", outcome="ok") == 9
    assert value("ilf_refinement_items_total", model="base", call="refine", outcome="INVALID_FIELD") == 1
    assert (value("ilf_refinement_tokens_total", model="base", kind="completion") or 0) > 0
    assert value("ilf_refinement_running_items", model="base") == 0
    assert value("ilf_refinement_queue_items") == 0
