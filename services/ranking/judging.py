"""Asks one engine the questions of judges; pure logic over the engine port, the same in a Ray replica and in a test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import TypeVar

from ilf_common.engine.port import NextTokenRequest, Outcome, ScoreRequest, TextEngine
from ilf_common.errors import IlfError, InternalError
from services.ranking.answers import AnswerPlan, TokenIds, combine, plan_answers
from services.ranking.models import AnswerLogprobs, Question

ValueT = TypeVar("ValueT")
RequestT = TypeVar("RequestT")

# Callers bring their own spellings; beyond this many different ones, plans are made anew.
_MAX_PLANS = 1024


class JudgeModel:
    """A judge model behind its engine."""

    def __init__(self, engine: TextEngine) -> None:
        self._engine = engine
        self._plans: dict[tuple[tuple[str, ...], tuple[str, ...]], AnswerPlan] = {}

    async def answer(self, questions: Sequence[Question]) -> list[Outcome[AnswerLogprobs]]:
        """Answers in the order of the questions; an error belongs to its question alone.

        Spellings of one token are read from the distribution of the next token, longer ones are teacher-forced.

        Raises:
            UnavailableError: The engine is dead.
        """
        plans: dict[int, AnswerPlan] = {}
        errors: dict[int, IlfError] = {}
        for index, question in enumerate(questions):
            try:
                plans[index] = self._plan(question)
            except IlfError as error:
                errors[index] = error
        logprobs: list[dict[TokenIds, float]] = [{} for _ in questions]
        await self._look_at_next_tokens(questions, plans, logprobs, errors)
        await self._force_answers(questions, plans, logprobs, errors)
        return [
            Outcome(index, error=errors[index]) if index in errors else _combined(index, plans[index], logprobs[index])
            for index in range(len(questions))
        ]

    def _plan(self, question: Question) -> AnswerPlan:
        key = (question.positive, question.negative)
        if key not in self._plans:
            if len(self._plans) >= _MAX_PLANS:
                self._plans.clear()
            self._plans[key] = plan_answers(question.positive, question.negative, self._engine.encode)
        return self._plans[key]

    async def _look_at_next_tokens(
        self,
        questions: Sequence[Question],
        plans: dict[int, AnswerPlan],
        logprobs: list[dict[TokenIds, float]],
        errors: dict[int, IlfError],
    ) -> None:
        looks = [(index, plan.first_tokens) for index, plan in plans.items() if plan.first_tokens]
        requests = [NextTokenRequest(questions[index].prompt, tokens) for index, tokens in looks]
        for outcome in await _collect(self._engine.next_token_logprobs, requests):
            index, tokens = looks[outcome.index]
            if outcome.value is None:
                errors.setdefault(index, outcome.error or _no_answer())
            else:
                logprobs[index].update(zip(((token,) for token in tokens), outcome.value, strict=True))

    async def _force_answers(
        self,
        questions: Sequence[Question],
        plans: dict[int, AnswerPlan],
        logprobs: list[dict[TokenIds, float]],
        errors: dict[int, IlfError],
    ) -> None:
        forced = [
            (index, ids, text)
            for index, plan in plans.items()
            if index not in errors
            for ids, text in plan.texts.items()
        ]
        requests = [ScoreRequest(questions[index].prompt, text, add_eos=False) for index, _, text in forced]
        for outcome in await _collect(self._engine.score, requests):
            index, ids, _ = forced[outcome.index]
            if outcome.value is None:
                errors.setdefault(index, outcome.error or _no_answer())
            else:
                logprobs[index][ids] = outcome.value.logprob


async def _collect(
    call: Callable[[Sequence[RequestT]], AsyncIterator[Outcome[ValueT]]], requests: Sequence[RequestT]
) -> list[Outcome[ValueT]]:
    return [outcome async for outcome in call(requests)] if requests else []


def _combined(index: int, plan: AnswerPlan, logprobs: dict[TokenIds, float]) -> Outcome[AnswerLogprobs]:
    try:
        return Outcome(index, value=combine(plan, logprobs))
    except ValueError:
        return Outcome(index, error=InternalError("The judge model answered with a log-probability that is NaN."))


def _no_answer() -> IlfError:
    return InternalError("The judge model's engine gave neither a value nor an error.")
