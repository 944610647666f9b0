"""How far a long command is, on the standard error stream: a line that is rewritten on a terminal, silence elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

from ilf_client.cli.options import Session


@contextmanager
def counted(session: Session, what: str) -> Iterator[Callable[[int], None]]:
    """A function that takes the number of things that were just done."""
    if session.json or not sys.stderr.isatty():
        yield lambda count: None
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
