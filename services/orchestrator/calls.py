"""What the orchestrator asks other services for, and what they answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from ilf_common.errors import IlfError
from services.orchestrator.models import Hyperparameters, PostProcessing, Sampling, Template
from services.orchestrator.run import Usage

ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True)
class Item:
    """One item of a batch call; each call reads the fields that it needs."""

    item_id: str
    context: str
    initial_output: str = ""
    feedback: str = ""
    seed: int | None = None
    candidates: tuple[str, ...] = ()
    output: str = ""
    other_output: str = ""


@dataclass(frozen=True, slots=True)
class Outcome(Generic[ResultT]):
    """What became of one item of a batch: a result or an error."""

    item_id: str
    result: ResultT | None = None
    error: IlfError | None = None


@dataclass(frozen=True, slots=True)
class Texts:
    """Samples of one item, with the number of tokens of each."""

    texts: tuple[str, ...]
    token_counts: tuple[int, ...]
    usage: Usage


@dataclass(frozen=True, slots=True)
class TextScore:
    """Summed log-probability of a text in nats, and the tokens summed over."""

    logprob: float
    token_count: int


@dataclass(frozen=True)
class ServedModel:
    """A model of the refinement service: its digest, and where it was loaded from."""

    name: str
    digest: str
    source: str


@dataclass(frozen=True)
class SamplingCall:
    """What all items of a sampling call share."""

    model: str
    sampling: Sampling
    template: Template | None
    post_processing: PostProcessing | None


@dataclass(frozen=True)
class FinetuneOrder:
    """A supervised finetune job."""

    base_model: str
    dataset_uri: str
    output_uri: str
    hyperparameters: Hyperparameters
    template: Template | None
    merge_adapter: bool


@dataclass(frozen=True)
class JobStatus:
    """A finetune job as it stands.

    Attributes:
        state: PENDING, RUNNING, SUCCEEDED, FAILED or CANCELLED.
        message: Why the job is where it is, if the service says so.
        error: Set when it FAILED.
    """

    name: str
    state: str
    step: int = 0
    max_steps: int = 0
    message: str = ""
    error: IlfError | None = None
