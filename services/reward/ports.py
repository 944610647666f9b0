"""What is outside of the reward service."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Protocol

from ilf_common.rewards.card import RewardCard
from ilf_common.rewards.comparisons import Comparisons
from ilf_common.rewards.inputs import RewardInputs
from services.reward.models import BestOfNCall, SampledOutputs, StoredModels, TrainCall


class RewardModel(Protocol):
    """A reward model in memory. Its methods block; `score` is called by one thread at a time."""

    max_length: int
    """Longest sequence in tokens."""
    card: RewardCard
    """What its directory says of it."""
    inputs: RewardInputs
    """Makes token ids of texts, exactly as the trainer does."""

    def score(self, sequences: Sequence[Sequence[int]]) -> list[float]:
        """One number for each sequence of one forward pass; padding changes none of them."""
        ...

    def close(self) -> None:
        """Frees the model."""
        ...


class RewardModelLoader(Protocol):
    """Reads reward models."""

    def load(self, folder: Path) -> RewardModel:
        """Loads a directory and scores a first text with it.

        Raises:
            FailedPreconditionError: reason CHECKPOINT_UNSUPPORTED; it is no reward model, or cannot be loaded.
        """
        ...


class CheckpointSource(Protocol):
    """The artifact store, as far as it holds reward models. Its methods block."""

    def digest(self, uri: str) -> str:
        """The digest of the directory's manifest.

        Raises:
            InvalidArgumentError: reason URI_OUTSIDE_STORE.
            NotFoundError: reason CHECKPOINT_NOT_FOUND.
            FailedPreconditionError: reason CHECKPOINT_BROKEN.
        """
        ...

    def fetch(self, uri: str) -> Path:
        """The directory on this machine, every file checked against the manifest; errors as `digest`."""
        ...


class ComparisonSource(Protocol):
    """The artifact store, as far as it holds comparisons. Its methods block."""

    def read(self, uri: str, slice_column: str) -> Comparisons:
        """The comparisons of a dataset.

        Raises:
            InvalidArgumentError: reason URI_OUTSIDE_STORE, or DATASET_INVALID with the broken rows.
            NotFoundError: reason DATASET_NOT_FOUND.
        """
        ...


class ModelMemory(Protocol):
    """Remembers over a restart which models are loaded. Its methods block."""

    def read(self) -> StoredModels:
        """What was written last; nothing at the first start."""
        ...

    def write(self, models: StoredModels) -> None:
        """Replaces what is remembered, whole or not at all."""
        ...


class OutputSampler(Protocol):
    """The refinement service."""

    async def sample(self, call: BestOfNCall) -> SampledOutputs:
        """Draws `call.sampling.n` outputs. Errors are those of the refinement service."""
        ...


class RewardTrainer(Protocol):
    """The finetune service."""

    async def create_job(self, call: TrainCall) -> str:
        """Starts a job, once per request id, and answers its name. Errors are those of the finetune service."""
        ...


class Clock(Protocol):
    """The time."""

    def __call__(self) -> datetime:
        """Now, with its time zone."""
        ...
