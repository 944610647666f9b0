"""Shards as Parquet files in the artifact store: the part first, then the record that makes it exist."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import threading
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as parquet

from ilf_common.artifacts import MANIFEST_NAME, ArtifactStore, FileEntry, Manifest
from ilf_common.errors import FailedPreconditionError, NotFoundError
from services.orchestrator.codec import from_plain, to_plain
from services.orchestrator.ports import TrainingRow
from services.orchestrator.rows import COLUMNS, FAILURE_COLUMNS, INPUT, Column, Row, with_columns
from services.orchestrator.shards import ShardId, ShardRecord, shard_count

_SCORE = pa.struct(
    [
        ("score", pa.float64()),
        ("spread", pa.float64()),
        ("missing_mass", pa.float64()),
        (
            "judges",
            pa.list_(pa.struct([("name", pa.string()), ("score", pa.float64()), ("missing_mass", pa.float64())])),
        ),
    ]
)
_TYPES: Mapping[str, pa.DataType] = {
    "nothing_to_change": pa.bool_(),
    "refinements": pa.list_(pa.string()),
    "scores": pa.list_(_SCORE),
    "chosen_index": pa.int32(),
    "weights": pa.list_(pa.float64()),
    "exact": pa.list_(pa.float64()),
    "output_tokens": pa.int32(),
    "exact_match": pa.float64(),
    "nll": pa.float64(),
    "nll_tokens": pa.int32(),
    "win": pa.float64(),
    "best_reward": pa.float64(),
    "best_exact_match": pa.float64(),
}
_SCHEMAS: Mapping[str, pa.Schema] = {
    stage: pa.schema([(name, _TYPES.get(name, pa.string())) for name in (*names, *FAILURE_COLUMNS)])
    for stage, names in COLUMNS.items()
}
_TRAINING_SCHEMA = pa.schema(
    [("item_id", pa.string()), ("context", pa.string()), ("completion", pa.string()), ("weight", pa.float64())]
)
_TRAINING_STAGES = (INPUT, "generate", "feedback", "refine", "rank", "select")
_STAGE_FILE = ".stage.json"
# Single rows are read by the group; smaller ones make whole parts slow, as the index reads them.
_GROUP_ROWS = 512
# A writer keeps what it knows of each row group until it is closed, so groups should be few.
_TRAINING_GROUP_ROWS = 8192


class ShardFiles:
    """Implements `ports.ShardStore`."""

    def __init__(self, store: ArtifactStore) -> None:
        self._store = store

    async def record(self, shard: ShardId) -> ShardRecord | None:
        """What is known of a published shard, None where there is none."""
        return await asyncio.to_thread(self.record_now, shard)

    def record_now(self, shard: ShardId) -> ShardRecord | None:
        """The same, for whoever is in a thread already."""
        try:
            data = json.loads(self._store.read_bytes(shard.record_key))
        except NotFoundError:
            return None
        return from_plain(ShardRecord, data)

    async def read(self, shard: ShardId, record: ShardRecord) -> dict[str, Column] | None:
        """The columns of a part; None where its bytes are not those of the record."""
        return await asyncio.to_thread(self._read, shard, record)

    async def read_stages(
        self, stages: Sequence[ShardId], positions: Sequence[int] | None = None
    ) -> list[dict[str, Column]]:
        """The columns of one shard's parts, or of their rows at some positions, up to the first missing part."""
        return await asyncio.to_thread(self._read_stages, stages, positions)

    def _read_stages(self, stages: Sequence[ShardId], positions: Sequence[int] | None) -> list[dict[str, Column]]:
        found: list[dict[str, Column]] = []
        for shard in stages:
            record = self.record_now(shard)
            columns = self._read(shard, record, positions) if record else None
            if columns is None:
                break
            found.append(columns)
        return found

    def _read(
        self, shard: ShardId, record: ShardRecord, positions: Sequence[int] | None = None
    ) -> dict[str, Column] | None:
        part = self._open(shard, record)
        if part is None:
            return None
        table = part.read(use_threads=False) if positions is None else _rows_at(part, positions)
        return dict(table.to_pydict())

    def read_now(self, shard: ShardId, record: ShardRecord, columns: Sequence[str]) -> pa.Table | None:
        """Some columns of a part as they lie, for whoever is in a thread already; a dot leads into a nested one."""
        part = self._open(shard, record)
        return None if part is None else part.read(columns=list(columns), use_threads=False)

    def _open(self, shard: ShardId, record: ShardRecord) -> parquet.ParquetFile | None:
        try:
            data = self._store.read_bytes(f"{shard.folder}/{shard.file_name}")
        except NotFoundError:
            return None
        if hashlib.sha256(data).hexdigest() != record.sha256:
            return None
        return parquet.ParquetFile(pa.BufferReader(data))

    async def publish(self, shard: ShardId, columns: Mapping[str, Column], record: ShardRecord) -> ShardRecord:
        """Writes a part, then its record with size and digest filled in."""
        return await asyncio.to_thread(self._publish, shard, columns, record)

    def _publish(self, shard: ShardId, columns: Mapping[str, Column], record: ShardRecord) -> ShardRecord:
        buffer = io.BytesIO()
        table = pa.Table.from_pydict(dict(columns), schema=_SCHEMAS[shard.stage])
        parquet.write_table(table, buffer, compression="zstd", row_group_size=_GROUP_ROWS)
        data = buffer.getvalue()
        complete = replace(record, sha256=hashlib.sha256(data).hexdigest(), size=len(data))
        self._store.write_bytes(f"{shard.folder}/{shard.file_name}", data)
        self._store.write_bytes(shard.record_key, json.dumps(to_plain(complete)).encode())
        return complete

    async def finish(self, first: ShardId, rows: int, shard_rows: int) -> None:
        """Writes the manifest of a stage all of whose shards are published."""
        await asyncio.to_thread(self._finish, first, rows, shard_rows)

    def _finish(self, first: ShardId, rows: int, shard_rows: int) -> None:
        entries = []
        for index in range(shard_count(rows, shard_rows)):
            shard = replace(first, index=index)
            record = self.record_now(shard)
            if record is None:
                raise FailedPreconditionError(
                    f"{shard.folder}/{shard.file_name} is missing in the artifact store.", reason="SHARD_BROKEN"
                )
            entries.append(FileEntry(shard.file_name, record.size, record.sha256))
        self._store.write_bytes(f"{first.folder}/{_STAGE_FILE}", json.dumps({"rows": rows}).encode())
        self._write_manifest(first.folder, Manifest(tuple(entries)))

    def _write_manifest(self, folder: str, manifest: Manifest) -> None:
        """Writes a manifest, unless the same one is there already."""
        key = f"{folder}/{MANIFEST_NAME}"
        data = manifest.to_json()
        if not self._store.has_manifest(folder) or self._store.read_bytes(key) != data:
            self._store.write_bytes(key, data)

    async def finished_rows(self, first: ShardId) -> int | None:
        """Rows of a stage that was finished, None where it was not."""
        return await asyncio.to_thread(self._finished_rows, first)

    def _finished_rows(self, first: ShardId) -> int | None:
        if not self._store.has_manifest(first.folder):
            return None
        return int(json.loads(self._store.read_bytes(f"{first.folder}/{_STAGE_FILE}"))["rows"])

    async def publish_training_data(
        self,
        run_id: str,
        iteration: int,
        sources: Sequence[ShardId],
        convert: Callable[[int, list[Row]], list[TrainingRow]],
    ) -> tuple[str, int]:
        """Writes the finetune dataset of an iteration, some thousand of its rows in memory at a time."""
        stop = threading.Event()
        try:
            return await asyncio.to_thread(self._publish_training_data, run_id, iteration, sources, convert, stop)
        finally:
            stop.set()

    def _publish_training_data(
        self,
        run_id: str,
        iteration: int,
        sources: Sequence[ShardId],
        convert: Callable[[int, list[Row]], list[TrainingRow]],
        stop: threading.Event,
    ) -> tuple[str, int]:
        folder = f"runs/{run_id}/it-{iteration}/finetune-data"
        name = "part-00000.parquet"
        count = 0

        def fill(stream: BinaryIO) -> None:
            nonlocal count
            waiting: list[TrainingRow] = []
            with parquet.ParquetWriter(stream, _TRAINING_SCHEMA, compression="zstd") as writer:
                for shard in sources:
                    if stop.is_set():
                        raise InterruptedError("the run was stopped")
                    waiting += convert(shard.iteration, self._rows(shard))
                    if len(waiting) >= _TRAINING_GROUP_ROWS:
                        count += _write_rows(writer, waiting)
                        waiting = []
                count += _write_rows(writer, waiting)

        self._store.write(f"{folder}/{name}", fill)
        self._write_manifest(folder, Manifest((self._store.describe(f"{folder}/{name}", relative=name),)))
        return self._store.uri(f"{folder}/{name}"), count

    def _rows(self, last: ShardId) -> list[Row]:
        """The rows of one shard with what all stages up to select say about them."""
        rows: list[Row] | None = None
        for stage in _TRAINING_STAGES:
            shard = last.of_stage(stage)
            record = self.record_now(shard)
            columns = self._read(shard, record) if record else None
            if columns is None:
                raise FailedPreconditionError(
                    f"{shard.folder}/{shard.file_name} is missing or broken in the artifact store.",
                    reason="SHARD_BROKEN",
                )
            rows = with_columns(stage, rows, columns)
        return rows or []

    def checkpoint_uri(self, run_id: str, iteration: int) -> str:
        """Where the checkpoint of an iteration is published."""
        return self._store.uri(f"runs/{run_id}/it-{iteration}/checkpoint")


def _rows_at(part: parquet.ParquetFile, positions: Sequence[int]) -> pa.Table:
    """The rows of a part at some positions; only the row groups that hold them are decoded."""
    sizes = [part.metadata.row_group(group).num_rows for group in range(part.num_row_groups)]
    starts = list(accumulate(sizes, initial=0))
    group_of = {position: bisect_right(starts, position) - 1 for position in positions}
    groups = sorted(set(group_of.values()))
    begins = dict(zip(groups, accumulate((sizes[group] for group in groups), initial=0), strict=False))
    table = part.read_row_groups(groups, use_threads=False)
    places = (begins[group_of[position]] + position - starts[group_of[position]] for position in positions)
    return pa.concat_tables([table.slice(place, 1) for place in places])


def _write_rows(writer: parquet.ParquetWriter, rows: Sequence[TrainingRow]) -> int:
    """Writes a row group, and answers how many rows it has."""
    if rows:
        writer.write_table(pa.Table.from_pylist([to_plain(row) for row in rows], schema=_TRAINING_SCHEMA))
    return len(rows)
