"""What a row of a dataset means, whatever its columns are called.

SLF5K's published field names are understood as they are: a row with `post` becomes a context of subreddit, title and
text, and `generated_summary_for_feedback`, `feedback`, `ideal_human_summary` fill the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

MAX_TEXT = 200_000
"""Longest text of a field, in characters."""

_SLF5K = {
    "initial_output": "generated_summary_for_feedback",
    "feedback": "feedback",
    "reference": "ideal_human_summary",
}
_SLF5K_POST = "post"


@dataclass(frozen=True)
class ColumnMap:
    """Names of the columns that hold each field; the defaults are the words of this project."""

    id: str = "id"
    context: str = "context"
    initial_output: str = "initial_output"
    feedback: str = "feedback"
    reference: str = "reference"


@dataclass(frozen=True)
class DatasetRow:
    """One item.

    Attributes:
        id: Unique in its dataset; "row-<n>" (from 1) where the dataset has no ids.
        context: What the policy is given.
        initial_output: The dataset's own initial output, if any.
        feedback: Feedback on that initial output, if any.
        reference: What a person would have written, if any.
    """

    id: str
    context: str
    initial_output: str | None = None
    feedback: str | None = None
    reference: str | None = None


@dataclass(frozen=True)
class RowError:
    """A row that cannot be used.

    Attributes:
        row: Its number, from 1.
        id: Its id where it has one.
        field: The column that is wrong.
        message: What is wrong with it.
    """

    row: int
    id: str
    field: str
    message: str


def column_names(columns: ColumnMap, present: frozenset[str]) -> ColumnMap:
    """The columns to read from a dataset with these columns: as given, with SLF5K's names where those are there."""
    if _SLF5K_POST not in present or columns.context in present:
        return columns
    chosen = {field.name: getattr(columns, field.name) for field in fields(ColumnMap)}
    for field, name in _SLF5K.items():
        if chosen[field] not in present:
            chosen[field] = name
    return ColumnMap(**{**chosen, "context": _SLF5K_POST})


def parse_row(number: int, data: Mapping[str, Any], columns: ColumnMap, needs: frozenset[str]) -> DatasetRow | RowError:
    """Reads one row.

    Args:
        number: Of the row, from 1.
        data: Its values by column.
        columns: As `column_names` gave them.
        needs: Fields that must hold text ("context" always must).
    """
    identifier = data.get(columns.id)
    row_id = f"row-{number}" if identifier is None else str(identifier)
    if not row_id.strip() or len(row_id) > 512 or "\0" in row_id:
        return RowError(number, row_id[:80], columns.id, "an id must have 1 to 512 characters, none of them NUL")
    values: dict[str, str | None] = {}
    for field in ("context", "initial_output", "feedback", "reference"):
        column = getattr(columns, field)
        value: Any = context_of_post(data) if column == _SLF5K_POST else data.get(column)
        problem = _problem(value, needed=field == "context" or field in needs)
        if problem:
            return RowError(number, row_id, column, problem)
        values[field] = value
    return DatasetRow(row_id, values.pop("context") or "", **values)


def _problem(value: object, *, needed: bool) -> str | None:
    if value is None:
        return "is missing" if needed else None
    if not isinstance(value, str):
        return f"must be text, not {type(value).__name__}"
    if needed and not value.strip():
        return "is empty"
    if len(value) > MAX_TEXT:
        return f"has {len(value)} characters; at most {MAX_TEXT} are allowed"
    return None


def context_of_post(data: Mapping[str, Any]) -> object:
    """SLF5K's context: subreddit, title and post, as the paper's prompts show them."""
    post = data.get(_SLF5K_POST)
    if not isinstance(post, str) or not post.strip():
        return post
    parts = [f"Subreddit: r/{data['subreddit']}"] if data.get("subreddit") else []
    if data.get("title"):
        parts.append(f"Title: {data['title']}")
    return "\n".join([*parts, f"Text: {post}"])
