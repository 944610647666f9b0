from __future__ import annotations

import asyncio
import statistics
from collections.abc import Sequence

import grpc
import pytest
from ilf.common.v1 import common_pb2
from ilf.ranking.v1 import ranking_service_pb2 as pb

from ilf_common.errors import InvalidArgumentError, UnavailableError
from ilf_common.rpc.status import from_rpc_error, from_status

from .conftest import Ranking


def item(item_id: str = "i", *candidates: str, **fields: str) -> pb.RankItem:
    values = {"context": "a context", "initial_output": "old words", "feedback": "use new words", **fields}
    return pb.RankItem(item_id=item_id, candidates=candidates or ["some words", "new words"], **values)


def request(ranker: pb.RankerSpec, one: pb.RankItem | None = None) -> pb.RankRequest:
    one = one or item()
    return pb.RankRequest(
        ranker=ranker,
        context=one.context,
        initial_output=one.initial_output,
        feedback=one.feedback,
        candidates=one.candidates,
    )


def judge(
    name: str,
    text: str = "{context} {candidate}?",
    model: str = "small",
    yes: Sequence[str] = ("Yes",),
    no: Sequence[str] = ("No",),
) -> pb.JudgeSpec:
    template = common_pb2.PromptTemplate(text=text, positive_answers=yes, negative_answers=no)
    return pb.JudgeSpec(name=name, model=model, template=template)


async def batch(ranking: Ranking, ranker: pb.RankerSpec, *items: pb.RankItem) -> dict[str, pb.RankOutcome]:
    call = ranking.stub.BatchRank(pb.BatchRankRequest(ranker=ranker, items=items))
    return {outcome.item_id: outcome async for response in call for outcome in response.outcomes}


async def test_own_judges_score_every_candidate_and_the_highest_is_chosen(ranking: Ranking) -> None:
    response = await ranking.stub.Rank(request(pb.RankerSpec(name="instruct_rm"), item("i", "x", "y", "z")))
    assert response.ranker == "instruct_rm"
    scores = [score.score for score in response.scores]
    assert len(scores) == 3
    assert response.chosen_index == scores.index(max(scores))
    for score in response.scores:
        assert [one.judge for one in score.judge_scores] == [f"instruct_rm_{i}" for i in range(1, 6)]
        assert score.score == pytest.approx(statistics.fmean(one.score for one in score.judge_scores))
        assert score.spread == pytest.approx(statistics.pstdev(one.score for one in score.judge_scores))
        assert 0 < score.missing_mass < 1


async def test_template_set_changes_the_prompts(ranking: Ranking) -> None:
    await ranking.stub.Rank(request(pb.RankerSpec(name="instruct_rm", template_set="paper")))
    paper = [question.prompt for question in ranking.pool.questions]
    ranking.pool.questions.clear()
    await ranking.stub.Rank(request(pb.RankerSpec(name="instruct_rm")))
    prefix = [question.prompt for question in ranking.pool.questions]
    assert len(paper) == len(prefix) == 10
    assert not set(paper) & set(prefix)
    # Five judges of one candidate differ after the candidate alone.
    assert len({prompt.partition("New answer: some words")[0] for prompt in prefix if "some words" in prompt}) == 1


async def test_judges_of_the_request_bring_their_templates_and_models(ranking: Ranking) -> None:
    judges = [judge("mine"), judge("other", "{candidate}!", model="large"), pb.JudgeSpec(name="instruct_rm_2")]
    response = await ranking.stub.Rank(request(pb.RankerSpec(name="instruct_rm", judges=judges)))
    assert [one.judge for one in response.scores[0].judge_scores] == ["mine", "other", "instruct_rm_2"]
    assert sorted(ranking.pool.calls) == [("large", 2), ("small", 4)]


async def test_batch_gives_every_item_the_scores_of_the_unary_call(ranking: Ranking) -> None:
    ranker = pb.RankerSpec(name="instruct_rm")
    items = [item(f"i{k}", *(f"candidate {k} {c}" for c in range(5))) for k in range(20)]
    outcomes = await batch(ranking, ranker, *items)
    assert set(outcomes) == {one.item_id for one in items}
    for one in items[:3]:
        assert outcomes[one.item_id].result == await ranking.stub.Rank(request(ranker, one))
    assert max(count for _, count in ranking.pool.calls) <= 64


