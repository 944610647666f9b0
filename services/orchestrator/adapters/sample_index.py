"""What samples are found by: one DuckDB file an iteration, which follows the shards and may be deleted at any time."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count, takewhile
from pathlib import Path

import duckdb
import pyarrow as pa

from ilf_common.errors import UnavailableError
from services.orchestrator.adapters import sample_sql
from services.orchestrator.adapters.shard_files import ShardFiles
from services.orchestrator.browse import SAMPLE_STAGES
from services.orchestrator.ports import FoundSamples
from services.orchestrator.rows import INPUT
from services.orchestrator.run import Run
from services.orchestrator.sample_query import SamplePlace, SampleQuery
from services.orchestrator.shards import ShardId, ShardRecord, shard_count

# A checkpoint writes the last rows of a table anew, so there should be few. Nothing is fetched from anywhere, and no
# statement reaches other files.
_CONFIG: dict[str, str | bool | int | float | list[str]] = {
    "memory_limit": "256MB",
    "threads": 2,
    "checkpoint_threshold": "128MB",
    "enable_external_access": False,
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
}
_READERS = 8
_RETRY_SECONDS = 5.0
_KEPT_SECONDS = 3600.0
_ROWS_AT_ONCE = 8192
_SCORE = "scores.list.element"
_COLUMNS = {
    INPUT: ("item_id", "context", "initial_output"),
    "generate": ("initial_output",),
    "feedback": ("feedback",),
    "refine": ("refinements",),
    "rank": (f"{_SCORE}.score", f"{_SCORE}.spread", f"{_SCORE}.missing_mass"),
    "select": ("chosen_index",),
}
_SCORES = pa.list_(pa.struct([(name, pa.float64()) for name in ("score", "spread", "missing_mass")]))
_INCOMING = pa.schema(
    [
        ("shard", pa.int64()),
        ("position", pa.int64()),
        ("item_id", pa.string()),
        ("failed", pa.bool_()),
        ("context", pa.string()),
        ("initial_output", pa.string()),
        ("feedback", pa.string()),
        ("refinements", pa.list_(pa.string())),
        ("scores", _SCORES),
        ("chosen_index", pa.int32()),
    ]
)


@dataclass(frozen=True)
class _Shard:
    """A shard as its stages' records describe it now."""

    first: ShardId
    records: Sequence[ShardRecord]

    @property
    def version(self) -> str:
        """Changes with the content of any stage."""
        return hashlib.sha256("".join(record.sha256 for record in self.records).encode()).hexdigest()

    def settled(self, run: Run) -> bool:
        """Whether it stays what it is until the run works anew."""
        whole = len(self.records) == len(SAMPLE_STAGES)
        return run.ended or (whole and self.records[-1].generation == run.generation)


