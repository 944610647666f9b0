"""What must hold of a dataset before a run starts: disjoint splits, enough contexts, few bad rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from ilf_common.datasets import DatasetRow, RowError
from ilf_common.errors import FieldViolation, InvalidArgumentError
from services.orchestrator.models import FeedbackSource, OutputSource, RunSpec, Target
from services.orchestrator.ports import DatasetReport
from services.orchestrator.splitting import ContextOrder

_NAMED_ROWS = 5
SPLITS = ("train", "dev", "test")


class Seen(Protocol):
    """A set of texts with a note each; see `ilf_common.datasets.DiskSet`."""

    def add(self, text: str, note: str = "") -> str | None:
        """Adds a text; answers the note that it was first added with, None when it is new."""
        ...


@dataclass
class _Split:
    rows: int = 0
    bad: list[str] = field(default_factory=list)
    bad_count: int = 0

    def note_bad(self, text: str) -> None:
        self.bad_count += 1
        if len(self.bad) < _NAMED_ROWS:
            self.bad.append(text)


def needed_fields(spec: RunSpec, split: str) -> frozenset[str]:
    """Fields without which a row of a split is of no use to this run."""
    if split != "train":
        return frozenset({"reference"} if split == "test" and spec.evaluate.nll else ())
    needs = set()
    if spec.generate.source is OutputSource.COLUMN:
        needs.add("initial_output")
    if spec.feedback.source is FeedbackSource.COLUMN:
        needs.add("feedback")
    if spec.finetune.target is Target.REFERENCE:
        needs.add("reference")
    return frozenset(needs)


def inspect(
    spec: RunSpec, splits: Mapping[str, Callable[[], Iterable[DatasetRow | RowError]]], ids: Seen, contexts: Seen
) -> DatasetReport:
    """Reads every split once.

    Args:
        spec: A resolved spec.
        splits: Readers by name of split.
        ids: An empty set for ids, of all splits.
        contexts: An empty set for contexts, of all splits.

    Raises:
        InvalidArgumentError: DATASET_INVALID; too many bad rows, an id or context in two splits, or too few contexts.
            The message names the first rows.
    """
    order = ContextOrder(spec.seed)
    found: dict[str, _Split] = {}
    shared: list[str] = []
    for split in (name for name in SPLITS if name in splits):
        state = found[split] = _Split()
        for row in splits[split]():
            state.rows += 1
            if isinstance(row, RowError):
                state.note_bad(f"row {row.row} ({row.field or 'line'} {row.message})")
                continue
            if split == "train":
                order.add(row.context)
            if len(shared) < _NAMED_ROWS:
                shared.extend(_shared(split, state.rows, row, ids, contexts))
    _refuse(spec, found, shared)
    parts = 1 if spec.reuse_contexts else spec.iterations
    boundaries = order.boundaries(parts, spec.contexts_per_iteration)
    return DatasetReport(found["train"].rows, found["test"].rows if "test" in found else 0, boundaries)


def _shared(split: str, number: int, row: DatasetRow, ids: Seen, contexts: Seen) -> list[str]:
    """What of a row is in another split already. Notes hold "split:row"; a repeat in the same split is fine here."""
    texts = []
    # Ids that were given to rows without one say nothing: they repeat in every split.
    named = [("context", contexts, row.context)]
    if row.id != f"row-{number}":
        named.append(("id", ids, row.id))
    for what, seen, text in named:
        first = seen.add(text, f"{split}:{number}")
        other, _, other_row = (first or "").partition(":")
        if first and other != split:
            texts.append(f"the {what} of {split} row {number} is that of {other} row {other_row}")
    return texts


def _refuse(spec: RunSpec, found: Mapping[str, _Split], shared: list[str]) -> None:
    violations = []
    limit = spec.max_bad_row_share or 0.0
    for split, state in found.items():
        if state.bad_count > limit * state.rows or state.bad_count == state.rows:
            violations.append(
                FieldViolation(
                    f"spec.dataset.{split}_uri",
                    f"{state.bad_count} of {state.rows} rows cannot be used, more than max_bad_row_share {limit:g} "
                    f"allows: {'; '.join(state.bad)}",
                )
            )
    if shared:
        violations.append(
            FieldViolation(
                "spec.dataset",
                f"the splits must not share items: {'; '.join(shared[:_NAMED_ROWS])}. Take them out of one split.",
            )
        )
    if violations:
        raise InvalidArgumentError(violations=violations, reason="DATASET_INVALID")