async def test_embedding_prefers_what_is_like_the_feedback(ranking: Ranking) -> None:
    response = await ranking.stub.Rank(request(pb.RankerSpec(name="embedding")))
    assert response.chosen_index == 1
    assert response.scores[1].score > response.scores[0].score


async def test_length_and_its_ties(ranking: Ranking) -> None:
    response = await ranking.stub.Rank(request(pb.RankerSpec(name="length"), item("i", "ab", "abc", "cba")))
    assert [score.score for score in response.scores] == [2, 3, 3]
    assert response.chosen_index == 1


async def test_random_is_the_same_in_any_company_and_order(ranking: Ranking) -> None:
    ranker = pb.RankerSpec(name="random", seed=5)
    items = [item(f"i{k}", "a", "b", "c", feedback="") for k in range(50)]
    together = await batch(ranking, ranker, *items)
    backwards = await batch(ranking, ranker, *reversed(items[:10]))
    assert all(together[name] == outcome for name, outcome in backwards.items())
    assert {outcome.result.chosen_index for outcome in together.values()} == {0, 1, 2}


BAD_ITEMS = [
    (item(context=" "), "context"),
    (item(feedback=""), "feedback"),
    (item(context="x" * 200_001), "context"),
    (item("i", *["x"] * 1025), "candidates"),
    (item("i", "ok", "x" * 200_001), "candidates[1]"),
    (pb.RankItem(item_id="i", context="c", feedback="f"), "candidates"),
]


