"""How a judge's answer is read from log-probabilities; pure.

Source: InstructRM of arXiv 2303.16755, generalised from two fixed token ids to sets of spellings under any tokenizer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from ilf_common.errors import InvalidArgumentError
from services.ranking.models import AnswerLogprobs, JudgeScore

TokenIds = tuple[int, ...]


@dataclass(frozen=True)
class AnswerPlan:
    """Which continuations have to be scored to know the probability of each answer.

    A spelling stands for the event that the continuation starts with its tokens. Spellings of one side are cut down
    to those that no other spelling of the side is a prefix of, so that their events exclude one another and their
    probabilities may be added: what shares a token is counted once.

    Attributes:
        positive: Token ids of the spellings that count for the candidate.
        negative: Token ids of the spellings of the other answer.
        texts: The text of every spelling that has several tokens, for teacher forcing.
    """

    positive: tuple[TokenIds, ...]
    negative: tuple[TokenIds, ...]
    texts: Mapping[TokenIds, str]

    @property
    def first_tokens(self) -> tuple[int, ...]:
        """Spellings that are one token, whose log-probabilities one look at the next token gives."""
        return tuple(ids[0] for ids in (*self.positive, *self.negative) if len(ids) == 1)


def plan_answers(
    positive: Iterable[str], negative: Iterable[str], encode: Callable[[str], Iterable[int]]
) -> AnswerPlan:
    """Chooses the continuations to score.

    Args:
        positive: Spellings of the answer that counts for the candidate.
        negative: Spellings of the other answer.
        encode: Token ids of a continuation, without special tokens.

    Raises:
        InvalidArgumentError: A side has no spelling with a token, or both sides have a spelling with the same tokens.
    """
    positive_texts = _by_tokens(positive, encode)
    negative_texts = _by_tokens(negative, encode)
    for side, texts in (("positive_answers", positive_texts), ("negative_answers", negative_texts)):
        if not texts:
            raise InvalidArgumentError.of(f"template.{side}", "needs at least one answer that this model can spell")
    positive_ids, negative_ids = _prefix_free(positive_texts), _prefix_free(negative_texts)
    common = set(positive_ids) & set(negative_ids)
    if common:
        spellings = sorted(positive_texts[ids] for ids in common)
        raise InvalidArgumentError.of(
            "template.negative_answers", f"{spellings} are the same tokens as a positive answer under this model"
        )
    texts = {**positive_texts, **negative_texts}
    several = {ids: texts[ids] for ids in (*positive_ids, *negative_ids) if len(ids) > 1}
    return AnswerPlan(positive_ids, negative_ids, several)


def combine(plan: AnswerPlan, logprobs: Mapping[TokenIds, float]) -> AnswerLogprobs:
    """Adds the probabilities of each side's spellings.

    Where a spelling continues one of the other side ("No" and "None"), its probability is part of the shorter one's
    and is taken out of it, so that nothing counts for both.

    Args:
        plan: The plan.
        logprobs: Log-probability in nats of every continuation of the plan.

    Raises:
        ValueError: A log-probability is NaN.
    """
    if any(math.isnan(value) for value in logprobs.values()):
        raise ValueError("a log-probability is NaN")
    return AnswerLogprobs(
        positive=_side(plan.positive, plan.negative, logprobs), negative=_side(plan.negative, plan.positive, logprobs)
    )


def judge_score(judge: str, answer: AnswerLogprobs) -> JudgeScore:
    """p(positive) / (p(positive) + p(negative)), and the mass given to neither.

    A model that gives neither answer any probability has no opinion: score 0.5, missing mass 1.
    """
    highest, lowest = max(answer.positive, answer.negative), min(answer.positive, answer.negative)
    if highest == -math.inf:
        return JudgeScore(judge, 0.5, 1.0)
    total = highest + math.log1p(math.exp(lowest - highest))
    score = math.exp(min(0.0, answer.positive - total))
    return JudgeScore(judge, score, min(1.0, max(0.0, -math.expm1(min(0.0, total)))))


def _by_tokens(spellings: Iterable[str], encode: Callable[[str], Iterable[int]]) -> dict[TokenIds, str]:
    texts: dict[TokenIds, str] = {}
    for spelling in spellings:
        ids = tuple(encode(spelling))
        if ids:
            texts.setdefault(ids, spelling)
    return texts


def _prefix_free(sequences: Iterable[TokenIds]) -> tuple[TokenIds, ...]:
    kept: list[TokenIds] = []
    for ids in sorted(sequences, key=lambda ids: (len(ids), ids)):
        if not any(ids[: len(short)] == short for short in kept):
            kept.append(ids)
    return tuple(kept)


def _side(own: tuple[TokenIds, ...], other: tuple[TokenIds, ...], logprobs: Mapping[TokenIds, float]) -> float:
    parts = []
    for ids in own:
        inside = [logprobs[longer] for longer in other if longer[: len(ids)] == ids]
        parts.append(_log_subtract(logprobs[ids], _log_add(inside)))
    return min(0.0, _log_add(parts))


def _log_add(values: Iterable[float]) -> float:
    values = list(values)
    highest = max(values, default=-math.inf)
    if highest == -math.inf:
        return -math.inf
    return highest + math.log(sum(math.exp(value - highest) for value in values))


def _log_subtract(whole: float, part: float) -> float:
    # Rounding may make the part a hair larger than the whole it lies in.
    if part >= whole:
        return -math.inf
    return whole if part == -math.inf else whole + math.log1p(-math.exp(part - whole))
