"""Datasets through `ilf_common.datasets`, read in a thread of their own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

from ilf_common.artifacts import ArtifactStore
from ilf_common.datasets import ColumnMap, Dataset, DatasetRow, DiskSet, RowError, open_dataset
from services.orchestrator.inspection import SPLITS, inspect, needed_fields
from services.orchestrator.models import RunSpec
from services.orchestrator.ports import DatasetReport

_BATCH = 512


class DatasetSource:
    """Implements `ports.Datasets`."""

    def __init__(self, store: ArtifactStore) -> None:
        self._store = store

    async def inspect(self, spec: RunSpec) -> DatasetReport:
        """Reads every split once; errors as the port says."""
        return await asyncio.to_thread(self._inspect, spec)

    def _inspect(self, spec: RunSpec) -> DatasetReport:
        splits = {split: self._open(spec, split) for split in SPLITS if _uri(spec, split)}
        with DiskSet() as ids, DiskSet() as contexts:
            return inspect(spec, {split: dataset.rows for split, dataset in splits.items()}, ids, contexts)

    async def batches(self, spec: RunSpec, split: str) -> AsyncIterator[list[DatasetRow | RowError]]:
        """The rows of a split in order, some at a time."""
        loop = asyncio.get_running_loop()
        # One thread for the whole reading: the reader's set of ids belongs to the thread that made it.
        with ThreadPoolExecutor(1, thread_name_prefix="dataset") as thread:
            rows: Iterator[DatasetRow | RowError] = await loop.run_in_executor(
                thread, lambda: self._open(spec, split).rows()
            )
            try:
                while batch := await loop.run_in_executor(thread, lambda: list(islice(rows, _BATCH))):
                    yield batch
            finally:
                await loop.run_in_executor(thread, lambda: _close(rows))

    def _open(self, spec: RunSpec, split: str) -> Dataset:
        given = spec.dataset.columns
        plain = ColumnMap()
        columns = ColumnMap(
            id=given.id or plain.id,
            context=given.context or plain.context,
            initial_output=given.initial_output or plain.initial_output,
            feedback=given.feedback or plain.feedback,
            reference=given.reference or plain.reference,
        )
        return open_dataset(
            self._store,
            _uri(spec, split),
            columns=columns,
            needs=needed_fields(spec, split),
            field=f"spec.dataset.{split}_uri",
        )


def _uri(spec: RunSpec, split: str) -> str:
    return str(getattr(spec.dataset, f"{split}_uri"))


def _close(rows: Iterator[DatasetRow | RowError]) -> None:
    close = getattr(rows, "close", None)
    if close is not None:
        close()
