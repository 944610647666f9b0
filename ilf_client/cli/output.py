"""What commands print: tables and lines for people, JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Any

import click

from ilf_client.cli.failures import describe
from ilf_common.errors import IlfError


def jsonable(value: object) -> Any:
    """A value as JSON types, every field named."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, IlfError):
        return describe(value)
    if is_dataclass(value):
        return {field.name: jsonable(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): jsonable(content) for key, content in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [jsonable(content) for content in value]
    return value


def print_json(value: object, *, line: bool = False) -> None:
    """One JSON document, or one line of a stream of them."""
    click.echo(json.dumps(jsonable(value), ensure_ascii=False, indent=None if line else 2))


def print_table(headers: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Aligned columns; on a terminal the headers are bold, elsewhere nothing is cut."""
    texts = [[_cell(cell) for cell in row] for row in rows]
    widths = [max([len(header), *(len(row[k]) for row in texts)]) for k, header in enumerate(headers)]
    if texts:
        click.echo(click.style(_line([header.upper() for header in headers], widths), bold=True))
    for row in texts:
        click.echo(_line(row, widths))


def is_terminal() -> bool:
    """Whether a person watches the standard output."""
    return sys.stdout.isatty()


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Enum):
        return str(value.value)
    return "" if value is None else str(value)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()
