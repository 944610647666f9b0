"""Reads and checks what a trainer learns from. A file with any unusable row is refused, and all such rows are named."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ilf_common.artifacts import ArtifactStore
from ilf_common.rewards.comparisons import Comparisons, parse_comparisons
from services.finetune.trainer.outcome import FailureReason, TrainerError

_SUFFIXES = (".jsonl", ".parquet")
_MAX_NAMED = 20
_WEIGHT_TOLERANCE = 1e-3


@dataclass(frozen=True)
class SftRow:
    """One completion of an item.

    Attributes:
        number: Of the row in the dataset, from 1.
        weight: Share of the item's loss in [0, 1].
    """

    number: int
    context: str
    completion: str
    weight: float


@dataclass(frozen=True)
class SftItem:
    """The rows of one item whose weight is not zero; the weights sum to 1."""

    id: str
    rows: tuple[SftRow, ...]


class RowProblems:
    """Collects what is wrong with rows, and refuses the data at the end."""

    def __init__(self) -> None:
        self._found: list[str] = []

    def add(self, where: str, what: str) -> None:
        """Notes a problem."""
        self._found.append(f"{where}: {what}")

    def extend(self, found: Sequence[str]) -> None:
        """Notes problems that name their places."""
        self._found.extend(found)

    def refuse_if_any(self) -> None:
        """Raises what was found.

        Raises:
            TrainerError: BAD_DATA; the first rows by name, and the count of all.
        """
        if self._found:
            shown = "; ".join(self._found[:_MAX_NAMED])
            more = f"; and {len(self._found) - _MAX_NAMED} more" if len(self._found) > _MAX_NAMED else ""
            raise TrainerError(
                FailureReason.BAD_DATA, f"{len(self._found)} problems in the dataset: {shown}{more}. Mend or drop them."
            )


def read_sft_items(store: ArtifactStore, key: str) -> list[SftItem]:
    """Reads SFT rows (`item_id`, `context`, `completion`, optional `weight`) and gathers them by item.

    Items come in the order of their first rows. Rows of weight 0 add nothing to the loss and are left out, so that
    sharp softmax weights cost what argmax costs.

    Raises:
        TrainerError: BAD_DATA.
    """
    problems = RowProblems()
    items: dict[str, list[SftRow]] = {}
    sums: dict[str, float] = {}
    for number, raw in _read_rows(store, key):
        where = f"row {number} (item {str(raw.get('item_id'))[:80]})"
        wrong = _missing_texts(raw, ("item_id", "context", "completion"))
        weight = raw.get("weight")
        weight = 1.0 if weight is None else weight
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < math.inf:
            wrong.append("weight must be a number of at least 0")
        if wrong:
            problems.add(where, ", ".join(wrong))
            continue
        row = SftRow(number, raw["context"], raw["completion"], float(weight))
        items.setdefault(raw["item_id"], []).append(row)
        sums[raw["item_id"]] = sums.get(raw["item_id"], 0.0) + row.weight
    for item_id, total in sums.items():
        if abs(total - 1) > _WEIGHT_TOLERANCE:
            problems.add(
                f"item {item_id[:80]}", f"the weights of its {len(items[item_id])} rows sum to {total:g}, not 1"
            )
    problems.refuse_if_any()
    return _not_empty([SftItem(item_id, tuple(r for r in rows if r.weight > 0)) for item_id, rows in items.items()])


def read_comparisons(store: ArtifactStore, key: str, *, slice_column: str = "") -> Comparisons:
    """Reads comparisons in the columns of TRL or SLF5K; see `ilf_common.rewards.comparisons`.

    Raises:
        TrainerError: BAD_DATA; sides missing, or a margin that is no finite number.
    """
    problems = RowProblems()
    found = parse_comparisons(_read_rows(store, key), slice_column=slice_column)
    problems.extend(found.problems)
    problems.refuse_if_any()
    return found


def _not_empty(rows: list[Any]) -> list[Any]:
    if not rows:
        raise TrainerError(FailureReason.BAD_DATA, "The dataset holds no rows.")
    return rows


def _missing_texts(raw: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    return [f"{name} must be text" for name in names if not isinstance(raw.get(name), str)]


def _read_rows(store: ArtifactStore, key: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Rows with their numbers, from 1, over all files of a dataset in order."""
    number = 0
    for file in _files(store, key):
        for raw in _jsonl_rows(store, file) if file.endswith(".jsonl") else _parquet_rows(store, file):
            number += 1
            if not isinstance(raw, dict):
                raise TrainerError(FailureReason.BAD_DATA, f"row {number} of {file} is not a JSON object.")
            yield number, raw


def _files(store: ArtifactStore, key: str) -> list[str]:
    if key.endswith(_SUFFIXES):
        return [key]
    files = [f"{key}/{entry.path}" for entry in store.read_manifest(key).files if entry.path.endswith(_SUFFIXES)]
    if not files:
        raise TrainerError(FailureReason.BAD_DATA, f"{key} names no {' or '.join(_SUFFIXES)} file.")
    return files


def _jsonl_rows(store: ArtifactStore, key: str) -> Iterator[Any]:
    with store.open(key) as stream:
        for line in stream:
            if line.strip():
                try:
                    yield json.loads(line.decode("utf-8"))
                except ValueError:
                    yield None


def _parquet_rows(store: ArtifactStore, key: str) -> Iterator[Any]:
    import pyarrow.parquet as parquet
    from pyarrow import ArrowInvalid

    with store.open(key) as stream:
        try:
            file = parquet.ParquetFile(stream)
        except ArrowInvalid as error:
            raise TrainerError(FailureReason.BAD_DATA, f"{key} is not a Parquet file.") from error
        for batch in file.iter_batches():
            yield from batch.to_pylist()
