"""The refinement service, over gRPC."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from typing import Any

import grpc
from google.protobuf.message import Message
from ilf.common.v1 import common_pb2
from ilf.refinement.v1 import refinement_service_pb2 as pb
from ilf.refinement.v1.refinement_service_pb2_grpc import RefinementServiceStub

from ilf_common.rpc.client import call, stream
from ilf_common.rpc.status import from_status
from services.orchestrator.calls import Item, Outcome, SamplingCall, ServedModel, Texts, TextScore
from services.orchestrator.convert import to_message
from services.orchestrator.models import Template
from services.orchestrator.run import Usage

_UNARY_SECONDS = 20.0
_LOAD_SECONDS = 1800.0
_BATCH_SECONDS = 6 * 3600.0


class RefinementClient:
    """Implements `ports.Refinement`."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = RefinementServiceStub(channel)

    async def model(self, name: str) -> ServedModel:
        """A model as it is served."""
        policy = await call(self._stub.GetPolicy, pb.GetPolicyRequest(name=name), timeout=_UNARY_SECONDS)
        return ServedModel(policy.name, policy.digest, policy.uri)

    async def generate(self, call: SamplingCall, items: Sequence[Item]) -> AsyncIterator[list[Outcome[Texts]]]:
        """Samples outputs; critics' prompts get the initial output too."""
        request = pb.BatchGenerateRequest(
            model=call.model,
            items=[
                pb.GenerateItem(
                    item_id=item.item_id, context=item.context, seed=item.seed, initial_output=item.initial_output
                )
                for item in items
            ],
        )
        _share(call, request)
        async for response in _responses(self._stub.BatchGenerate, request):
            yield [_texts(outcome, outcome.result.outputs) for outcome in response.outcomes]

    async def refine(self, call: SamplingCall, items: Sequence[Item]) -> AsyncIterator[list[Outcome[Texts]]]:
        """Samples refinements."""
        request = pb.BatchRefineRequest(
            model=call.model,
            items=[
                pb.RefineItem(
                    item_id=item.item_id,
                    context=item.context,
                    initial_output=item.initial_output,
                    feedback=item.feedback,
                    seed=item.seed,
                )
                for item in items
            ],
        )
        _share(call, request)
        async for response in _responses(self._stub.BatchRefine, request):
            yield [_texts(outcome, outcome.result.refinements) for outcome in response.outcomes]

    async def score_texts(
        self, model: str, template: Template | None, items: Sequence[Item]
    ) -> AsyncIterator[list[Outcome[TextScore]]]:
        """Log-probabilities of the items' outputs."""
        request = pb.BatchScoreTextRequest(
            model=model,
            items=[pb.ScoreTextItem(item_id=item.item_id, context=item.context, text=item.output) for item in items],
        )
        if template is not None:
            request.template.CopyFrom(to_message(template, common_pb2.PromptTemplate))
        async for response in _responses(self._stub.BatchScoreText, request):
            yield [_text_score(outcome) for outcome in response.outcomes]

    async def load_policy(self, *, request_id: str, name: str, uri: str, base_model: str) -> None:
        """Loads a checkpoint."""
        request = pb.LoadPolicyRequest(request_id=request_id, name=name, uri=uri, base_model=base_model)
        await call(self._stub.LoadPolicy, request, timeout=_LOAD_SECONDS)


async def _responses(method: Callable[..., Any], request: Message) -> AsyncIterator[Any]:
    async with aclosing(stream(method, request, timeout=_BATCH_SECONDS)) as responses:
        async for response in responses:
            yield response


def _share(call: SamplingCall, request: pb.BatchGenerateRequest | pb.BatchRefineRequest) -> None:
    """Fills in what all items have in common; an absent template means the server's own."""
    request.sampling.CopyFrom(to_message(call.sampling, common_pb2.SamplingParams))
    if call.template is not None:
        request.template.CopyFrom(to_message(call.template, common_pb2.PromptTemplate))
    if call.post_processing is not None:
        request.post_processing.CopyFrom(to_message(call.post_processing, common_pb2.PostProcessing))


def _texts(outcome: Any, samples: Sequence[common_pb2.Sample]) -> Outcome[Texts]:
    if outcome.WhichOneof("outcome") == "error":
        return Outcome(outcome.item_id, error=from_status(outcome.error))
    usage = outcome.result.usage
    texts = Texts(
        tuple(sample.text for sample in samples),
        tuple(sample.token_count for sample in samples),
        Usage(usage.prompt_tokens, usage.completion_tokens),
    )
    return Outcome(outcome.item_id, texts)


def _text_score(outcome: pb.ScoreTextOutcome) -> Outcome[TextScore]:
    if outcome.WhichOneof("outcome") == "error":
        return Outcome(outcome.item_id, error=from_status(outcome.error))
    return Outcome(outcome.item_id, TextScore(outcome.result.logprob, outcome.result.token_count))
