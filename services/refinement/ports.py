"""What the refinement service needs from outside."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from ilf_common.engine.port import TextEngine
from services.refinement.models import Checkpoint, PolicyRecords


class EngineFactory(Protocol):
    """Makes the engine for a model; the caller starts and stops it."""

    def __call__(self, source: str) -> TextEngine:
        """An engine for a local directory or a hub id, not yet started."""
        ...


class CheckpointStore(Protocol):
    """Finds checkpoints by URI."""

    async def open(self, uri: str) -> Checkpoint:
        """A checkpoint whose files were checked against its manifest.

        Raises:
            InvalidArgumentError: reason URI_OUTSIDE_STORE.
            NotFoundError: reason CHECKPOINT_NOT_FOUND.
            FailedPreconditionError: reason CHECKPOINT_BROKEN or CHECKPOINT_UNSUPPORTED.
        """
        ...


class SourceReader(Protocol):
    """Looks at the sources of configured models."""

    async def digest(self, source: str) -> str:
        """A digest of the model's files where it is a local directory, else of its name."""
        ...

    async def same_model(self, one: str, other: str) -> bool:
        """Whether two sources can be the same model, as far as can be seen without loading them."""
        ...


class PolicyRecordStore(Protocol):
    """Keeps the loaded versions and aliases over restarts."""

    def load(self) -> PolicyRecords:
        """What was saved last; nothing at the first start."""
        ...

    def save(self, records: PolicyRecords) -> None:
        """Writes the records whole or not at all; they are on the disk when it returns."""
        ...


class Metrics(Protocol):
    """Counts what is done, by model; never sees a text."""

    def items_finished(self, model: str, call: str, outcome: str, count: int) -> None:
        """Items of a call (refine, generate, score_text) ended; the outcome is `ok` or an error's reason."""
        ...

    def tokens(self, model: str, prompt: int, completion: int) -> None:
        """Tokens that an engine worked on."""
        ...

    def running(self, model: str, items: int) -> None:
        """Items in flight of a model changed to this number."""
        ...

    def queue(self, items: int) -> None:
        """Items in flight of all models changed to this number."""
        ...

    def forget(self, model: str) -> None:
        """This model serves no more."""
        ...


class Clock(Protocol):
    """The time of day."""

    def __call__(self) -> datetime:
        """Now, with its time zone."""
        ...
