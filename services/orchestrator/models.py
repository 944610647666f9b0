"""What a run is asked to do: its dataset, its stages, and how much may go wrong.

Field names are those of `ilf.orchestrator.v1`; the enums' values are the names of the proto's values.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

REWARD_MODEL = "reward_model"
"""The ranker that asks the reward service."""
STAGES = ("generate", "feedback", "refine", "rank", "select", "finetune", "evaluate")
"""The stages of an iteration, in order."""


class Seconds(float):
    """A duration in seconds."""


class Schedule(StrEnum):
    """What an iteration trains on, and from where."""

    UNSPECIFIED = "SCHEDULE_UNSPECIFIED"
    UNION = "SCHEDULE_UNION"
    CONTINUE = "SCHEDULE_CONTINUE"


class OutputSource(StrEnum):
    """Where initial outputs come from."""

    UNSPECIFIED = "SOURCE_UNSPECIFIED"
    POLICY = "SOURCE_POLICY"
    COLUMN = "SOURCE_COLUMN"


class FeedbackSource(StrEnum):
    """Where feedback comes from."""

    UNSPECIFIED = "SOURCE_UNSPECIFIED"
    COLUMN = "SOURCE_COLUMN"
    PLUGIN = "SOURCE_PLUGIN"
    CRITIC = "SOURCE_CRITIC"
    PEOPLE = "SOURCE_PEOPLE"


class NothingToChange(StrEnum):
    """What becomes of an item whose feedback asks for no change."""

    UNSPECIFIED = "NOTHING_TO_CHANGE_UNSPECIFIED"
    KEEP = "NOTHING_TO_CHANGE_KEEP"
    SKIP = "NOTHING_TO_CHANGE_SKIP"


class SelectionMethod(StrEnum):
    """What is kept of the ranked refinements."""

    UNSPECIFIED = "METHOD_UNSPECIFIED"
    ARGMAX = "METHOD_ARGMAX"
    SOFTMAX = "METHOD_SOFTMAX"
    TOP_K = "METHOD_TOP_K"


class Target(StrEnum):
    """Which text the policy learns for a context."""

    UNSPECIFIED = "TARGET_UNSPECIFIED"
    REFINEMENT = "TARGET_REFINEMENT"
    INITIAL_OUTPUT = "TARGET_INITIAL_OUTPUT"
    REFERENCE = "TARGET_REFERENCE"


@dataclass(frozen=True)
class Sampling:
    """How text is sampled; None and 0 mean the default of the stage."""

    n: int = 0
    temperature: float | None = None
    top_p: float | None = None
    max_new_tokens: int = 0
    seed: int | None = None
    stop: tuple[str, ...] = ()


@dataclass(frozen=True)
class Template:
    """A prompt as data; an empty text selects the template of that name that the called service ships."""

    name: str = ""
    text: str = ""
    target_prefix: str = ""
    positive_answers: tuple[str, ...] = ()
    negative_answers: tuple[str, ...] = ()


@dataclass(frozen=True)
class PostProcessing:
    """How samples are cleaned and which are drawn again."""

    normalize_whitespace: bool = False
    first_line_only: bool = False
    drop_unfinished_sentence: bool = False
    resample_budget: int = 0
    forbidden_substrings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Columns:
    """Names of the dataset's columns; empty means the word itself."""

    id: str = ""
    context: str = ""
    initial_output: str = ""
    feedback: str = ""
    reference: str = ""


@dataclass(frozen=True)
class DatasetSpec:
    """The three splits, by URI."""

    train_uri: str = ""
    dev_uri: str = ""
    test_uri: str = ""
    columns: Columns = Columns()


@dataclass(frozen=True)
class GenerateStage:
    """How initial outputs are made."""

    source: OutputSource = OutputSource.UNSPECIFIED
    sampling: Sampling = Sampling()
    template: Template | None = None
    post_processing: PostProcessing | None = None


@dataclass(frozen=True)
class FeedbackStage:
    """Who gives feedback, and how."""

    source: FeedbackSource = FeedbackSource.UNSPECIFIED
    critic: str = ""
    template: Template | None = None
    sampling: Sampling = Sampling()
    plugin_address: str = ""
    annotators_per_item: int = 0
    lease: Seconds | None = None
    nothing_to_change: tuple[str, ...] = ()
    on_nothing_to_change: NothingToChange = NothingToChange.UNSPECIFIED


@dataclass(frozen=True)
class RefineStage:
    """How refinements are sampled."""

    refiner: str = ""
    sampling: Sampling = Sampling()
    template: Template | None = None
    post_processing: PostProcessing | None = None


@dataclass(frozen=True)
class JudgeSpec:
    """A judge: a model of the ranking service and a prompt."""

    name: str = ""
    model: str = ""
    template: Template | None = None


@dataclass(frozen=True)
class RankerSpec:
    """How refinements are scored."""

    name: str = ""
    judges: tuple[JudgeSpec, ...] = ()
    seed: int = 0
    template_set: str = ""


@dataclass(frozen=True)
class RankStage:
    """The ranker of a run; `reward_models` are those of the ranker `reward_model`."""

    ranker: RankerSpec = RankerSpec()
    reward_models: tuple[str, ...] = ()

    @property
    def service(self) -> str:
        """Who ranks."""
        return "reward" if self.ranker.name == REWARD_MODEL else "ranking"


@dataclass(frozen=True)
class SelectStage:
    """What is kept of the ranked refinements."""

    method: SelectionMethod = SelectionMethod.UNSPECIFIED
    beta: float = 0.0
    k: int = 0


@dataclass(frozen=True)
class LoraSpec:
    """A low-rank adapter."""

    rank: int = 0
    alpha: float = 0.0
    dropout: float = 0.0
    target_modules: tuple[str, ...] = ()


@dataclass(frozen=True)
class Hyperparameters:
    """Settings of training; 0 means the finetune service's default."""

    learning_rate: float = 0.0
    epochs: float = 0.0
    batch_size: int = 0
    micro_batch_size: int = 0
    prompt_loss_weight: float = 0.0
    max_length: int = 0
    warmup_ratio: float = 0.0
    lr_schedule: str = ""
    weight_decay: float = 0.0
    max_grad_norm: float | None = None
    seed: int = 0
    lora: LoraSpec | None = None
    dtype: str = ""
    save_steps: int = 0
    gradient_checkpointing: bool = False


@dataclass(frozen=True)
class FinetuneStage:
    """How the policy is trained, and on what."""

    hyperparameters: Hyperparameters = Hyperparameters()
    target: Target = Target.UNSPECIFIED


@dataclass(frozen=True)
class BestOfNStage:
    """The best of N samples of a policy, by reward models; an N of 0 leaves it out."""

    n: int = 0
    reward_models: tuple[str, ...] = ()
    sampling: Sampling = Sampling()


@dataclass(frozen=True)
class EvaluateStage:
    """What is measured on the test contexts."""

    sampling: Sampling = Sampling()
    plugin_address: str = ""
    nll: bool = False
    judges: tuple[JudgeSpec, ...] = ()
    win_rate: bool = False
    disabled: bool = False
    best_of_n: BestOfNStage = BestOfNStage()


@dataclass(frozen=True)
class PeopleSpec:
    """What people who annotate a run are told, and how many of them are asked the same; changes no result."""

    guidelines: str = ""
    comparisons_per_pair: int = 1
    reviews_per_item: int = 1


@dataclass(frozen=True)
class RunSpec:
    """All that determines a run's results, and what people are told."""

    dataset: DatasetSpec = DatasetSpec()
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
