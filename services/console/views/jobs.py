"""The loss of a job as far as a page has seen it: the finetune service tells the newest step only."""

from __future__ import annotations

import math

from ilf_client.models.jobs import JobProgress

_MOST_POINTS = 400


def loss_points(seen: str, progress: JobProgress) -> list[tuple[int, float]]:
    """Steps with their losses in their order: those that the page remembers, and the newest.

    Args:
        seen: `step:loss` with commas between; what is no such pair is passed by.
        progress: What the service says now.
    """
    found: dict[int, float] = {}
    for pair in seen.split(",")[-_MOST_POINTS:]:
        step, _, loss = pair.partition(":")
        try:
            found[int(step)] = float(loss)
        except ValueError:
            continue
    if progress.step:
        found = {step: loss for step, loss in found.items() if step < progress.step}
        found[progress.step] = progress.loss
    return sorted((step, loss) for step, loss in found.items() if step > 0 and math.isfinite(loss))
