"""A run's training data with the column names of TRL, and what people have answered for it."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ilf_client import answers, argilla
from ilf_client.models.runs import Run, RunSample
from ilf_common.errors import InvalidArgumentError
from ilf_common.templates import PromptTemplate

if TYPE_CHECKING:
    from ilf_client.sync import Client

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "sft": ("prompt", "completion", "weight"),
    "preference": ("prompt", "chosen", "rejected"),
    **answers.COLUMNS,
}
_ROWS_PER_GROUP = 1024

Row = dict[str, Any]


def export_rows(
    client: Client, run: Run, kind: str, *, iteration: int | None = None, rejected: str = "initial_output"
) -> Iterator[Row]:
    """Rows of one or of all iterations; rows that failed are left out.

    The prompt is rendered with the policy's template where the run's spec holds its text, and is the bare context
    otherwise.

    Args:
        client: Where the samples are.
        run: The run.
        kind: `sft` (prompt, completion, weight), `preference` (prompt, chosen, rejected), or what people have answered:
            `feedback`, `comparisons` or `reviews`, or have still to answer: `open` (see `answers`).
        iteration: None exports all.
        rejected: `initial_output`, or `worst` for the candidate with the lowest score.
    """
    template = run.spec.generate.template
    prompt = template if isinstance(template, PromptTemplate) else PromptTemplate("context", "{context}")
    if kind in answers.COLUMNS:
        for row in answers.answer_rows(client, run, kind, prompt):
            if iteration in (None, row["iteration"]):
                yield row
        return
    indices = [i.index for i in run.iterations if i.index >= 1] if iteration is None else [iteration]
    for index in indices:
        for sample in client.runs.samples(run.name, iteration=index):
            if sample.error is None:
                yield from _sft(sample, prompt) if kind == "sft" else _preference(sample, prompt, rejected)


def write_rows(rows: Iterable[Row], kind: str, target: str) -> int:
    """Writes JSON lines, CSV or Parquet, as the name says; `-` or `json` is the standard output.

    Returns:
        The number of rows.
    """
    if target in ("-", "json"):
        return _write_lines(rows, sys.stdout)
    path = Path(target)
    if path.suffix == ".parquet":
        return _write_parquet(rows, COLUMNS[kind], path)
    if path.suffix in (".jsonl", ".json"):
        with path.open("w", encoding="utf-8") as stream:
            return _write_lines(rows, stream)
    if path.suffix == ".csv":
        with path.open("w", encoding="utf-8", newline="") as stream:
            return _write_csv(rows, COLUMNS[kind], stream)
    raise InvalidArgumentError.of("--output", f"{target!r} is none of .jsonl, .csv and .parquet")


def write_records(client: Client, run: Run, target: str) -> None:
    """Writes the run's feedback tasks as Argilla's records, into a file or to the standard output (`-`)."""
    text = json.dumps(argilla.records(client.feedback.show(run=run.name)), ensure_ascii=False, indent=1)
    if target in ("-", "json"):
        sys.stdout.write(text + "\n")
    else:
        Path(target).write_text(text + "\n", encoding="utf-8")


def _sft(sample: RunSample, prompt: PromptTemplate) -> Iterator[Row]:
    for candidate in sample.candidates:
        if candidate.weight > 0:
            yield {
                "prompt": prompt.render(context=sample.context),
                "completion": prompt.target_prefix + candidate.text,
                "weight": candidate.weight,
            }


def _preference(sample: RunSample, prompt: PromptTemplate, rejected: str) -> Iterator[Row]:
    if not 0 <= sample.chosen_index < len(sample.candidates):
        return
    chosen = sample.candidates[sample.chosen_index].text
    other = sample.initial_output
    if rejected == "worst":
        other = min(sample.candidates, key=lambda candidate: candidate.score.score).text
    if other and other != chosen:
        yield {
            "prompt": prompt.render(context=sample.context),
            "chosen": prompt.target_prefix + chosen,
            "rejected": prompt.target_prefix + other,
        }


def _write_lines(rows: Iterable[Row], stream: Any) -> int:
    count = 0
    for row in rows:
        stream.write(json.dumps(row, ensure_ascii=False) + "\n")
        count += 1
    return count


def _write_csv(rows: Iterable[Row], columns: tuple[str, ...], stream: Any) -> int:
    writer = csv.DictWriter(stream, columns)
    writer.writeheader()
    count = 0
    for row in rows:
        writer.writerow(row)
        count += 1
    return count


def _write_parquet(rows: Iterable[Row], columns: tuple[str, ...], path: Path) -> int:
    import pyarrow as pa
    import pyarrow.parquet as parquet

    types = {"weight": pa.float64(), "iteration": pa.int64()}
    schema = pa.schema([(name, types.get(name, pa.string())) for name in columns])
    count = 0
    with parquet.ParquetWriter(path, schema) as writer:
        group: list[Row] = []
        for row in rows:
            group.append(row)
            if len(group) == _ROWS_PER_GROUP:
                writer.write_table(pa.Table.from_pylist(group, schema))
                count, group = count + len(group), []
        writer.write_table(pa.Table.from_pylist(group, schema))
    return count + len(group)
