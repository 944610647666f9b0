"""The words of ranking as values; no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar

from ilf_common.errors import IlfError
from ilf_common.templates import PromptTemplate

T_co = TypeVar("T_co", covariant=True)


class RankerName(Enum):
    """A way to score candidates."""

    INSTRUCT_RM = "instruct_rm"
    EMBEDDING = "embedding"
    LENGTH = "length"
    RANDOM = "random"


@dataclass(frozen=True)
class Judge:
    """One member of an ensemble.

    Attributes:
        name: Unique in its ensemble.
        model: Name of a judge model of the server.
        template: The prompt and the spellings of both answers.
    """

    name: str
    model: str
    template: PromptTemplate


@dataclass(frozen=True)
class TemplateRequest:
    """A template as a caller sent it, not checked yet; with an empty `text`, `name` selects a shipped one."""

    name: str = ""
    text: str = ""
    target_prefix: str = ""
    positive_answers: tuple[str, ...] = ()
    negative_answers: tuple[str, ...] = ()


@dataclass(frozen=True)
class JudgeRequest:
    """A judge as a caller sent it, not checked yet.

    Attributes:
        name: Unique among the judges of a request. With nothing else given it selects the server's judge of that name.
        model: Name of a judge model; empty means the server's first.
        template: The prompt; an empty one means the shipped template with the judge's name.
    """

    name: str
    model: str = ""
    template: TemplateRequest = TemplateRequest()


@dataclass(frozen=True)
class RankerRequest:
    """Which ranker, and its options; options of other rankers are ignored.

    Attributes:
        name: One of `RankerName`.
        judges: instruct_rm: these judges instead of the server's own.
        seed: random: same seed and same item, same order.
        template_set: instruct_rm: the shipped set of templates; empty means "prefix".
    """

    name: str
    judges: tuple[JudgeRequest, ...] = ()
    seed: int = 0
    template_set: str = ""


@dataclass(frozen=True)
class RankItem:
    """An item whose candidates (refinements) are scored; the words are those of the paper."""

    item_id: str
    context: str
    initial_output: str
    feedback: str
    candidates: tuple[str, ...]


@dataclass(frozen=True)
class CompareItem:
    """Two outputs for one context."""

    item_id: str
    context: str
    output_a: str
    output_b: str


@dataclass(frozen=True)
class Question:
    """A rendered prompt and the spellings of its two answers, the template's target prefix in front of each."""

    prompt: str
    positive: tuple[str, ...]
    negative: tuple[str, ...]


@dataclass(frozen=True)
class AnswerLogprobs:
    """Natural logarithms of the probabilities that the model gives to the two answers; -inf is no probability."""

    positive: float
    negative: float


@dataclass(frozen=True)
class JudgeScore:
    """What one judge says.

    Attributes:
        judge: Its name.
        score: p(positive) / (p(positive) + p(negative)), in [0, 1].
        missing_mass: Probability that the model gave to neither answer, in [0, 1].
    """

    judge: str
    score: float
    missing_mass: float


@dataclass(frozen=True)
class CandidateScore:
    """The score of one candidate.

    Attributes:
        score: Higher is better; with judges the arithmetic mean of their scores.
        judge_scores: One per judge, in the order of the judges; empty for rankers without judges.
        spread: Population standard deviation of the judges' scores.
        missing_mass: Mean over judges.
    """

    score: float
    judge_scores: tuple[JudgeScore, ...] = ()
    spread: float = 0.0
    missing_mass: float = 0.0


@dataclass(frozen=True)
class Ranking:
    """Scores in the order of the candidates, and the index of the first of the highest."""

    scores: tuple[CandidateScore, ...]
    chosen_index: int
    ranker: str


@dataclass(frozen=True)
class Comparison:
    """Which of two outputs is better.

    Attributes:
        probability_a: Probability that A is better: mean over judges and both orders; 0.5 is a tie.
        position_bias: Mean probability that the one shown first is better, minus 0.5.
        judge_scores: Per judge, `score` being its probability_a over both orders.
        missing_mass: Mean over judges and orders.
    """

    probability_a: float
    position_bias: float
    judge_scores: tuple[JudgeScore, ...]
    missing_mass: float


@dataclass(frozen=True)
class ItemOutcome(Generic[T_co]):
    """What became of one item of a batch: a value, or the error of this item alone."""

    item_id: str
    value: T_co | None = None
    error: IlfError | None = None


@dataclass(frozen=True)
class RankerDescription:
    """A ranker that the server offers, for people; `judges` are its own."""

    name: str
    description: str
    judges: tuple[Judge, ...] = ()
