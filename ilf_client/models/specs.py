"""What a run is told: the same names as in `RunSpec` of the contract, and as the keys of a run's YAML file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum

from ilf_client.models.inference import JudgeSpec, PostProcessing, RankerSpec, SamplingParams
from ilf_client.models.jobs import Hyperparameters
from ilf_common.templates import PromptTemplate


@dataclass(frozen=True)
class ColumnMap:
    """Which fields of a row are what; empty means the word itself, SLF5K's names are understood as they are."""

    id: str = ""
    context: str = ""
    initial_output: str = ""
    feedback: str = ""
    reference: str = ""


@dataclass(frozen=True)
class DatasetSpec:
    """JSONL or Parquet in the artifact store, or `hf://name`; the three sets share no context."""

    train_uri: str = ""
    dev_uri: str = ""
    test_uri: str = ""
    columns: ColumnMap | None = None


class Schedule(Enum):
    """What an iteration trains."""

    UNSPECIFIED = "unspecified"
    UNION = "union"
    CONTINUE = "continue"


class OutputSource(Enum):
    """Where initial outputs come from."""

    UNSPECIFIED = "unspecified"
    POLICY = "policy"
    COLUMN = "column"


class FeedbackSource(Enum):
    """Who writes the feedback."""

    UNSPECIFIED = "unspecified"
    COLUMN = "column"
    PLUGIN = "plugin"
    CRITIC = "critic"
    PEOPLE = "people"


class NothingToChange(Enum):
    """What happens to an item whose feedback asks for no change."""

    UNSPECIFIED = "unspecified"
    KEEP = "keep"
    SKIP = "skip"


class SelectMethod(Enum):
    """What is kept of the ranked candidates."""

    UNSPECIFIED = "unspecified"
    ARGMAX = "argmax"
    SOFTMAX = "softmax"
    TOP_K = "top_k"


class FinetuneTarget(Enum):
    """What is learned; all but REFINEMENT are controls and baselines."""

    UNSPECIFIED = "unspecified"
    REFINEMENT = "refinement"
    INITIAL_OUTPUT = "initial_output"
    REFERENCE = "reference"


@dataclass(frozen=True)
class GenerateStage:
    """Initial outputs; the template is the policy's own prompt, which training and evaluation use too."""

    source: OutputSource = OutputSource.UNSPECIFIED
    sampling: SamplingParams | None = None
    template: PromptTemplate | str | None = None
    post_processing: PostProcessing | None = None


@dataclass(frozen=True)
class FeedbackStage:
    """Where feedback comes from.

    Attributes:
        source: A column, a program (plugin), a critic model, or people.
        critic: CRITIC: a model of the refinement service.
        template: CRITIC: its prompt.
        sampling: CRITIC: how it samples.
        plugin_address: PLUGIN: host:port of the program that the user runs.
        annotators_per_item: PEOPLE: default 1.
        lease: PEOPLE: how long a task stays with one annotator. Default 15 minutes.
        nothing_to_change: Feedback texts that ask for no change. PEOPLE: "Nothing to change." where none is given.
        on_nothing_to_change: KEEP trains on the initial output (default), SKIP leaves the item out.
    """

    source: FeedbackSource = FeedbackSource.UNSPECIFIED
    critic: str = ""
    template: PromptTemplate | str | None = None
    sampling: SamplingParams | None = None
    plugin_address: str = ""
    annotators_per_item: int = 0
    lease: timedelta | None = None
    nothing_to_change: Sequence[str] = ()
    on_nothing_to_change: NothingToChange = NothingToChange.UNSPECIFIED


@dataclass(frozen=True)
class RefineStage:
    """Who refines, and how."""

    refiner: str = ""
    sampling: SamplingParams | None = None
    template: PromptTemplate | str | None = None
    post_processing: PostProcessing | None = None


@dataclass(frozen=True)
class RankStage:
    """How candidates are scored: by a ranker of the ranking service, or by `reward_model`.

    Attributes:
        ranker: Its name, or a spec with judges.
        reward_models: reward_model: one model of the reward service or several; then the mean of their normalized
            rewards decides, and with an A_B model among them the mean probability to beat each of the others.
    """

    ranker: RankerSpec = field(default_factory=RankerSpec)
    reward_models: Sequence[str] = ()


