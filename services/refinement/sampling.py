"""Draws the samples of a call's items from an engine, and draws again where samples are of no use."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

from ilf_common.engine.port import GenerateRequest, Generation, Sample
from ilf_common.templates import PromptTemplate
from services.refinement.engine_calls import closing, failed
from services.refinement.models import ItemOutcome, SampleCall, SampleItem, SampleResult
from services.refinement.post_processing import arrange, clean_samples, wants_more
from services.refinement.serving import ServedModel

_SEEDS = 2**63


@dataclass(frozen=True)
class _Draft:
    """The samples of one item so far."""

    item: SampleItem
    samples: tuple[Sample, ...]
    prompt_tokens: int
    completion_tokens: int


def item_seed(call_seed: int, item: SampleItem) -> int:
    """The seed of an item: its own, or one that follows from the call's seed and the item's id.

    Items without ids of their own (a call with one item) use the call's seed as it is.
    """
    if item.seed is not None:
        return item.seed % _SEEDS
    if not item.item_id:
        return call_seed % _SEEDS
    digest = hashlib.sha256(f"{call_seed}\0{item.item_id}".encode()).digest()
    return int.from_bytes(digest[:8]) % _SEEDS


class Sampler:
    """Draws for one call.

    All items go to the engine in one call and in their order, so that an engine which composes its batches by order
    answers the same call with the same bytes. Items that want further samples go in a second one, in order too.

    Args:
        model: What samples.
        template: Makes the prompts.
        call: How to sample and to clean.
        call_seed: The seed of the call.
    """

    def __init__(self, model: ServedModel, template: PromptTemplate, call: SampleCall, call_seed: int) -> None:
        self._model = model
        self._template = template
        self._call = call
        self._seed = call_seed
        # Greedy samples would only be drawn to be the same again.
        self._may_draw_again = call.sampling.temperature > 0

    async def draw(self, items: Sequence[SampleItem]) -> AsyncGenerator[ItemOutcome[SampleResult]]:
        """Outcomes as they finish, each item once.

        Args:
            items: Checked items.
        """
        drafts: dict[int, _Draft] = {}
        requests = [self._request(item) for item in items]
        async with closing(self._model.engine.generate(requests)) as outcomes:
            async for outcome in outcomes:
                item = items[outcome.index]
                if outcome.value is None:
                    yield failed(item, outcome)
                    continue
                draft = self._add(_Draft(item, (), 0, 0), outcome.value)
                if self._may_draw_again and wants_more(draft.samples, self._call.post_processing):
                    drafts[outcome.index] = draft
                else:
                    yield self._finish(draft)
        async with aclosing(self._draw_again([drafts[index] for index in sorted(drafts)])) as finished:
            async for item_outcome in finished:
                yield item_outcome

    async def _draw_again(self, drafts: Sequence[_Draft]) -> AsyncGenerator[ItemOutcome[SampleResult]]:
        if not drafts:
            return
        sampling = self._call.sampling
        more = replace(sampling, n=self._call.post_processing.resample_budget - sampling.n)
        requests = [
            replace(request, sampling=more, seed=(request.seed + sampling.n) % _SEEDS)
            for request in (self._request(draft.item) for draft in drafts)
        ]
        async with closing(self._model.engine.generate(requests)) as outcomes:
            async for outcome in outcomes:
                draft = drafts[outcome.index]
                if outcome.value is None:
                    yield failed(draft.item, outcome)
                else:
                    yield self._finish(self._add(draft, outcome.value))

    def _request(self, item: SampleItem) -> GenerateRequest:
        prompt = self._template.render(context=item.context, initial_output=item.initial_output, feedback=item.feedback)
        return GenerateRequest(prompt, self._call.sampling, item_seed(self._seed, item), self._model.adapter)

    def _add(self, draft: _Draft, generation: Generation) -> _Draft:
        cleaned = clean_samples(generation.samples, self._template.target_prefix, self._call.post_processing)
        return replace(
            draft,
            samples=draft.samples + cleaned,
            prompt_tokens=draft.prompt_tokens + generation.prompt_tokens,
            completion_tokens=draft.completion_tokens + sum(sample.token_count for sample in generation.samples),
        )

    def _finish(self, draft: _Draft) -> ItemOutcome[SampleResult]:
        options, count = self._call.post_processing, self._call.sampling.n
        # Without a budget nobody asked for another order than that of generation.
        samples = arrange(draft.samples, count, options) if options.resample_budget else draft.samples
        version = self._model.policy.version
        result = SampleResult(samples, draft.prompt_tokens, draft.completion_tokens, version)
        return ItemOutcome(draft.item.item_id, result=result)
