"""What the orchestrator needs from outside: the other services, the artifact store, datasets, and its own state."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeVar

from ilf_common.datasets import DatasetRow, RowError
from services.orchestrator.calls import (
    FinetuneOrder,
    Item,
    JobStatus,
    Outcome,
    SamplingCall,
    ServedModel,
    Texts,
    TextScore,
)
from services.orchestrator.models import (
    JudgeSpec,
    RankerSpec,
    RunSpec,
    Template,
)
from services.orchestrator.rows import Column, Row, Score
from services.orchestrator.run import Run
from services.orchestrator.sample_query import SamplePlace, SampleQuery
from services.orchestrator.shards import ShardId, ShardRecord
from services.orchestrator.tasks import Task, TaskKind

StepT = TypeVar("StepT")


class Refinement(Protocol):
    """The refinement service. All calls raise `UnavailableError` where it does not answer."""

    async def model(self, name: str) -> ServedModel:
        """A model as it is served."""
        ...

    def generate(self, call: SamplingCall, items: Sequence[Item]) -> AsyncIterator[list[Outcome[Texts]]]:
        """Samples outputs for the items' contexts."""
        ...

    def refine(self, call: SamplingCall, items: Sequence[Item]) -> AsyncIterator[list[Outcome[Texts]]]:
        """Samples refinements of the items' initial outputs."""
        ...

    def score_texts(
        self, model: str, template: Template | None, items: Sequence[Item]
    ) -> AsyncIterator[list[Outcome[TextScore]]]:
        """Scores `output` of each item."""
        ...

    async def load_policy(self, *, request_id: str, name: str, uri: str, base_model: str) -> None:
        """Loads a checkpoint under a name; an empty `base_model` means that it is no adapter."""
        ...


class Ranking(Protocol):
    """The ranking service."""

    async def ranker_digest(self, ranker: RankerSpec) -> str:
        """Digest of what the server says about a ranker of this name."""
        ...

    def rank(self, ranker: RankerSpec, items: Sequence[Item]) -> AsyncIterator[list[Outcome[tuple[Score, ...]]]]:
        """Scores each item's candidates."""
        ...

    def compare(self, judges: Sequence[JudgeSpec], items: Sequence[Item]) -> AsyncIterator[list[Outcome[float]]]:
        """Probability that `output` is better than `other_output`."""
        ...


class Reward(Protocol):
    """The reward service."""

    async def models_digest(self, models: Sequence[str]) -> str:
        """Digest of the checkpoints that the models serve."""
        ...

    def rank(self, models: Sequence[str], items: Sequence[Item]) -> AsyncIterator[list[Outcome[tuple[Score, ...]]]]:
        """Scores each item's candidates."""
        ...


class Finetune(Protocol):
    """The finetune service."""

    async def create(self, request_id: str, order: FinetuneOrder) -> str:
        """Name of the job with this request id, new or not."""
        ...

    def watch(self, job: str) -> AsyncIterator[JobStatus]:
        """The job now and at each change, until it has ended."""
        ...

    async def cancel(self, job: str) -> None:
        """Ends the job's processes; a finished job stays what it is."""
        ...


class Plugin(Protocol):
    """Programs that users run, by address."""

    async def give_feedback(self, address: str, items: Sequence[Item]) -> list[str]:
        """One feedback text on each item's `output`."""
        ...

    async def score_outputs(self, address: str, items: Sequence[Item]) -> list[float]:
        """The task's exact metric of each item's `output`."""
        ...


@dataclass(frozen=True)
class TrainingRow:
    """One row of a finetune dataset."""

    item_id: str
    context: str
    completion: str
    weight: float


class ShardStore(Protocol):
    """Shards in the artifact store. A part exists from the moment its record does."""

    async def record(self, shard: ShardId) -> ShardRecord | None:
        """What is known of a published shard, None where there is none."""
        ...

    async def read(self, shard: ShardId, record: ShardRecord) -> dict[str, Column] | None:
        """The columns of a part; None where its bytes are not those of the record."""
        ...

    async def read_stages(
        self, stages: Sequence[ShardId], positions: Sequence[int] | None = None
    ) -> list[dict[str, Column]]:
        """The columns of one shard's parts, or of their rows at some positions, up to the first missing part."""
        ...

    async def publish(self, shard: ShardId, columns: Mapping[str, Column], record: ShardRecord) -> ShardRecord:
        """Writes a part, then its record with size and digest filled in."""
        ...

    async def finish(self, first: ShardId, rows: int, shard_rows: int) -> None:
        """Writes the manifest of a stage all of whose shards are published."""
        ...

    async def finished_rows(self, first: ShardId) -> int | None:
        """Rows of a stage that was finished, None where it was not."""
        ...

    async def publish_training_data(
        self,
        run_id: str,
        iteration: int,
        sources: Sequence[ShardId],
        convert: Callable[[int, list[Row]], list[TrainingRow]],
    ) -> tuple[str, int]:
        """Writes the finetune dataset of an iteration; answers its URI and the number of its rows.

        `sources` are select shards of finished iterations, read one at a time with all that lies before them;
        `convert` makes training rows of a shard's iteration and rows.
        """
        ...

    def checkpoint_uri(self, run_id: str, iteration: int) -> str:
        """Where the checkpoint of an iteration is published."""
        ...


@dataclass(frozen=True)
class FoundSamples:
    """Where the rows are that a query wants, in its order.

    Attributes:
        total: Rows that the filter lets through, wherever the search began.
    """

    places: tuple[SamplePlace, ...]
    total: int


