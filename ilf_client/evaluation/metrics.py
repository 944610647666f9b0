"""A task's own metric: a function of the user from context and output to a number."""

from __future__ import annotations

import asyncio
import inspect
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from ilf_client.plugin import load_function
from ilf_common.errors import FailedPreconditionError

Metric = Callable[[str, str], Any]
"""Plain or async; answers a number or a truth value."""


def metrics_of(names: Sequence[str]) -> dict[str, Metric]:
    """The functions that `module:function` names, by the name of the function.

    Raises:
        InvalidArgumentError: There is no such module or function.
    """
    return {name.rpartition(":")[2]: load_function(name) for name in names}


async def measure(metric: Metric, name: str, context: str, output: str) -> float:
    """What a metric says of one output.

    Raises:
        FailedPreconditionError: reason METRIC_WRONG_ANSWER; it is no finite number.
    """
    if inspect.iscoroutinefunction(metric):
        answer: Awaitable[Any] = metric(context, output)
        value = await answer
    else:
        value = await asyncio.to_thread(metric, context, output)
    if not isinstance(value, bool | int | float) or not math.isfinite(value):
        raise FailedPreconditionError(
            f"The metric {name!r} answered {value!r}, a finite number is wanted.", reason="METRIC_WRONG_ANSWER"
        )
    return float(value)


def all_metrics(names: Sequence[str], given: Mapping[str, Metric]) -> dict[str, Metric]:
    """Metrics by name, those of a spec and those of the caller."""
    return {**metrics_of(names), **given}
