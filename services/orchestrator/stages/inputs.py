"""Before the first stage: the dataset cut into the shards of each iteration's items."""

from __future__ import annotations

from collections.abc import Iterable

from ilf_common.datasets import DatasetRow, RowError
from services.orchestrator.codec import digest_of
from services.orchestrator.rows import INPUT, Failure, Row, to_columns
from services.orchestrator.shards import STAGE_VERSIONS, ShardRecord, shard_key
from services.orchestrator.splitting import iteration_of
from services.orchestrator.work import RunWork

EVALUATION = 0
"""Number of the iteration whose input are the test contexts."""


async def write_inputs(work: RunWork) -> dict[str, int]:
    """Writes the input shards of all iterations; answers their rows by iteration number, as JSON has it."""
    spec = work.spec
    iterations = [1] if spec.preview_rows else list(range(1, spec.iterations + 1))
    found = {str(number): await _finished(work, number) for number in iterations}
    if any(rows is None for rows in found.values()):
        found.update(await _write(work, "train", iterations))
    if not spec.preview_rows and not spec.evaluate.disabled:
        tested = await _finished(work, EVALUATION)
        found[str(EVALUATION)] = (await _write(work, "test", [EVALUATION]))["0"] if tested is None else tested
    return {number: rows or 0 for number, rows in found.items()}


async def _finished(work: RunWork, iteration: int) -> int | None:
    return await work.shards.finished_rows(work.shard(iteration, INPUT, 0))


async def _write(work: RunWork, split: str, iterations: list[int]) -> dict[str, int | None]:
    """One pass over a split, with one open shard an iteration."""
    writers = {number: _Writer(work, number) for number in iterations}
    count = 0
    async for batch in work.datasets.batches(work.spec, split):
        for entry in batch:
            count += 1
            for number in _owners(work, split, entry, count):
                if number in writers:
                    await writers[number].add(_row(entry))
        if work.spec.preview_rows and all(writer.full for writer in writers.values()):
            break
    return {str(number): await writer.finish() for number, writer in writers.items()}


def _owners(work: RunWork, split: str, entry: DatasetRow | RowError, count: int) -> Iterable[int]:
    """The iterations that a row belongs to. A bad row has no context; it goes where its number says."""
    spec, boundaries = work.spec, work.run.plan.boundaries
    if split == "test":
        return [EVALUATION]
    if isinstance(entry, RowError):
        return [1 + count % spec.iterations]
    part = iteration_of(boundaries, spec.seed, entry.context)
    if part is None:
        return []
    return range(1, spec.iterations + 1) if spec.reuse_contexts else [part]


def _row(entry: DatasetRow | RowError) -> Row:
    if isinstance(entry, DatasetRow):
        return Row(entry.id, entry.context, entry.initial_output, entry.feedback, entry.reference)
    failure = Failure(
        INPUT, "InvalidArgumentError", "DATASET_INVALID", f"row {entry.row}: {entry.field} {entry.message}"
    )
    # A repeated id would make two rows one in every later stage.
    return Row(f"{entry.id}#row-{entry.row}", failure=failure)


class _Writer:
    """Fills the input shards of one iteration."""

    def __init__(self, work: RunWork, iteration: int) -> None:
        self._work = work
        self._iteration = iteration
        self._rows: list[Row] = []
        self._index = 0
        self._count = 0

    @property
    def full(self) -> bool:
        """Whether a preview has all the rows that it wants."""
        return 0 < self._work.spec.preview_rows <= self._count

    async def add(self, row: Row) -> None:
        if self.full:
            return
        self._rows.append(row)
        self._count += 1
        if len(self._rows) == self._work.spec.shard_rows:
            await self._flush()

    async def finish(self) -> int:
        if self._rows:
            await self._flush()
        await self._work.shards.finish(
            self._work.shard(self._iteration, INPUT, 0), self._count, self._work.spec.shard_rows
        )
        return self._count

    async def _flush(self) -> None:
        shard = self._work.shard(self._iteration, INPUT, self._index)
        columns = to_columns(INPUT, self._rows)
        parts = {"stage_version": str(STAGE_VERSIONS[INPUT]), "rows": digest_of(columns)}
        published = await self._work.shards.record(shard)
        if published is None or published.key != shard_key(parts):
            record = ShardRecord(
                key=shard_key(parts),
                key_parts=parts,
                sha256="",
                size=0,
                rows=len(self._rows),
                bad_rows=sum(1 for row in self._rows if row.failure),
                generation=self._work.run.generation,
            )
            await self._work.shards.publish(shard, columns, record)
        self._rows = []
        self._index += 1
