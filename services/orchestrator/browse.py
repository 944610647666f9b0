"""Looking for runs and into them: why shards were made or reused, and their rows."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from ilf_common.errors import InvalidArgumentError, require
from ilf_common.rpc.pagination import DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE, decode_token, encode_token
from services.orchestrator.models import STAGES
from services.orchestrator.ports import ShardStore
from services.orchestrator.rows import COLUMNS, INPUT, Row, with_columns
from services.orchestrator.run import Run, RunState
from services.orchestrator.shards import ShardExplanation, ShardId, shard_count

_SHARD_STAGES = (INPUT, *(stage for stage in STAGES if stage in COLUMNS))
SAMPLE_STAGES = (INPUT, "generate", "feedback", "refine", "rank", "select")
"""What is known of a sample comes from these stages, in this order."""


_FAR = datetime(9999, 1, 1, tzinfo=UTC)


def matching(runs: Iterable[Run], states: Collection[RunState], text: str) -> list[Run]:
    """The runs in one of these states (all where there are none) whose name or policy contains a text in any case."""
    wanted = text.casefold()
    return [
        run
        for run in runs
        if (not states or run.state in states) and (wanted in run.name.casefold() or wanted in run.policy.casefold())
    ]


def newest_first(run: Run) -> str:
    """A key whose order is that of the runs' creation, the last one first; unique by the name."""
    return f"{(_FAR - run.create_time) // timedelta(microseconds=1):020d} {run.id}"


async def explain(shards: ShardStore, run: Run, page_size: int, page_token: str) -> tuple[list[ShardExplanation], str]:
    """One page of the run's published shards, in the order of the work."""
    size = page_size_of(page_size)
    after = _position(page_token, 3)
    found: list[ShardExplanation] = []
    last = (0, 0, 0)
    async for shard, position in _shards(shards, run, after):
        record = await shards.record(shard)
        if record is None:
            continue
        if len(found) == size:
            return found, _token(*last)
        outcome = "computed" if record.generation == run.generation else "reused"
        found.append(ShardExplanation(shard, record, outcome))
        last = position
    return found, ""


async def _shards(
    store: ShardStore, run: Run, after: tuple[int, ...] | None
) -> AsyncIterator[tuple[ShardId, tuple[int, int, int]]]:
    for iteration in range(run.spec.iterations + 1):
        inputs = 0 if iteration == 0 else iteration
        rows = await store.finished_rows(ShardId(run.id, inputs, INPUT, 0)) or 0
        # Training comes last in an iteration, but evaluation reads the test contexts, which are iteration 0's input.
        tested = await store.finished_rows(ShardId(run.id, 0, INPUT, 0)) or 0
        for number, stage in enumerate(_SHARD_STAGES):
            count = shard_count(tested if stage == "evaluate" else rows, run.spec.shard_rows)
            for index in range(count):
                position = (iteration, number, index)
                if after is None or position > after:
                    yield ShardId(run.id, iteration, stage, index), position


async def samples(
    shards: ShardStore, run: Run, iteration: int, page_size: int, page_token: str
) -> tuple[list[Row], str]:
    """One page of an iteration's rows as they are in the dataset, with all that is known of them so far."""
    size = page_size_of(page_size)
    index, offset = _position(page_token, 2) or (0, 0)
    found: list[Row] = []
    while rows := await sample_rows(shards, ShardId(run.id, iteration, INPUT, index)):
        part = rows[offset : offset + size - len(found)]
        found.extend(part)
        offset += len(part)
        if offset < len(rows):
            return found, _token(index, offset)
        index, offset = index + 1, 0
        if len(found) == size:
            more = await shards.record(ShardId(run.id, iteration, INPUT, index))
            return found, _token(index, 0) if more else ""
    return found, ""


async def sample_rows(store: ShardStore, first: ShardId, positions: Sequence[int] | None = None) -> list[Row]:
    """The rows of one shard, or those at some positions, with what every stage that has come by says about them."""
    rows: list[Row] | None = None
    parts = await store.read_stages([first.of_stage(stage) for stage in SAMPLE_STAGES], positions)
    for stage, columns in zip(SAMPLE_STAGES, parts, strict=False):
        rows = with_columns(stage, rows, columns)
        if stage == INPUT:
            # The dataset's feedback belongs to the dataset's initial output; what a run trains on, its own stage says.
            rows = [replace(row, feedback=None) for row in rows]
    return rows or []


def page_size_of(page_size: int) -> int:
    """Rows of a page.

    Raises:
        InvalidArgumentError: A negative size.
    """
    require(page_size >= 0, "page_size", f"must not be negative, is {page_size}")
    return min(page_size or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)


def _token(*position: int) -> str:
    return encode_token("/".join(map(str, position)))


def _position(token: str, parts: int) -> tuple[int, ...] | None:
    text = decode_token(token)
    if text is None:
        return None
    numbers = text.split("/")
    if len(numbers) != parts or not all(number.isdecimal() for number in numbers):
        raise InvalidArgumentError.of("page_token", "is no token that an earlier page answered")
    return tuple(map(int, numbers))
