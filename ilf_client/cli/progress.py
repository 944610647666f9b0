"""How far a long command is: on a terminal's standard error, and nowhere else, so that results can be piped on."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click


@contextmanager
def transfer_bar(label: str) -> Iterator[Callable[[int, int], None] | None]:
    """A bar that is told the bytes that are over and all of them; None where nobody watches."""
    if not sys.stderr.isatty():
        yield None
        return
    with click.progressbar(length=1, label=label, file=sys.stderr) as bar:

        def show(done: int, total: int) -> None:
            bar.length = total
            bar.update(done - bar.pos)

        yield show


@contextmanager
def row_count(what: str) -> Iterator[Callable[[int], None] | None]:
    """A line that is told how many rows were just done; None where nobody watches."""
    if not sys.stderr.isatty():
        yield None
        return
    total = 0

    def add(count: int) -> None:
        nonlocal total
        total += count
        click.echo(f"\r{total} {what}", nl=False, err=True)

    try:
        yield add
    finally:
        click.echo("", err=True)
