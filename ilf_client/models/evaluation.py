"""What best-of-N and evaluations are told, and what they found: the keys of their YAML files and JSON results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ilf_client.models.inference import PostProcessing, RankerSpec, SamplingParams
from ilf_client.models.specs import ColumnMap
from ilf_common.statistics.best_of import BestOfPoint
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