class SampleIndexFiles:
    """Implements `ports.SampleIndex`.

    Args:
        folder: Where the files lie.
        shards: What they follow from.
        patience: Seconds that a caller waits for many shards to be taken in.
        most_bytes: Of all files together; beyond that those go that nobody asked for longest. None of the last hour
            goes, so that no search loses its file.
    """

    def __init__(
        self, folder: Path, shards: ShardFiles, *, patience: float = 20.0, most_bytes: int = 4 * 1024**3
    ) -> None:
        self._folder = folder
        self._shards = shards
        self._patience = patience
        self._most_bytes = most_bytes
        self._stopped = threading.Event()
        self._following: dict[Path, asyncio.Task[None]] = {}
        self._locks: defaultdict[Path, asyncio.Lock] = defaultdict(asyncio.Lock)

    def prepare(self, run: Run, iteration: int) -> None:
        """Begins to bring the file up to date, for whoever may ask next; what goes wrong is told to who asks."""
        self._begin(self._path(run, iteration), run, iteration)

    async def find(
        self, run: Run, iteration: int, query: SampleQuery, after: SamplePlace | None, limit: int
    ) -> FoundSamples:
        """The first rows of a query, or the first ones after a place; brings the file up to date before.

        Raises:
            UnavailableError: SAMPLES_NOT_INDEXED; many shards are to be taken in, which goes on meanwhile.
        """
        path = self._path(run, iteration)
        await self._follow(path, run, iteration)
        # A file is opened once at a time, also when the caller has gone while the search is at work.
        return await asyncio.shield(self._search(path, query, after, limit))

    async def _follow(self, path: Path, run: Run, iteration: int) -> None:
        """Waits for the file to follow the shards as they are now; all who ask meanwhile wait for the same work.

        What has begun before may have passed by a shard that is published since: it is waited for, then done again,
        which costs little.
        """
        try:
            async with asyncio.timeout(self._patience):
                if before := self._following.get(path):
                    await asyncio.wait({before})
                await asyncio.shield(self._begin(path, run, iteration))
        except TimeoutError:
            raise UnavailableError(
                f"The samples of {run.name}, iteration {iteration}, are being indexed, which many samples need once. "
                "Ask again in some seconds.",
                reason="SAMPLES_NOT_INDEXED",
                metadata={"resource": run.name},
                retry_after=_RETRY_SECONDS,
            ) from None

    def _begin(self, path: Path, run: Run, iteration: int) -> asyncio.Task[None]:
        if path not in self._following:
            work = asyncio.create_task(self._take_in(path, run, iteration))
            work.add_done_callback(lambda done: done.cancelled() or done.exception())
            work.add_done_callback(lambda _: self._following.pop(path))
            self._following[path] = work
        return self._following[path]

    async def _take_in(self, path: Path, run: Run, iteration: int) -> None:
        first = ShardId(run.id, iteration, INPUT, 0)
        rows = await self._shards.finished_rows(first)
        async with self._locks[path]:
            await asyncio.to_thread(self._refresh, path, run, first, rows)
        await asyncio.to_thread(self._make_room)

    async def _search(self, path: Path, query: SampleQuery, after: SamplePlace | None, limit: int) -> FoundSamples:
        def search() -> FoundSamples:
            with _opened(path) as database:
                return sample_sql.find(database, query, after, limit)

        async with self._locks[path]:
            return await asyncio.to_thread(search)

    def stop(self) -> None:
        """Ends the work after the shards at hand; the next process goes on with the others."""
        self._stopped.set()

    def _make_room(self) -> None:
        """Deletes files that were not asked for lately while all together are too large; they can be made again."""
        facts: dict[Path, os.stat_result] = {}
        for path in self._folder.rglob("*.duckdb"):
            with contextlib.suppress(FileNotFoundError):  # another call made room, or began a file anew
                facts[path] = path.stat()
        size = sum(fact.st_size for fact in facts.values())
        for path, fact in sorted(facts.items(), key=lambda one: one[1].st_mtime):
            if size <= self._most_bytes or time.time() - fact.st_mtime < _KEPT_SECONDS:
                return
            _delete(path)
            size -= fact.st_size

    def _path(self, run: Run, iteration: int) -> Path:
        return self._folder / f"layout-{sample_sql.LAYOUT}" / run.id / f"it-{iteration}.duckdb"

    def _refresh(self, path: Path, run: Run, first: ShardId, rows: int | None) -> None:
        """Takes in what shards were published or changed since the last time."""
        with _opened(path) as database, ThreadPoolExecutor(_READERS) as readers:
            if rows is not None and sample_sql.settled(database, run.generation) == shard_count(
                rows, run.spec.shard_rows
            ):
                return
            known = sample_sql.versions(database)
            shards = (ShardId(run.id, first.iteration, INPUT, index) for index in self._indices(run, first, rows))
            open_ones = [one for one in shards if known.get(one.index, ("", -1))[1] != run.generation]
            for some in _in_parts(open_ones, max(1, _ROWS_AT_ONCE // run.spec.shard_rows)):
                if self._stopped.is_set():
                    raise UnavailableError("The orchestrator is going down; ask again when it is back.")
                now = [shard for shard in readers.map(self._look, some) if shard.records]
                if not now:
                    continue
                changed = [one for one in now if known.get(one.first.index, ("", -1))[0] != one.version]
                tables = list(readers.map(self._table, changed))
                sample_sql.replace(
                    database,
                    pa.concat_tables(tables) if tables else _INCOMING.empty_table(),
                    [(one.first.index, one.version, run.generation if one.settled(run) else -1) for one in now],
                    [one.first.index for one in changed],
                )

    def _indices(self, run: Run, first: ShardId, rows: int | None) -> Iterable[int]:
        """Numbers of the iteration's shards; while its input is being written, of those that are there."""
        if rows is not None:
            return range(shard_count(rows, run.spec.shard_rows))
        return takewhile(
            lambda index: self._shards.record_now(ShardId(run.id, first.iteration, INPUT, index)) is not None, count()
        )

    def _look(self, first: ShardId) -> _Shard:
        records = (self._shards.record_now(first.of_stage(stage)) for stage in SAMPLE_STAGES)
        return _Shard(first, list(takewhile(lambda record: record is not None, records)))  # type: ignore[arg-type]

    def _table(self, shard: _Shard) -> pa.Table:
        """The shard's rows with what all stages say about them; a stage whose part is broken says nothing."""
        columns: dict[str, pa.ChunkedArray] = {}
        for stage, record in zip(SAMPLE_STAGES, shard.records, strict=False):
            wanted = (*_COLUMNS[stage], "failed_stage")
            table = self._shards.read_now(shard.first.of_stage(stage), record, wanted)
            if table is None:
                break
            columns.update(zip(table.column_names, table.columns, strict=True))
        rows = len(columns["item_id"]) if columns else 0
        if rows:
            columns["failed"] = columns["failed_stage"].is_valid()
        columns["shard"] = pa.array([shard.first.index] * rows, pa.int64())
        columns["position"] = pa.array(range(rows), pa.int64())
        arrays = [columns[name] if name in columns else pa.nulls(rows, kind) for name, kind in _fields(_INCOMING)]
        return pa.table(arrays, names=_INCOMING.names).cast(_INCOMING)


def _fields(schema: pa.Schema) -> Iterator[tuple[str, pa.DataType]]:
    return ((field.name, field.type) for field in schema)


def _in_parts(shards: Sequence[ShardId], size: int) -> Iterator[Sequence[ShardId]]:
    return (shards[start : start + size] for start in range(0, len(shards), size))


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """The database of a file, empty where there was none that can be read; its memory is given back at the end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        database = duckdb.connect(path, config=_CONFIG)
    except duckdb.Error:
        _delete(path)
        database = duckdb.connect(path, config=_CONFIG)
    with database:
        sample_sql.prepare(database)
        os.utime(path)
        yield database


def _delete(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.with_name(f"{path.name}.wal").unlink(missing_ok=True)
