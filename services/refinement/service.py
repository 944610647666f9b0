"""The use cases of inference: refine, generate and score, one item or many."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import TypeVar

from ilf_common.engine.port import ScoreRequest
from ilf_common.errors import InternalError, InvalidArgumentError
from ilf_common.templates import PromptTemplate
from services.refinement.coalescing import coalesce
from services.refinement.engine_calls import closing, failed
from services.refinement.models import (
    ItemOutcome,
    SampleCall,
    SampleItem,
    SampleResult,
    ScoreCall,
    ScoreItem,
    ScoreResult,
)
from services.refinement.ports import Metrics
from services.refinement.queueing import ItemQueue
from services.refinement.sampling import Sampler
from services.refinement.serving import ServedModel, ServedModels
from services.refinement.validation import check_call, check_single, item_violations

ItemT = TypeVar("ItemT", SampleItem, ScoreItem)
ResultT = TypeVar("ResultT", SampleResult, ScoreResult)
Work = Callable[[ServedModel, Sequence[ItemT]], AsyncGenerator[ItemOutcome[ResultT]]]

_SCORE_TEXT = "score_text"


class InferenceService:
    """Answers calls for text under any served model.

    Args:
        models: What is served.
        templates: The shipped templates by name.
        queue: Bounds the items in flight.
        metrics: Counts what is done.
    """

    def __init__(
        self, models: ServedModels, templates: Mapping[str, PromptTemplate], queue: ItemQueue, metrics: Metrics
    ) -> None:
        self._models = models
        self._templates = templates
        self._queue = queue
        self._metrics = metrics

    async def sample(self, call: SampleCall) -> SampleResult:
        """Samples for the one item of a call.

        Raises:
            InvalidArgumentError: With all wrong fields, or reason PROMPT_TOO_LONG.
            NotFoundError: reason MODEL_NOT_FOUND.
            ResourceExhaustedError: reason QUEUE_FULL.
            UnavailableError: The engine died.
        """
        template = check_single(call, self._templates)
        return await self._one(call.model, call.task.value, call.items, self._sampling(call, template))

    async def sample_batch(self, call: SampleCall) -> AsyncGenerator[list[ItemOutcome[SampleResult]]]:
        """Samples for many items; outcomes arrive in groups as they finish. Errors as in `sample`, items' own apart."""
        template = check_call(call, self._templates)
        work = self._sampling(call, template)
        async with aclosing(self._many(call.model, call.task.value, call.items, template, work)) as groups:
            async for group in groups:
                yield group

    async def score(self, call: ScoreCall) -> ScoreResult:
        """Log-probability of the one text of a call. Errors as in `sample`."""
        template = check_single(call, self._templates)
        return await self._one(call.model, _SCORE_TEXT, call.items, self._scoring(template))

    async def score_batch(self, call: ScoreCall) -> AsyncGenerator[list[ItemOutcome[ScoreResult]]]:
        """Scores many texts; outcomes arrive in groups as they finish. Errors as in `sample`, items' own apart."""
        template = check_call(call, self._templates)
        work = self._scoring(template)
        async with aclosing(self._many(call.model, _SCORE_TEXT, call.items, template, work)) as groups:
            async for group in groups:
                yield group

    async def _one(self, name: str, kind: str, items: Sequence[ItemT], work: Work[ItemT, ResultT]) -> ResultT:
        async with self._models.lease(name) as model:
            with self._queue.admit(model.policy.name, 1):
                async with aclosing(work(model, items)) as outcomes:
                    async for outcome in outcomes:
                        self._count(model, kind, [outcome])
                        return _unwrap(outcome)
        raise InternalError("The engine ended without an answer.")

    async def _many(
        self,
        name: str,
        kind: str,
        items: Sequence[ItemT],
        template: PromptTemplate,
        work: Work[ItemT, ResultT],
    ) -> AsyncGenerator[list[ItemOutcome[ResultT]]]:
        accepted, errors = _sift(items, template)
        refused: list[ItemOutcome[ResultT]] = [ItemOutcome(item_id, error=error) for item_id, error in errors]
        async with self._models.lease(name) as model:
            with self._queue.admit(model.policy.name, len(accepted)) as ticket:
                if refused:
                    self._count(model, kind, refused)
                    yield refused
                async with aclosing(coalesce(work(model, accepted))) as groups:
                    async for group in groups:
                        ticket.finish(len(group))
                        self._count(model, kind, group)
                        yield group

    def _sampling(self, call: SampleCall, template: PromptTemplate) -> Work[SampleItem, SampleResult]:
        call_seed = secrets.randbits(63) if call.seed is None else call.seed
        return lambda model, items: Sampler(model, template, call, call_seed).draw(items)

    def _scoring(self, template: PromptTemplate) -> Work[ScoreItem, ScoreResult]:
        return lambda model, items: _score(model, template, items)

    def _count(self, model: ServedModel, kind: str, outcomes: Sequence[ItemOutcome[ResultT]]) -> None:
        name = model.policy.name
        ends = Counter(outcome.error.reason if outcome.error else "ok" for outcome in outcomes)
        for end, count in ends.items():
            self._metrics.items_finished(name, kind, end, count)
        prompt = completion = 0
        for outcome in outcomes:
            if isinstance(outcome.result, SampleResult):
                prompt += outcome.result.prompt_tokens
                completion += outcome.result.completion_tokens
            elif isinstance(outcome.result, ScoreResult):
                prompt += outcome.result.token_count
        self._metrics.tokens(name, prompt, completion)


async def _score(
    model: ServedModel, template: PromptTemplate, items: Sequence[ScoreItem]
) -> AsyncGenerator[ItemOutcome[ScoreResult]]:
    requests = [
        ScoreRequest(
            prompt=template.render(context=item.context),
            text=template.target_prefix + item.text,
            add_eos=not item.unfinished,
            adapter=model.adapter,
        )
        for item in items
    ]
    async with closing(model.engine.score(requests)) as outcomes:
        async for outcome in outcomes:
            item, score = items[outcome.index], outcome.value
            if score is None:
                yield failed(item, outcome)
            else:
                result = ScoreResult(score.logprob, score.token_count, model.policy.version)
                yield ItemOutcome(item.item_id, result=result)


def _sift(
    items: Sequence[ItemT], template: PromptTemplate
) -> tuple[list[ItemT], list[tuple[str, InvalidArgumentError]]]:
    """The items that can be worked on, in order, and the ids of those that cannot, with what is wrong."""
    accepted: list[ItemT] = []
    refused: list[tuple[str, InvalidArgumentError]] = []
    for index, item in enumerate(items):
        violations = item_violations(item, f"items[{index}].", template.fields)
        if violations:
            refused.append((item.item_id, InvalidArgumentError(violations=violations)))
        else:
            accepted.append(item)
    return accepted, refused


def _unwrap(outcome: ItemOutcome[ResultT]) -> ResultT:
    if outcome.error is not None:
        raise outcome.error
    if outcome.result is None:
        raise InternalError("The engine answered neither a value nor an error.")
    return outcome.result
