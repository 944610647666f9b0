"""Feedback that people wrote elsewhere: a file of it, as answers to a run's open tasks.

A file is Argilla's records (`.json`), JSON lines (`.jsonl`) or CSV with headings (`.csv`). Rows of the latter two have
`item_id`, `iteration`, `annotator` and `feedback`, and may have more; those without feedback are still to be written.
"""

from __future__ import annotations

import csv
import io
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from ilf_client import argilla
from ilf_client.argilla import Item
from ilf_common.errors import FailedPreconditionError, InvalidArgumentError

if TYPE_CHECKING:
    from ilf_client.sync import Client

COLUMNS = ("item_id", "iteration", "annotator", "feedback")
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""A spreadsheet takes a cell that begins so for a formula."""

_LEASES = 100
_MOST_CHARACTERS_IN_A_CELL = 1_000_000

Given = Mapping[str, Mapping[Item, str]]


@dataclass(frozen=True)
class Imported:
    """What became of the answers in a file.

    Attributes:
        taken: Answers that were submitted.
        left: Answers without an open task for their annotator: done by others, or of another run.
    """

    taken: int
    left: int


def read_answers(name: str, content: bytes) -> Given:
    """Feedback by annotator and item; Argilla's annotators are ids.

    Args:
        name: Of the file; its ending says what the content is.
        content: UTF-8, with or without a byte order mark.

    Raises:
        InvalidArgumentError: It is no such file; the first wrong row is named.
    """
    read = _READERS.get(PurePath(name).suffix.lower())
    if read is None:
        raise InvalidArgumentError.of("file", f"{name[:100]!r} is none of {', '.join(_READERS)}")
    try:
        return read(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise InvalidArgumentError.of("file", f"byte {error.start} is no UTF-8; save it with that encoding") from error


def submit_answers(client: Client, run: str, given: Given) -> Imported:
    """Answers a run's open feedback tasks, as the people who wrote the feedback.

    An id of Argilla that belongs to nobody who has answered for this run becomes the annotator's name.

    Raises:
        InvalidArgumentError: A text cannot be taken; the item is named, and what was taken before it stays.
    """
    tasks = client.feedback.show(run=run)
    names = {argilla.user_id(task.annotator): task.annotator for task in tasks if task.annotator}
    taken = 0
    for user, texts in given.items():
        taken += _submit(client, run, names.get(user, user), dict(texts))
    return Imported(taken, sum(map(len, given.values())) - taken)


def cell(text: str) -> str:
    """A text as a cell of CSV: an apostrophe before what a spreadsheet would take for a formula makes it a text."""
    return f"'{text}" if text.lstrip("'").startswith(FORMULA) else text


def _of_cell(text: str) -> str:
    return text[1:] if text.startswith("'") and text.lstrip("'").startswith(FORMULA) else text


def _records(text: str) -> Given:
    try:
        return argilla.responses(json.loads(text))
    except (ValueError, RecursionError) as error:
        raise InvalidArgumentError.of("file", "is no JSON; Dataset.records.to_json writes the right one") from error


def _lines(text: str) -> Given:
    def rows() -> Iterable[Any]:
        for number, line in enumerate(text.split("\n"), 1):
            if line.strip():
                try:
                    yield json.loads(line)
                except (ValueError, RecursionError) as error:
                    raise InvalidArgumentError.of("file", f"line {number} is no JSON") from error

    return _by_annotator(rows())


def _table(text: str) -> Given:
    csv.field_size_limit(_MOST_CHARACTERS_IN_A_CELL)
    try:
        rows = list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
    except csv.Error as error:
        raise InvalidArgumentError.of("file", f"is no CSV: {error}") from error
    return _by_annotator({name: _of_cell(value or "") for name, value in row.items() if name} for row in rows)


def _by_annotator(rows: Iterable[Any]) -> Given:
    found: dict[str, dict[Item, str]] = defaultdict(dict)
    for number, row in enumerate(rows, 1):
        try:
            item, annotator, feedback = (int(row["iteration"]), str(row["item_id"])), row["annotator"], row["feedback"]
        except (KeyError, TypeError, ValueError) as error:
            wanted = ", ".join(COLUMNS)
            raise InvalidArgumentError.of("file", f"row {number} has not all of {wanted}") from error
        if not isinstance(feedback, str) or not isinstance(annotator, str):
            raise InvalidArgumentError.of("file", f"row {number}: annotator and feedback must be texts")
        if not feedback.strip():
            continue
        if not annotator.strip():
            raise InvalidArgumentError.of("file", f"row {number} has feedback and no annotator: who wrote it?")
        found[annotator.strip()][item] = feedback
    return found


_READERS: Mapping[str, Callable[[str], Given]] = {".json": _records, ".jsonl": _lines, ".csv": _table}


def _submit(client: Client, run: str, annotator: str, texts: dict[Item, str]) -> int:
    """Leases tasks until none of them is among the texts."""
    taken = 0
    while texts:
        leased = client.feedback.lease(annotator, run=run, count=_LEASES).tasks
        matching = [task for task in leased if (task.iteration, task.item_id) in texts]
        if not matching:
            break
        for task in matching:
            text = texts.pop((task.iteration, task.item_id))
            try:
                client.feedback.submit(task.name, annotator, text)
            except FailedPreconditionError:
                # Somebody else was faster.
                continue
            except InvalidArgumentError as error:
                what = f"item {task.item_id} of {annotator}: {error.violations[0].description}; answers before it stay"
                raise InvalidArgumentError.of("file", what) from error
            taken += 1
    return taken
