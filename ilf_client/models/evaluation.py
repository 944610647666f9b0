"""What best-of-N and evaluations are told, and what they found: the keys of their YAML files and JSON results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ilf_client.models.inference import JudgeSpec, PostProcessing, RankerSpec, SamplingParams
from ilf_client.models.specs import ColumnMap
from ilf_common.statistics.best_of import BestOfPoint
from ilf_common.statistics.values import Estimate
from ilf_common.templates import PromptTemplate


@dataclass(frozen=True)
class BestOfNSpec:
    """Sample N outputs for each context of a dataset, score them, keep the best.

    Attributes:
        dataset: A `.jsonl`, `.json` or `.parquet` file of this machine, or `hf://owner/name`.
        policy: The model, policy version or alias that samples.
        n: Samples a context, 1 to 1024; 1 is the policy as it is.
        columns: The dataset's columns, where they have other names.
        limit: Only so many rows.
        sampling: How to sample; its `n` stays unset. Server defaults: temperature 1, top-p 0.95, 48 new tokens.
        template: The policy's prompt.
        post_processing: How samples are cleaned. It has no resample budget: the curve needs independent samples.
        seed: The same seed draws the same samples.
        reward_models: Names of served reward models that score the samples. Those that only compare score a sample by
            the mean probability that it beats each of the others, for N up to 16.
        ranker: A ranker that scores them, such as the judges `instruct_rm` (for rows with feedback). Of several
            scorers, the score is the mean of theirs, each standardised over all samples.
        metrics: Functions `module:function` from context and output to a number; measured on what is chosen.
    """

    dataset: str
    policy: str
    n: int
    columns: ColumnMap | None = None
    limit: int | None = None
    sampling: SamplingParams | None = None
    template: PromptTemplate | str | None = None
    post_processing: PostProcessing | None = None
    seed: int = 0
    reward_models: Sequence[str] = ()
    ranker: RankerSpec | None = None
    metrics: Sequence[str] = ()


@dataclass(frozen=True)
class ScorerScale:
    """What a scorer's scores were standardised by: mean and population deviation over all samples."""

    scorer: str
    mean: float
    deviation: float


@dataclass(frozen=True)
class BestOfNResult:
    """What best-of-N found.

    Attributes:
        policy: The version that sampled, `<model>@<digest>`.
        n: Samples a context.
        items: Contexts with a choice.
        dropped: Rows without one, by reason.
        scorers: What the choice goes by, with their scales.
        curve: The expected score of the best of k, for every k up to N.
        metric_curves: The same for each metric, of the sample with the highest score.
        chosen: The file of the chosen outputs: `id`, `context`, `output`, `index`, `score`, JSON lines.
    """

    policy: str
    n: int
    items: int
    dropped: Mapping[str, int]
    scorers: Sequence[ScorerScale]
    curve: Sequence[BestOfPoint]
    metric_curves: Mapping[str, Sequence[BestOfPoint]] = field(default_factory=dict)
    chosen: str = ""


@dataclass(frozen=True)
class Arm:
    """One side of an evaluation: what answers the contexts, exactly one of `policy`, `column`, `pool` and `file`.

    Attributes:
        name: In results.
        policy: A model, policy version or alias, which is sampled.
        column: A column of the dataset, such as `reference`.
        pool: A folder of best-of-N, whose chosen outputs answer.
        file: JSON lines with `id` and `output`.
        rankers: Reward models and judge models that chose these outputs or what the policy was trained on. Those of a
            run's versions and of pools are known without.
    """

    name: str
    policy: str = ""
    column: str = ""
    pool: str = ""
    file: str = ""
    rankers: Sequence[str] = ()


@dataclass(frozen=True)
class Evaluator:
    """Who says which of two outputs is better, asked in both orders: reward models, or judges.

    Attributes:
        name: In results.
        reward_models: Served reward models; of several the mean probability counts.
        judges: Comparison judges; with no reward models either, the server's own.
    """

    name: str
    reward_models: Sequence[str] = ()
    judges: Sequence[JudgeSpec] = ()


@dataclass(frozen=True)
class Pairing:
    """Two arms that are compared."""

    arm: str
    rival: str


@dataclass(frozen=True)
class Divergence:
    """How far policies are from a base, by samples at temperature 1 and top-p 1.

    Attributes:
        base: A model, policy version or alias.
        samples: Of each side for each context.
        max_new_tokens: Where samples are cut; what is measured is the divergence up to there.
    """

    base: str
    samples: int = 4
    max_new_tokens: int = 48


@dataclass(frozen=True)
class EvaluationSpec:
    """What is measured of which arms, on the rows of one dataset.

    Attributes:
        dataset: A `.jsonl`, `.json` or `.parquet` file of this machine, or `hf://owner/name`.
        arms: What is measured.
        columns: The dataset's columns, where they have other names.
        limit: Only so many rows.
        sampling: How policies answer; one sample each, whatever its `n`. Server defaults otherwise.
        template: The policies' prompt.
        post_processing: How their answers are cleaned.
        seed: The same seed draws the same answers.
        pairings: Which arms are compared; none means every two, in their order.
        evaluators: Win rates, by each of these.
        incorporated: Rate of incorporated feedback, by a ranker whose score is a probability (`instruct_rm`).
        nll_columns: Negative log-likelihood of these columns under the arms that are policies.
        divergence: Forward and reverse KL of the arms that are policies.
        rouge: ROUGE-L against the dataset's references.
        metrics: Functions `module:function` from context and output to a number.
    """

    dataset: str
    arms: Sequence[Arm]
    columns: ColumnMap | None = None
    limit: int | None = None
    sampling: SamplingParams | None = None
    template: PromptTemplate | str | None = None
    post_processing: PostProcessing | None = None
    seed: int = 0
    pairings: Sequence[Pairing] = ()
    evaluators: Sequence[Evaluator] = ()
    incorporated: RankerSpec | None = None
    nll_columns: Sequence[str] = ()
    divergence: Divergence | None = None
    rouge: bool = False
    metrics: Sequence[str] = ()


@dataclass(frozen=True)
class Figure:
    """One measured number.

    Attributes:
        measure: What was measured.
        arm: Of what.
        estimate: The value, its standard error clustered by context, and the number of contexts.
        smallest_detectable_effect: The smallest true distance from `null` that so many contexts would find.
        rival: Compared with what; the value is then a win rate, or the mean of paired differences.
        evaluator: By whom.
        null: The value that would mean no difference, where there is one.
        self_judged: Why this is no independent judgement; such figures stay out of tables.
    """

    measure: str
    arm: str
    estimate: Estimate
    smallest_detectable_effect: float
    rival: str = ""
    evaluator: str = ""
    null: float | None = None
    self_judged: str = ""


@dataclass(frozen=True)
class EvaluationResult:
    """What an evaluation found.

    Attributes:
        figures: All measured numbers, those that are self-judged too.
        rows: Rows that were read.
        dropped: Rows and answers that were left out, by reason.
        arms: What each arm was: a version, a column, a pool or a file.
        items: The file of the values by row, JSON lines; what two evaluations have in common is compared by it.
    """

    figures: Sequence[Figure]
    rows: int
    dropped: Mapping[str, int]
    arms: Mapping[str, str]
    items: str = ""