@dataclass(frozen=True)
class SelectStage:
    """What is kept: the best, a softmax of sharpness `beta`, or the best `k`."""

    method: SelectMethod = SelectMethod.UNSPECIFIED
    beta: float = 0.0
    k: int = 0


@dataclass(frozen=True)
class FinetuneStage:
    """How the policy is trained."""

    hyperparameters: Hyperparameters = field(default_factory=Hyperparameters)
    target: FinetuneTarget = FinetuneTarget.UNSPECIFIED


@dataclass(frozen=True)
class BestOfNStage:
    """The best of N samples of a policy.

    Attributes:
        n: N; 0 leaves it out.
        reward_models: Choose the sample: one model of the reward service, or several (as in `RankStage`).
        sampling: Its `n` stays unset. Default: temperature 1, top-p 0.95.
    """

    n: int = 0
    reward_models: Sequence[str] = ()
    sampling: SamplingParams | None = None


@dataclass(frozen=True)
class EvaluateStage:
    """How an iteration's policy is measured on the test contexts.

    Attributes:
        sampling: Temperature 0 is greedy.
        plugin_address: host:port of the program with the task's exact metric; empty leaves it out.
        nll: Negative log-likelihood of the test references.
        judges: Comparison judges for the win rate.
        win_rate: Win rate against the initial policy.
        disabled: Skip the stage.
        best_of_n: The best of N samples of the policy, beside its single output.
    """

    sampling: SamplingParams | None = None
    plugin_address: str = ""
    nll: bool = False
    judges: Sequence[JudgeSpec] = ()
    win_rate: bool = False
    disabled: bool = False
    best_of_n: BestOfNStage = field(default_factory=BestOfNStage)


@dataclass(frozen=True)
class PeopleSpec:
    """What people who annotate the run are told and asked; nothing here changes what a run computes.

    Attributes:
        guidelines: Shown beside every task, as plain text.
        comparisons_per_pair: Different people who compare each pair. Default 1.
        reviews_per_item: Different people who review each refinement. Default 1.
    """

    guidelines: str = ""
    comparisons_per_pair: int = 0
    reviews_per_item: int = 0


@dataclass(frozen=True)
class RunSpec:
    """A whole run.

    Attributes:
        dataset: Train, dev and test contexts.
        iterations: Default 1.
        schedule: UNION restarts from the base on all rounds' refinements (default), CONTINUE trains the last policy on.
        seed: Determines every random choice of the run.
        shard_rows: Rows of one shard. Default 256.
        max_bad_row_share: Share of a stage's rows that may fail before the run does. Default 0.05.
        reuse_contexts: All iterations see all training contexts, instead of disjoint parts.
        contexts_per_iteration: 0 splits the training set evenly.
        policy: The model of the refinement service that iteration 0 generates from.
        base_model: What training starts from; empty means what `policy` was loaded from.
        generate: Initial outputs.
        feedback: Who says what is wrong.
        refine: Refinements.
        rank: Scores.
        select: What is kept.
        finetune: Training.
        evaluate: Measuring.
        preview_rows: Only so many rows go through generate, feedback, refine and rank; nothing is trained.
        people: What annotators are told and asked.
    """

    dataset: DatasetSpec = field(default_factory=DatasetSpec)
    iterations: int = 0
    schedule: Schedule = Schedule.UNSPECIFIED
    seed: int = 0
    shard_rows: int = 0
    max_bad_row_share: float | None = None
    reuse_contexts: bool = False
    contexts_per_iteration: int = 0
    policy: str = ""
    base_model: str = ""
    generate: GenerateStage = field(default_factory=GenerateStage)
    feedback: FeedbackStage = field(default_factory=FeedbackStage)
    refine: RefineStage = field(default_factory=RefineStage)
    rank: RankStage = field(default_factory=RankStage)
    select: SelectStage = field(default_factory=SelectStage)
    finetune: FinetuneStage = field(default_factory=FinetuneStage)
    evaluate: EvaluateStage = field(default_factory=EvaluateStage)
    preview_rows: int = 0
    people: PeopleSpec = field(default_factory=PeopleSpec)
