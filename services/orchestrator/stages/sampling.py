"""What a policy answers to contexts: the same for initial outputs and for evaluation."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ilf_common.errors import InternalError
from services.orchestrator.calls import Item, SamplingCall, Texts
from services.orchestrator.rows import Row
from services.orchestrator.run import Usage
from services.orchestrator.work import Made, RunWork


async def sampled(
    work: RunWork,
    stage: str,
    call: SamplingCall,
    rows: Sequence[Row],
    seed: Callable[[str], int],
    keep: Callable[[Row, Texts], Row],
) -> Made:
    """Samples for the contexts of all rows that are not bad; a row without a sample becomes bad.

    Args:
        work: The run's.
        stage: That samples.
        call: What is sampled, and how.
        rows: Of one shard.
        seed: The seed of an item.
        keep: The row with its samples.
    """
    items = [Item(row.item_id, row.context, seed=seed(row.item_id)) for row in rows if row.failure is None]
    found = await work.outcomes("refinement", stage, items, lambda part: work.peers.refinement.generate(call, part))
    usage = Usage()
    made = []
    for row in rows:
        if row.failure is None:
            outcome = found[row.item_id]
            if outcome.result is not None:
                usage += outcome.result.usage
            if outcome.result is None or not outcome.result.texts:
                row = row.failed(stage, outcome.error or no_text())
            else:
                row = keep(row, outcome.result)
        made.append(row)
    return Made(made, usage)


def only_text(result: Texts | None) -> str | None:
    """The text of a call with one sample an item."""
    return result.texts[0] if result and result.texts else None


def no_text() -> InternalError:
    """The error of an item that got neither a text nor an error."""
    return InternalError("The service answered neither a text nor an error for this item.", reason="NO_OUTPUT")