@pytest.mark.parametrize(("bad", "field"), BAD_ITEMS)
async def test_bad_item_is_refused_with_its_field(ranking: Ranking, bad: pb.RankItem, field: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ranking.stub.Rank(request(pb.RankerSpec(name="instruct_rm"), bad))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    error = from_rpc_error(caught.value)
    assert isinstance(error, InvalidArgumentError)
    assert error.reason == "INVALID_FIELD"
    assert [violation.field for violation in error.violations] == [field]
    assert not ranking.pool.calls


@pytest.mark.parametrize(("bad", "field"), BAD_ITEMS)
async def test_bad_item_fails_alone_in_a_batch(ranking: Ranking, bad: pb.RankItem, field: str) -> None:
    outcomes = await batch(ranking, pb.RankerSpec(name="instruct_rm"), item("good"), bad)
    error = from_status(outcomes["i"].error)
    assert isinstance(error, InvalidArgumentError)
    assert [violation.field for violation in error.violations] == [f"items[1].{field}"]
    assert outcomes["good"].HasField("result")


async def test_all_wrong_fields_are_named_at_once(ranking: Ranking) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ranking.stub.Rank(pb.RankRequest(ranker=pb.RankerSpec(name="embedding")))
    error = from_rpc_error(caught.value)
    assert isinstance(error, InvalidArgumentError)
    assert [violation.field for violation in error.violations] == ["context", "feedback", "candidates"]


async def test_missing_and_repeated_ids_fail_alone(ranking: Ranking) -> None:
    call = ranking.stub.BatchRank(
        pb.BatchRankRequest(ranker=pb.RankerSpec(name="length"), items=[item("a"), item(""), item("a"), item("b")])
    )
    outcomes = [outcome async for response in call for outcome in response.outcomes]
    assert [(o.item_id, o.WhichOneof("outcome")) for o in outcomes] == [
        ("a", "result"),
        ("b", "result"),
        ("", "error"),
        ("a", "error"),
    ]
    error = from_status(outcomes[3].error)
    assert isinstance(error, InvalidArgumentError)
    assert error.violations[0].field == "items[2].item_id"


@pytest.mark.parametrize("count", [0, 4097])
async def test_batch_of_a_wrong_size_is_refused(ranking: Ranking, count: int) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await batch(ranking, pb.RankerSpec(name="length"), *[item(str(i)) for i in range(count)])
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    error = from_rpc_error(caught.value)
    assert isinstance(error, InvalidArgumentError)
    assert error.violations[0].field == "items"


async def test_unknown_ranker_names_the_known_ones(ranking: Ranking) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ranking.stub.Rank(request(pb.RankerSpec(name="reward_model")))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    error = from_rpc_error(caught.value)
    assert error.reason == "RANKER_NOT_FOUND"
    assert "embedding, instruct_rm, length, random" in error.message


@pytest.mark.parametrize(
    ("spec", "code", "reason"),
    [
        (judge("j", model="huge"), grpc.StatusCode.NOT_FOUND, "MODEL_NOT_FOUND"),
        (pb.JudgeSpec(name="nobody"), grpc.StatusCode.NOT_FOUND, "JUDGE_NOT_FOUND"),
    ],
)
async def test_unknown_judge_or_model_is_not_found(
    ranking: Ranking, spec: pb.JudgeSpec, code: grpc.StatusCode, reason: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ranking.stub.Rank(request(pb.RankerSpec(name="instruct_rm", judges=[spec])))
    assert (caught.value.code(), from_rpc_error(caught.value).reason) == (code, reason)


@pytest.mark.parametrize(
    ("judges", "fields"),
    [
        (
            [judge("j", yes=[], no=[])],
            ["template.positive_answers", "template.negative_answers"],
        ),
        ([judge("j", yes=["Yes"], no=["Yes"])], ["template.negative_answers"]),
        ([judge("j", yes=["Yes", " "])], ["template.positive_answers"]),
        ([judge("j", "no candidate here")], ["template.text"]),
        ([judge("j", "{candidate} {output_a}")], ["template.text"]),
        ([judge("j", "{candidate} {nonsense}")], ["template.text"]),
        ([judge(" ")], ["name"]),
        ([pb.JudgeSpec(name="j", model="small")], ["template.text"]),
    ],
)
async def test_judge_that_cannot_judge_is_refused(
    ranking: Ranking, judges: list[pb.JudgeSpec], fields: list[str]
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await batch(ranking, pb.RankerSpec(name="instruct_rm", judges=judges), item())
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    error = from_rpc_error(caught.value)
    assert isinstance(error, InvalidArgumentError)
    assert [violation.field for violation in error.violations] == [f"ranker.judges[0].{field}" for field in fields]


async def test_double_judge_names_and_unknown_sets_are_refused(ranking: Ranking) -> None:
    for spec, field in [
        (pb.RankerSpec(name="instruct_rm", judges=[judge("j"), judge("j")]), "ranker.judges[1].name"),
        (pb.RankerSpec(name="instruct_rm", judges=[judge(f"j{i}") for i in range(33)]), "ranker.judges"),
        (pb.RankerSpec(name="instruct_rm", template_set="best"), "ranker.template_set"),
        (pb.RankerSpec(), "ranker.name"),
    ]:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await ranking.stub.Rank(request(spec))
        error = from_rpc_error(caught.value)
        assert isinstance(error, InvalidArgumentError)
        assert [violation.field for violation in error.violations] == [field]


async def test_prompt_too_long_for_the_model_fails_its_item_alone(ranking: Ranking) -> None:
    outcomes = await batch(ranking, pb.RankerSpec(name="instruct_rm"), item("long", context="word " * 500), item("ok"))
    assert from_status(outcomes["long"].error).reason == "PROMPT_TOO_LONG"
    assert outcomes["ok"].HasField("result")


async def test_judge_model_that_is_down_is_unavailable_with_a_time_to_retry(ranking: Ranking) -> None:
    ranking.pool.down.add("small")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ranking.stub.Rank(request(pb.RankerSpec(name="instruct_rm")))
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    error = from_rpc_error(caught.value)
    assert isinstance(error, UnavailableError)
    assert (error.reason, error.retry_after) == ("ENGINE_UNAVAILABLE", 1.0)
    ranking.pool.down.clear()
    assert (await ranking.stub.Rank(request(pb.RankerSpec(name="instruct_rm")))).scores


async def test_full_queue_is_refused_with_a_time_to_retry(ranking: Ranking) -> None:
    ranking.pool.gate.clear()
    ranker = pb.RankerSpec(name="instruct_rm")
    held = asyncio.ensure_future(batch(ranking, ranker, *[item(f"i{k}") for k in range(90)]))
    while not ranking.pool.calls:
        await asyncio.sleep(0.01)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await batch(ranking, ranker, *[item(f"i{k}") for k in range(20)])
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert from_rpc_error(caught.value).reason == "QUEUE_FULL"
    ranking.pool.gate.set()
    assert len(await held) == 90


async def test_cancelled_call_stops_its_work_and_frees_its_place(ranking: Ranking) -> None:
    ranking.pool.gate.clear()
    ranker = pb.RankerSpec(name="instruct_rm")
    call = ranking.stub.BatchRank(pb.BatchRankRequest(ranker=ranker, items=[item(f"i{k}") for k in range(90)]))
    reading = asyncio.ensure_future(call.read())
    while not ranking.pool.calls:
        await asyncio.sleep(0.01)
    call.cancel()
    await asyncio.wait({reading})
    while not ranking.pool.cancelled:
        await asyncio.sleep(0.01)
    ranking.pool.gate.set()
    assert len(await batch(ranking, ranker, *[item(f"i{k}") for k in range(90)])) == 90


async def test_results_arrive_as_they_finish(ranking: Ranking) -> None:
    ranker = pb.RankerSpec(name="instruct_rm", judges=[judge("j")])
    call = ranking.stub.BatchRank(pb.BatchRankRequest(ranker=ranker, items=[item(f"i{k}") for k in range(90)]))
    messages = [response async for response in call]
    assert len(messages) == 3
    assert sum(len(message.outcomes) for message in messages) == 90


async def test_comparison_is_symmetric_and_reports_its_judges(ranking: Ranking) -> None:
    one = await ranking.stub.Compare(pb.CompareRequest(context="c", output_a="x", output_b="y"))
    two = await ranking.stub.Compare(pb.CompareRequest(context="c", output_a="y", output_b="x"))
    assert one.probability_a == pytest.approx(1 - two.probability_a)
    assert one.position_bias == pytest.approx(two.position_bias)
    assert [score.judge for score in one.judge_scores] == ["compare_1", "compare_2", "compare_3"]
    same = await ranking.stub.Compare(pb.CompareRequest(context="c", output_a="x", output_b="x"))
    assert same.probability_a == pytest.approx(0.5)


async def test_batch_comparison_fails_bad_pairs_alone(ranking: Ranking) -> None:
    judges = [judge("mine", "{context} {output_a} {output_b}", yes=["A"], no=["B"])]
    items = [
        pb.CompareItem(item_id="ok", context="c", output_a="x", output_b="y"),
        pb.CompareItem(item_id="bad", context="", output_a="x", output_b="y"),
    ]
    call = ranking.stub.BatchCompare(pb.BatchCompareRequest(items=items, judges=judges))
    outcomes = {outcome.item_id: outcome async for response in call for outcome in response.outcomes}
    assert [score.judge for score in outcomes["ok"].result.judge_scores] == ["mine"]
    error = from_status(outcomes["bad"].error)
    assert isinstance(error, InvalidArgumentError)
    assert [violation.field for violation in error.violations] == ["items[1].context"]


async def test_comparison_judge_without_both_outputs_is_refused(ranking: Ranking) -> None:
    spec = judge("mine", "{context} {output_a}")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ranking.stub.Compare(pb.CompareRequest(context="c", output_a="x", output_b="y", judges=[spec]))
    error = from_rpc_error(caught.value)
    assert isinstance(error, InvalidArgumentError)
    assert [violation.field for violation in error.violations] == ["judges[0].template.text"]


async def test_rankers_are_listed_with_their_judges_in_pages(ranking: Ranking) -> None:
    first = await ranking.stub.ListRankers(pb.ListRankersRequest(page_size=2))
    rest = await ranking.stub.ListRankers(pb.ListRankersRequest(page_token=first.next_page_token))
    rankers = [*first.rankers, *rest.rankers]
    assert [ranker.name for ranker in rankers] == ["embedding", "instruct_rm", "length", "random"]
    assert [one.name for one in rankers[1].judges] == [f"instruct_rm_{i}" for i in range(1, 6)]
    assert rankers[1].judges[0].model == "small"
    assert not rest.next_page_token


async def test_items_are_counted_by_ranker_and_outcome(ranking: Ranking) -> None:
    spec = pb.RankerSpec(name="instruct_rm")
    await batch(ranking, spec, item("long", context="word " * 500), item("ok"), item("fine"))
    labels = {"ranker": "instruct_rm", "outcome": "result"}
    assert ranking.registry.get_sample_value("ilf_ranking_items_total", labels) == 2
    assert ranking.registry.get_sample_value("ilf_ranking_items_total", {**labels, "outcome": "error"}) == 1
    assert ranking.registry.get_sample_value("ilf_ranking_queue_items") == 0


async def test_judges_are_counted_by_whether_they_agree_with_the_ensemble(ranking: Ranking) -> None:
    await batch(ranking, pb.RankerSpec(name="instruct_rm"), item("a"), item("b"))
    answers = [ranking.registry.get_sample_value("ilf_ranking_judge_choices_total", {"same": s}) for s in ("yes", "no")]
    assert sum(answer or 0 for answer in answers) == 2 * 5
