"""`ilf runs samples`."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING

import click

from ilf_client.cli.options import Session, service_options
from ilf_client.models.runs import RunSample, SampleFilter, SampleOrder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ilf_client.sync import Client

_ORDERS = [order.value for order in SampleOrder if order is not SampleOrder.UNSPECIFIED]
_MOST_ROWS_OF_A_PAGE = 100


@click.command("samples")
@click.argument("run")
@click.option("--iteration", type=click.IntRange(min=0), help="Default: the newest with refinements.")
@click.option("--limit", type=click.IntRange(min=1), default=10, show_default=True, help="Rows at most.")
@click.option("--text", default="", help="Only rows with this in context, output, feedback or a refinement.")
@click.option("--min-score", type=float, help="Least score of the chosen refinement.")
@click.option("--max-score", type=float, help="Its greatest score.")
@click.option("--min-spread", type=float, help="Least disagreement of the judges about it.")
@click.option("--max-spread", type=float, help="Their greatest disagreement.")
@click.option("--min-length", type=click.IntRange(min=0), help="Its least number of characters.")
@click.option("--max-length", type=click.IntRange(min=0), help="Its greatest number of characters.")
@click.option("--failed/--not-failed", default=None, help="Only rows that failed, or only those that did not.")
@click.option("--item", "items", multiple=True, metavar="ID", help="Only this item; may be given again.")
@click.option("--order-by", type=click.Choice(_ORDERS), default="dataset", show_default=True, help="What comes first.")
@click.option("--descending", is_flag=True, help="The largest first.")
@service_options
def list_samples(
    session: Session,
    run: str,
    iteration: int | None,
    limit: int,
    text: str,
    min_score: float | None,
    max_score: float | None,
    min_spread: float | None,
    max_spread: float | None,
    min_length: int | None,
    max_length: int | None,
    failed: bool | None,
    items: Sequence[str],
    order_by: str,
    descending: bool,
) -> None:
    """Rows of an iteration: context, output, feedback, each refinement with its score, the chosen one."""
    from ilf_client.cli.preview import print_sample
    from ilf_client.stages import newest_refined

    where = SampleFilter(
        text, min_score, max_score, min_spread, max_spread, min_length, max_length, failed, tuple(items)
    )
    with session.client() as client:
        if iteration is None:
            iteration = newest_refined(client.runs.get(run, timeout=session.timeout))
        rows = _rows(session, client, run, iteration, where, SampleOrder(order_by), descending, limit)
        found = list(islice(rows, limit))

    def for_people() -> None:
        for sample in found:
            print_sample(sample)

    session.show(found, for_people)


def _rows(
    session: Session,
    client: Client,
    run: str,
    iteration: int,
    where: SampleFilter,
    order: SampleOrder,
    descending: bool,
    limit: int,
) -> Iterator[RunSample]:
    token = ""
    while True:
        page = client.runs.sample_page(
            run,
            iteration=iteration,
            where=where,
            order_by=order,
            descending=descending,
            page_size=min(limit, _MOST_ROWS_OF_A_PAGE),
            page_token=token,
            timeout=session.timeout,
        )
        yield from page.samples
        token = page.next_page_token
        if not token:
            return
