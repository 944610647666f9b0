"""Values of the refinement and the ranking service."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar

from ilf_common.errors import IlfError
from ilf_common.templates import PromptTemplate

T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True)
class SamplingParams:
    """How text is sampled; None leaves the choice to the server.

    Attributes:
        n: Samples per prompt, 1 to 1024. Server default: 5 for refine, 1 for generate.
        temperature: 0 is greedy, at most 10. Server default 1.0.
        top_p: Nucleus mass in (0, 1]. Server default 0.95.
        max_new_tokens: Most new tokens of one sample. Server default 48.
        seed: The same seed and the same call give the same samples. None draws a fresh one.
        stop: Generation ends before the first of these strings.
    """

    n: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    max_new_tokens: int | None = None
    seed: int | None = None
    stop: Sequence[str] = ()


@dataclass(frozen=True)
class PostProcessing:
    """How samples are cleaned, and which are drawn again.

    Attributes:
        normalize_whitespace: Drop leading characters that are neither letters nor digits, squeeze white space.
        first_line_only: Cut at the first newline.
        drop_unfinished_sentence: Drop what follows the last `.`, `?` or `!`, where there is one.
        resample_budget: Samples drawn in all for a prompt whose samples are equal, empty or forbidden.
        forbidden_substrings: Samples that hold one of these are drawn again.
    """

    normalize_whitespace: bool = False
    first_line_only: bool = False
    drop_unfinished_sentence: bool = False
    resample_budget: int | None = None
    forbidden_substrings: Sequence[str] = ()


class FinishReason(Enum):
    """Why a sample ended."""

    UNSPECIFIED = "unspecified"
    STOP = "stop"
    LENGTH = "length"


@dataclass(frozen=True)
class Sample:
    """One sampled text; `logprob` is the sum of its tokens' raw log-probabilities in nats."""

    text: str
    token_count: int = 0
    finish_reason: FinishReason = FinishReason.UNSPECIFIED
    logprob: float = 0.0


@dataclass(frozen=True)
class Usage:
    """What a call cost, in tokens."""

    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass(frozen=True)
class Outcome(Generic[T_co]):
    """What became of one item of a batch: a result, or the error of this item alone."""

    item_id: str
    result: T_co | None = None
    error: IlfError | None = None

    def unwrap(self) -> T_co:
        """The result.

        Raises:
            IlfError: The item failed.
        """
        if self.error is not None:
            raise self.error
        assert self.result is not None
        return self.result


@dataclass(frozen=True)
class RefineItem:
    """What is refined; `item_id` is unique in its batch, `seed` overrides the batch's."""

    item_id: str
    context: str
    initial_output: str
    feedback: str
    seed: int | None = None


@dataclass(frozen=True)
class RefineResult:
    """The refinements of one item; `model_version` is `<model>@<digest>`."""

    refinements: Sequence[Sample]
    usage: Usage
    model_version: str


@dataclass(frozen=True)
class GenerateItem:
    """What is generated from; `initial_output` fills the placeholder of that name in a critic's prompt."""

    item_id: str
    context: str
    seed: int | None = None
    initial_output: str = ""


@dataclass(frozen=True)
class GenerateResult:
    """The outputs of one context."""

    outputs: Sequence[Sample]
    usage: Usage
    model_version: str


@dataclass(frozen=True)
class ScoreTextItem:
    """A text whose log-probability after a context is asked for; `unfinished` ones were cut before their end."""

    item_id: str
    context: str
    text: str
    unfinished: bool = False


@dataclass(frozen=True)
class TextScore:
    """Summed raw log-probability in nats over the text's tokens and, unless unfinished, the end of sequence."""

    logprob: float
    token_count: int
    model_version: str


@dataclass(frozen=True)
class JudgeSpec:
    """One member of an ensemble: a model and a prompt template, or the name of a template that the server ships."""

    name: str
    model: str = ""
    template: PromptTemplate | str | None = None


@dataclass(frozen=True)
class RankerSpec:
    """A way to score candidates.

    Attributes:
        name: `instruct_rm`, `embedding`, `length` or `random`.
        judges: instruct_rm: these judges instead of the server's own.
        seed: random: same seed, same order.
        template_set: instruct_rm: the shipped set of templates, `prefix` (default) or `paper`.
    """

    name: str = "instruct_rm"
    judges: Sequence[JudgeSpec] = ()
    seed: int = 0
    template_set: str = ""


@dataclass(frozen=True)
class RankItem:
    """The candidates of one item, 1 to 1024."""

    item_id: str
    context: str
    initial_output: str
    feedback: str
    candidates: Sequence[str]


@dataclass(frozen=True)
class JudgeScore:
    """What one judge says: p(positive) / (p(positive) + p(negative)), and the mass given to neither."""

    judge: str
    score: float
    missing_mass: float = 0.0


@dataclass(frozen=True)
class CandidateScore:
    """The mean over judges, each judge, their standard deviation, and the mean mass given to neither answer."""

    score: float = 0.0
    judge_scores: Sequence[JudgeScore] = ()
    spread: float = 0.0
    missing_mass: float = 0.0


@dataclass(frozen=True)
class RankResult:
    """Scores in the order of the candidates, and the index of the best."""

    scores: Sequence[CandidateScore]
    chosen_index: int
    ranker: str


@dataclass(frozen=True)
class CompareItem:
    """Two outputs for one context."""

    item_id: str
    context: str
    output_a: str
    output_b: str


@dataclass(frozen=True)
class Comparison:
    """Probability that A is better, mean over judges and both orders; 0.5 is a tie.

    `position_bias` above 0: the judges favour what they see first.
    """

    probability_a: float
    position_bias: float = 0.0
    judge_scores: Sequence[JudgeScore] = ()
    missing_mass: float = 0.0


@dataclass(frozen=True)
class Ranker:
    """A ranker that the server offers."""

    name: str
    description: str
    judges: Sequence[JudgeSpec] = ()
