"""What the reward service talks about: loaded reward models, texts to score, and the best of N samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from ilf_common.engine.port import Sample
from ilf_common.errors import FailedPreconditionError, IlfError


@dataclass(frozen=True)
class RewardStatistics:
    """Mean and standard deviation of a model's rewards over its training comparisons."""

    mean: float
    std: float


@dataclass(frozen=True)
class ModelVersion:
    """One loaded reward model.

    Attributes:
        name: Chosen by the caller.
        uri: Where its directory lies in the artifact store.
        digest: sha256 over the directory's manifest.
        load_time: When it began to serve.
        max_length: Longest sequence of prompt, output and end-of-sequence token.
        statistics: None where the directory holds none.
    """

    name: str
    uri: str
    digest: str
    load_time: datetime
    max_length: int
    statistics: RewardStatistics | None

    def normalized(self, reward: float) -> float:
        """A reward in standard deviations from the mean.

        Raises:
            FailedPreconditionError: reason REWARD_STATISTICS_MISSING.
        """
        if self.statistics is None or not self.statistics.std > 0:
            raise FailedPreconditionError(
                f"Reward model {self.name!r} has no mean and deviation of its rewards, so that nothing can be "
                "normalized; train it with this project's trainer, or leave normalize off.",
                reason="REWARD_STATISTICS_MISSING",
                metadata={"resource": self.name},
            )
        return (reward - self.statistics.mean) / self.statistics.std


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
class Reward:
    """A reward, and the tokens that it was read from (prompt, output and end-of-sequence token)."""

    value: float
    token_count: int


@dataclass(frozen=True)
class ItemOutcome:
    """What became of one item of a batch: a reward, or the error of this item alone."""

    item_id: str
    reward: Reward | None = None
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

    reward_model: str
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
    """The samples with their rewards; `chosen_index` names the highest, the first of equals."""

    samples: tuple[Sample, ...]
    rewards: tuple[float, ...]
    chosen_index: int
    model_version: str


@dataclass(frozen=True)
class TrainCall:
    """A reward model to train; 0 asks for the finetune service's default."""

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

    model: str
    items: Sequence[ScoreItem]
    normalize: bool = False


StoredModels = Mapping[str, StoredModel]