class SampleIndex(Protocol):
    """What samples are found by. It follows from the shards, and may be lost at any time."""

    def prepare(self, run: Run, iteration: int) -> None:
        """Begins to bring itself up to date with the shards of an iteration, which somebody looks at."""
        ...

    async def find(
        self, run: Run, iteration: int, query: SampleQuery, after: SamplePlace | None, limit: int
    ) -> FoundSamples:
        """The first rows of a query, or the first ones after a place; brings itself up to date with the shards."""
        ...


@dataclass(frozen=True)
class DatasetReport:
    """What the door found in a dataset.

    Attributes:
        boundaries: See `Plan`.
    """

    train_rows: int
    test_rows: int
    boundaries: tuple[int, ...]


class Datasets(Protocol):
    """Datasets by URI."""

    async def inspect(self, spec: RunSpec) -> DatasetReport:
        """Reads every split once and checks what must hold before a run starts.

        Raises:
            NotFoundError, InvalidArgumentError: As `ilf_common.datasets.open_dataset` and `inspection.inspect`.
        """
        ...

    def batches(self, spec: RunSpec, split: str) -> AsyncIterator[list[DatasetRow | RowError]]:
        """The rows of "train" or "test" in order, some at a time."""
        ...


class RunStore(Protocol):
    """Runs in the database."""

    async def create(self, run: Run, request_digest: str) -> Run:
        """Stores a run; a run with the same request id and digest is answered instead.

        Raises:
            AlreadyExistsError: REQUEST_ID_CONFLICT or RUN_EXISTS.
        """
        ...

    async def by_request(self, request_id: str, request_digest: str) -> Run | None:
        """The run that a request made before.

        Raises:
            AlreadyExistsError: REQUEST_ID_CONFLICT; it was another request.
        """
        ...

    async def get(self, run_id: str) -> Run | None:
        """A run by id."""
        ...

    async def all_runs(self) -> list[Run]:
        """All runs, oldest first."""
        ...

    async def newest_ids(self) -> list[str]:
        """The ids of all runs, newest first."""
        ...

    async def save(self, run: Run) -> None:
        """Replaces what is stored of a run."""
        ...


class TaskStore(Protocol):
    """Tasks of people in the database. One process writes, so each call is one transaction and no more."""

    async def add(self, tasks: Sequence[Task]) -> None:
        """Adds tasks of one shard; those that are there stay what they are."""
        ...

    async def get(self, kind: TaskKind, run_id: str, task_id: str) -> Task | None:
        """A task by id."""
        ...

    async def change(self, kind: TaskKind, run_id: str, task_id: str, change: Callable[[Task], Task]) -> Task | None:
        """Replaces a task by what `change` makes of it; None where there is no such task."""
        ...

    async def skip(
        self, kind: TaskKind, run_id: str, task_id: str, annotator: str, change: Callable[[Task], Task]
    ) -> Task | None:
        """As `change`, and if that changes it, never offers the task's group to this annotator again."""
        ...

    async def renew(self, kind: TaskKind, run_id: str, annotator: str, *, limit: int, now: datetime) -> list[Task]:
        """The annotator's own leases of a run, or of all runs (""), from now on."""
        ...

    async def lease(self, kind: TaskKind, run_id: str, annotator: str, *, limit: int, now: datetime) -> list[Task]:
        """Open tasks of a run, of groups that the annotator has not seen, now leased."""
        ...

    async def page(self, kind: TaskKind, run_id: str, *, after: str, limit: int) -> list[Task]:
        """Tasks in the order of their names, those after the name `after`; `run_id` "" for all runs."""
        ...

    async def progress(self, kind: TaskKind, run_id: str, iteration: int | None = None) -> tuple[int, int]:
        """How many tasks are done, and how many there are; `run_id` "" for all runs."""
        ...

    async def answers(self, run_id: str, iteration: int, shard: int) -> dict[str, list[str]]:
        """Feedback by item id, in the order of the annotators' names."""
        ...

    async def answered_by(self, annotator: str, run_id: str, *, before: datetime | None, limit: int) -> list[Task]:
        """The annotator's answers of all kinds, newest first, those from before a time; `run_id` "" for all runs."""
        ...

    async def count_answers(self, annotator: str, run_id: str, *, since: datetime | None) -> int:
        """How many answers of all kinds the annotator has given, ever or since a time; `run_id` "" for all runs."""
        ...

    async def close(self, run_id: str, iteration: int) -> None:
        """Makes the feedback of an iteration final."""
        ...

    async def asked_shards(self, kind: TaskKind, run_id: str, iteration: int) -> set[int]:
        """Shards that have tasks of a kind."""
        ...


class Steps(Protocol):
    """Durable steps of a run's workflow: a step that finished once is not begun again."""

    async def run(self, name: str, action: Callable[[], Awaitable[StepT]]) -> StepT:
        """Runs an action, or answers what it answered before; its answer must be JSON."""
        ...


class Workflows(Protocol):
    """The durable workflow engine."""

    async def start(self, workflow_id: str, run_id: str) -> None:
        """Starts the loop of a run under an id that is new."""
        ...

    async def continues(self, workflow_id: str) -> bool:
        """Whether the engine has this workflow and will finish it without being asked."""
        ...


class Clock(Protocol):
    """Time."""

    def now(self) -> datetime:
        """The time in UTC."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Waits."""
        ...
