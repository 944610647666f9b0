"""Rows as a file that the browser saves."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from typing import Any

from starlette.responses import StreamingResponse

from services.console.views import answers

TYPES = {"jsonl": "application/x-ndjson", "csv": "text/csv"}
_NOT_IN_NAMES = re.compile(r"[^0-9A-Za-z.-]")

Row = dict[str, Any]


async def file_of(name: str, form: str, columns: Sequence[str], rows: AsyncIterator[Row]) -> StreamingResponse:
    """A file of JSON lines or CSV.

    Args:
        name: Of the file, without its ending.
        form: One of `TYPES`.
        columns: The headings of CSV.
        rows: Each has the columns. The first is awaited before the answer begins: what is wrong with it is still a
            page of its own.
    """
    first = await anext(rows, None)
    return StreamingResponse(
        _lines(form, columns, first, rows),
        media_type=TYPES[form],
        headers={"content-disposition": f'attachment; filename="{_NOT_IN_NAMES.sub("-", f"{name}.{form}")}"'},
    )


async def _lines(form: str, columns: Sequence[str], first: Row | None, rows: AsyncIterator[Row]) -> AsyncIterator[str]:
    if form == "csv":
        yield answers.csv_line(list(columns))
    if first is not None:
        yield _line(form, first)
    async for row in rows:
        yield _line(form, row)


def _line(form: str, row: Row) -> str:
    return answers.json_line(row) if form == "jsonl" else answers.csv_line(list(row.values()))
