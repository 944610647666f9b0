"""`ilf pools`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime

import click

from ilf_client.cli.failures import INTERRUPTED
from ilf_client.cli.options import Session, service_options
from ilf_client.cli.output import print_json, print_table
from ilf_client.humanize import since
from ilf_client.models.pools import Pool

_WATCH_SECONDS = 1.0


@click.command()
@click.option("--watch", is_flag=True, help="Go on: a line whenever a pool wants or has another number of replicas.")
@service_options
def pools(session: Session, watch: bool) -> None:
    """How many replicas each pool wants and has, and why."""
    with session.client() as client:
        found = list(client.pools(timeout=session.timeout))
        if session.json and watch:
            _print_changes(session, (), found)
        else:
            session.show(found, lambda: _print(found))
        try:
            while watch:
                time.sleep(_WATCH_SECONDS)
                before, found = found, list(client.pools(timeout=session.timeout))
                _print_changes(session, before, found)
        except KeyboardInterrupt:
            raise click.exceptions.Exit(INTERRUPTED) from None


def _print(found: Sequence[Pool]) -> None:
    if not found:
        click.echo("This server scales no pools: their replicas are fixed, or something else scales them.")
        return
    print_table(
        ["pool", "want", "have", "backlog", "items/s", "start", "since", "why"],
        [
            [
                pool.name,
                pool.want,
                pool.have if pool.front_answers else "?",
                pool.backlog,
                f"{pool.items_per_second:.3g}{_guessed(pool.rate_measured)}",
                f"{pool.start_seconds:.0f}s{_guessed(pool.start_measured)}",
                since(pool.since),
                pool.why,
            ]
            for pool in found
        ],
    )


def _print_changes(session: Session, before: Sequence[Pool], now: Sequence[Pool]) -> None:
    known = {pool.name: (pool.want, pool.have) for pool in before}
    for pool in now:
        if known.get(pool.name) == (pool.want, pool.have):
            continue
        if session.json:
            print_json(pool, line=True)
        else:
            clock = datetime.now().strftime("%H:%M:%S")
            click.echo(f"{clock} {pool.name}: wants {pool.want}, has {pool.have}; {pool.why}")


def _guessed(measured: bool) -> str:
    return "" if measured else "?"
