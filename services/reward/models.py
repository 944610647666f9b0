"""What the reward service talks about: loaded reward models, texts to score, and the best of N samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Generic, TypeVar

from ilf_common.engine.port import Sample
from ilf_common.errors import FailedPreconditionError, IlfError
from ilf_common.rewards.card import RewardCard
from ilf_common.rewards.kinds import RewardLoss
from ilf_common.templates import PromptTemplate

ResultT = TypeVar("ResultT")


@dataclass(frozen=True)
class ModelVersion:
    """One loaded reward model.

    Attributes:
        name: Chosen by the caller.
        uri: Where its directory lies in the artifact store.
        digest: sha256 over the directory's manifest.
        load_time: When it began to serve.
        max_length: Longest sequence that it reads.
        card: What its directory says of it.
    """

    name: str
    uri: str
    digest: str
    load_time: datetime
    max_length: int
    card: RewardCard = field(default=RewardCard(), hash=False)

    def normalized(self, reward: float) -> float:
        """A reward in standard deviations from the mean.

        Raises:
            FailedPreconditionError: reason REWARD_STATISTICS_MISSING.
        """
        statistics = self.card.statistics
        if statistics is None or not statistics.std > 0:
            raise FailedPreconditionError(
                f"Reward model {self.name!r} has no mean and deviation of its rewards, so that nothing can be "
                "normalized; train it with this project's trainer, or leave normalize off.",
                reason="REWARD_STATISTICS_MISSING",
                metadata={"resource": self.name},
            )
        return (reward - statistics.mean) / statistics.std


@dataclass(frozen=True)
class StoredModel:
    """What is remembered of a loaded model over a restart."""

    name: str
    uri: str
    digest: str
    load_time: datetime


@dataclass(frozen=True)
class ScoreItem:
    """One output to score for its context."""

    item_id: str
    context: str
    output: str


@dataclass(frozen=True)
class CompareItem:
    """Two outputs to compare for their context."""

    item_id: str
    context: str
    output_a: str
    output_b: str


@dataclass(frozen=True)
class Reward:
    """The reward of one output.

    Attributes:
        value: The mean over the models.
        token_count: Tokens that the first model has read.
        probability: Mean probability of yes; None unless all models answer a yes/no question.
        spread: Population standard deviation over the models.
        by_model: In the order of the models.
    """

    value: float
    token_count: int
    probability: float | None = None
    spread: float = 0.0
    by_model: tuple[float, ...] = ()


@dataclass(frozen=True)
class Preference:
    """Which of two outputs is better.

    Attributes:
        probability_a: That it is the first; the mean over the models.
        spread: Population standard deviation over the models.
        by_model: In the order of the models.
    """

    probability_a: float
    spread: float = 0.0
    by_model: tuple[float, ...] = ()


@dataclass(frozen=True)
class ItemOutcome(Generic[ResultT]):
    """What became of one item of a batch: a result, or the error of this item alone."""

    item_id: str
    result: ResultT | None = None
    error: IlfError | None = None


@dataclass(frozen=True)
class SamplingChoice:
    """How to sample, as a request gives it; what is None or 0 is left to the refinement service."""

    n: int
    temperature: float | None = None
    top_p: float | None = None
    max_new_tokens: int = 0
    seed: int | None = None
    stop: tuple[str, ...] = ()


@dataclass(frozen=True)
class TemplateChoice:
    """A template as a request gives it: by content, by the name of a shipped one, or (all empty) the default."""

    name: str = ""
    text: str = ""
    target_prefix: str = ""


@dataclass(frozen=True)
class PostProcessingChoice:
    """How samples are cleaned and drawn again; the fields of `ilf.common.v1.PostProcessing`."""

    normalize_whitespace: bool = False
    first_line_only: bool = False
    drop_unfinished_sentence: bool = False
    resample_budget: int = 0
    forbidden_substrings: tuple[str, ...] = ()


@dataclass(frozen=True)
class BestOfNCall:
    """Draw N outputs for a context and keep the best."""

    reward_models: tuple[str, ...]
    model: str
    context: str
    sampling: SamplingChoice
    template: TemplateChoice = TemplateChoice()
    post_processing: PostProcessingChoice = PostProcessingChoice()


@dataclass(frozen=True)
class SampledOutputs:
    """What the refinement service drew."""

    samples: tuple[Sample, ...]
    model_version: str


@dataclass(frozen=True)
class BestOfN:
    """The samples with what decided between them; `chosen_index` names the highest, the first of equals."""

    samples: tuple[Sample, ...]
    rewards: tuple[float, ...]
    chosen_index: int
    model_version: str


@dataclass(frozen=True)
class TrainCall:
    """A reward model to train; 0 asks for the finetune service's default, as does None for the question."""

    request_id: str
    base_model: str
    dataset_uri: str
    output_uri: str
    learning_rate: float = 0.0
    epochs: float = 0.0
    batch_size: int = 0
    seed: int = 0
    max_length: int = 0
    lora: bool = False
    loss: RewardLoss = RewardLoss.BRADLEY_TERRY
    question: PromptTemplate | None = None
    held_out_uri: str = ""
    held_out_share: float = 0.0
    slice_column: str = ""


@dataclass(frozen=True)
class Limits:
    """What a service takes.

    Attributes:
        batch_tokens: Most tokens, padding included, of one forward pass; a longer sequence runs alone.
        max_batch_size: Most sequences of one forward pass.
        max_queue: Sequences that wait per model; a call beyond it is refused, unless nothing waits.
        window: Sequences that are sorted by length together.
    """

    batch_tokens: int = 16_384
    max_batch_size: int = 64
    max_queue: int = 16_384
    window: int = 1024


@dataclass(frozen=True)
class ScoreCall:
    """A batch of items to score."""

    models: tuple[str, ...]
    items: Sequence[ScoreItem]
    normalize: bool = False


@dataclass(frozen=True)
class CompareCall:
    """A batch of pairs to compare."""

    models: tuple[str, ...]
    items: Sequence[CompareItem]


@dataclass(frozen=True)
class EvaluateCall:
    """Comparisons on which reward models are measured."""

    models: tuple[str, ...]
    dataset_uri: str
    slice_column: str = ""


StoredModels = Mapping[str, StoredModel]
