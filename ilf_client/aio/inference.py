"""Calls to the refinement service that sample and score text."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from ilf.refinement.v1 import refinement_service_pb2 as pb
from ilf.refinement.v1.refinement_service_pb2_grpc import RefinementServiceStub

from ilf_client._convert import from_proto, template_to_proto, to_proto
from ilf_client._transport import Transport
from ilf_client.models.inference import (
    GenerateItem,
    GenerateResult,
    Outcome,
    PostProcessing,
    RefineItem,
    RefineResult,
    SamplingParams,
    ScoreTextItem,
    TextScore,
)
from ilf_common.templates import PromptTemplate

if TYPE_CHECKING:
    from ilf.refinement.v1.refinement_service_pb2_grpc import RefinementServiceAsyncStub


class AsyncInference:
    """Refine, generate and score text with named models."""

    _transport: Transport

    @cached_property
    def _refinement(self) -> RefinementServiceAsyncStub:
        return RefinementServiceStub(self._transport.channel("refinement"))

    async def refine(
        self,
        model: str,
        context: str,
        initial_output: str,
        feedback: str,
        *,
        sampling: SamplingParams | None = None,
        template: PromptTemplate | str | None = None,
        post_processing: PostProcessing | None = None,
        timeout: float | None = None,
    ) -> RefineResult:
        """Samples refinements of one initial output.

        Args:
            model: A model of the server, a policy version or an alias.
            context: What the output is about.
            initial_output: The output that the feedback speaks of.
            feedback: What is wrong with it, in plain words.
            sampling: How to sample; n is 5 by default.
            template: The prompt, or the name of one that the server ships.
            post_processing: How samples are cleaned.
            timeout: Seconds; None takes the client's.

        Raises:
            IlfError: One of `ilf_client`'s error classes, with reason and fields.
        """
        request = pb.RefineRequest(model=model, context=context, initial_output=initial_output, feedback=feedback)
        _fill_options(request, sampling, template, post_processing)
        return from_proto(await self._transport.call(self._refinement.Refine, request, timeout), RefineResult)

    async def batch_refine(
        self,
        model: str,
        items: Iterable[RefineItem],
        *,
        sampling: SamplingParams | None = None,
        template: PromptTemplate | str | None = None,
        post_processing: PostProcessing | None = None,
        timeout: float | None = None,
    ) -> AsyncIterator[Outcome[RefineResult]]:
        """Refines many items; outcomes come as they finish, and a bad item never fails its batch."""

        def build(chunk: Sequence[RefineItem]) -> pb.BatchRefineRequest:
            request = pb.BatchRefineRequest(model=model)
            _fill_options(request, sampling, template, post_processing)
            for item in chunk:
                to_proto(item, request.items.add())
            return request

        method = self._refinement.BatchRefine
        async for outcome in self._transport.batch(method, items, build, RefineResult, timeout):
            yield outcome

    async def generate(
        self,
        model: str,
        context: str,
        *,
        initial_output: str = "",
        sampling: SamplingParams | None = None,
        template: PromptTemplate | str | None = None,
        post_processing: PostProcessing | None = None,
        timeout: float | None = None,
    ) -> GenerateResult:
        """Samples outputs for one context, one by default; arguments as in `refine`."""
        request = pb.GenerateRequest(model=model, context=context, initial_output=initial_output)
        _fill_options(request, sampling, template, post_processing)
        return from_proto(await self._transport.call(self._refinement.Generate, request, timeout), GenerateResult)

    async def batch_generate(
        self,
        model: str,
        items: Iterable[GenerateItem],
        *,
        sampling: SamplingParams | None = None,
        template: PromptTemplate | str | None = None,
        post_processing: PostProcessing | None = None,
        timeout: float | None = None,
    ) -> AsyncIterator[Outcome[GenerateResult]]:
        """Generates for many items, as `batch_refine` does."""

        def build(chunk: Sequence[GenerateItem]) -> pb.BatchGenerateRequest:
            request = pb.BatchGenerateRequest(model=model)
            _fill_options(request, sampling, template, post_processing)
            for item in chunk:
                to_proto(item, request.items.add())
            return request

        method = self._refinement.BatchGenerate
        async for outcome in self._transport.batch(method, items, build, GenerateResult, timeout):
            yield outcome

    async def score_text(
        self,
        model: str,
        context: str,
        text: str,
        *,
        unfinished: bool = False,
        template: PromptTemplate | str | None = None,
        timeout: float | None = None,
    ) -> TextScore:
        """Summed raw log-probability of a given text after a context; `unfinished` leaves out its end of sequence."""
        request = pb.ScoreTextRequest(model=model, context=context, text=text, unfinished=unfinished)
        template_to_proto(template, request.template)
        return from_proto(await self._transport.call(self._refinement.ScoreText, request, timeout), TextScore)

    async def batch_score_text(
        self,
        model: str,
        items: Iterable[ScoreTextItem],
        *,
        template: PromptTemplate | str | None = None,
        timeout: float | None = None,
    ) -> AsyncIterator[Outcome[TextScore]]:
        """Scores many texts, as `batch_refine` does."""

        def build(chunk: Sequence[ScoreTextItem]) -> pb.BatchScoreTextRequest:
            request = pb.BatchScoreTextRequest(model=model)
            template_to_proto(template, request.template)
            for item in chunk:
                to_proto(item, request.items.add())
            return request

        method = self._refinement.BatchScoreText
        async for outcome in self._transport.batch(method, items, build, TextScore, timeout):
            yield outcome


def _fill_options(
    request: pb.RefineRequest | pb.BatchRefineRequest | pb.GenerateRequest | pb.BatchGenerateRequest,
    sampling: SamplingParams | None,
    template: PromptTemplate | str | None,
    post_processing: PostProcessing | None,
) -> None:
    if sampling is not None:
        to_proto(sampling, request.sampling)
    if template is not None:
        template_to_proto(template, request.template)
    if post_processing is not None:
        to_proto(post_processing, request.post_processing)
