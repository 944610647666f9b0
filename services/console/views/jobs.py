"""The loss of a job, step by step."""

from __future__ import annotations

import math

from ilf_client.models.jobs import JobProgress


def loss_points(progress: JobProgress) -> list[tuple[int, float]]:
    """Steps with their losses in their order, the newest one last."""
    points = {point.step: point.loss for point in progress.losses}
    points[progress.step] = progress.loss
    return sorted((step, loss) for step, loss in points.items() if step > 0 and math.isfinite(loss))
