"""The ensemble: renders every judge's prompt, asks the judge models at once, and averages; pure over `JudgePool`."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ilf_common.engine.port import Outcome
from ilf_common.errors import IlfError
from services.ranking.answers import judge_score
from services.ranking.models import (
    AnswerLogprobs,
    CandidateScore,
    CompareItem,
    Comparison,
    Judge,
    JudgeScore,
    Question,
    RankItem,
)
from services.ranking.ports import JudgePool


@dataclass(frozen=True)
class _Asked:
    """A question with its place: the item, the judge, and which of the item's prompts it is."""

    item: int
    judge: int
    prompt: int
    question: Question


_Answers = dict[tuple[int, int, int], AnswerLogprobs | IlfError]


class Ensemble:
    """Arithmetic mean over judges of p(positive) / (p(positive) + p(negative)), as in arXiv 2303.16755.

    An item fails when one of its prompts fails; the other items of the batch do not.
    """

    def __init__(self, pool: JudgePool) -> None:
        self._pool = pool

    async def rank(
        self, items: Sequence[RankItem], judges: Sequence[Judge], timeout: float | None
    ) -> list[Outcome[tuple[CandidateScore, ...]]]:
        """See `JudgeEnsemble.rank`."""
        askers = list(map(_Asker, judges))
        # Samples of one prompt often repeat; equal candidates are asked about once and so always score the same.
        distinct = [tuple(dict.fromkeys(item.candidates)) for item in items]
        asked = [
            _Asked(i, j, c, asker.question(values))
            for i, item in enumerate(items)
            for c, values in enumerate(_each_candidate(item, distinct[i]))
            for j, asker in enumerate(askers)
        ]
        answers = await self._ask(asked, judges, timeout)
        outcomes: list[Outcome[tuple[CandidateScore, ...]]] = []
        for i, item in enumerate(items):
            places = [(i, j, c) for c in range(len(distinct[i])) for j in range(len(judges))]
            scores = _scores(places, answers, judges)
            if isinstance(scores, IlfError):
                outcomes.append(Outcome(i, error=scores))
            else:
                rows = [scores[start : start + len(judges)] for start in range(0, len(scores), len(judges))]
                by_text = dict(zip(distinct[i], map(_mean_of_judges, rows), strict=True))
                outcomes.append(Outcome(i, value=tuple(by_text[candidate] for candidate in item.candidates)))
        return outcomes

    async def compare(
        self, items: Sequence[CompareItem], judges: Sequence[Judge], timeout: float | None
    ) -> list[Outcome[Comparison]]:
        """See `JudgeEnsemble.compare`."""
        askers = list(map(_Asker, judges))
        asked = [
            _Asked(i, j, order, asker.question(values))
            for i, item in enumerate(items)
            for order, values in enumerate(_both_orders(item))
            for j, asker in enumerate(askers)
        ]
        answers = await self._ask(asked, judges, timeout)
        outcomes: list[Outcome[Comparison]] = []
        for i in range(len(items)):
            places = [(i, j, order) for j in range(len(judges)) for order in range(2)]
            scores = _scores(places, answers, judges)
            if isinstance(scores, IlfError):
                outcomes.append(Outcome(i, error=scores))
            else:
                outcomes.append(Outcome(i, value=_comparison(scores[0::2], scores[1::2])))
        return outcomes

    async def _ask(self, asked: Sequence[_Asked], judges: Sequence[Judge], timeout: float | None) -> _Answers:
        by_model: dict[str, list[_Asked]] = {}
        for one in asked:
            by_model.setdefault(judges[one.judge].model, []).append(one)
        answers: _Answers = {}
        parts = await asyncio.gather(*(self._ask_model(name, part, timeout) for name, part in by_model.items()))
        for part in parts:
            answers.update(part)
        return answers

    async def _ask_model(self, model: str, asked: list[_Asked], timeout: float | None) -> _Answers:
        # Within an item, equal beginnings side by side: whatever the order of a template's parts, neighbours then
        # share the longest prefix that they can, and an engine's prefix cache serves it.
        asked = sorted(asked, key=lambda one: (one.item, one.question.prompt))
        try:
            outcomes = await self._pool.answer(model, [one.question for one in asked], timeout)
        except IlfError as error:
            return {(one.item, one.judge, one.prompt): error for one in asked}
        answers: _Answers = {}
        for outcome in outcomes:
            one = asked[outcome.index]
            answer = outcome.value if outcome.value is not None else outcome.error
            if answer is not None:
                answers[(one.item, one.judge, one.prompt)] = answer
        return answers


class _Asker:
    """Writes one judge's questions; the spellings are the same for all of them."""

    def __init__(self, judge: Judge) -> None:
        template = judge.template
        self._render = template.render
        self._positive = tuple(template.target_prefix + answer for answer in template.positive_answers)
        self._negative = tuple(template.target_prefix + answer for answer in template.negative_answers)

    def question(self, values: dict[str, str]) -> Question:
        return Question(self._render(**values), self._positive, self._negative)


def _each_candidate(item: RankItem, candidates: Sequence[str]) -> Iterator[dict[str, str]]:
    shared = {"context": item.context, "initial_output": item.initial_output, "feedback": item.feedback}
    return ({**shared, "candidate": candidate} for candidate in candidates)


def _both_orders(item: CompareItem) -> tuple[dict[str, str], dict[str, str]]:
    return (
        {"context": item.context, "output_a": item.output_a, "output_b": item.output_b},
        {"context": item.context, "output_a": item.output_b, "output_b": item.output_a},
    )


def _scores(
    places: Sequence[tuple[int, int, int]], answers: _Answers, judges: Sequence[Judge]
) -> list[JudgeScore] | IlfError:
    scores = []
    for place in places:
        answer = answers[place]
        if isinstance(answer, IlfError):
            return answer
        scores.append(judge_score(judges[place[1]].name, answer))
    return scores


def _mean_of_judges(scores: Sequence[JudgeScore]) -> CandidateScore:
    values = [score.score for score in scores]
    mean = statistics.fmean(values)
    return CandidateScore(
        score=mean,
        judge_scores=tuple(scores),
        spread=statistics.fmean((value - mean) ** 2 for value in values) ** 0.5,
        missing_mass=statistics.fmean(score.missing_mass for score in scores),
    )


def _comparison(a_first: Sequence[JudgeScore], b_first: Sequence[JudgeScore]) -> Comparison:
    """Joins the two orders; a positive answer always means the output shown first, under the letter A."""
    judge_scores = tuple(
        JudgeScore(first.judge, (first.score + 1 - second.score) / 2, (first.missing_mass + second.missing_mass) / 2)
        for first, second in zip(a_first, b_first, strict=True)
    )
    return Comparison(
        probability_a=statistics.fmean(score.score for score in judge_scores),
        position_bias=statistics.fmean(score.score for score in (*a_first, *b_first)) - 0.5,
        judge_scores=judge_scores,
        missing_mass=statistics.fmean(score.missing_mass for score in judge_scores),
    )
