"""What every call to an engine needs: an end to the work when nobody wants it, and errors in the caller's words."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from ilf_common.engine.port import Outcome
from ilf_common.errors import FieldViolation, InternalError, InvalidArgumentError
from services.refinement.models import Item, ItemOutcome

ValueT = TypeVar("ValueT")

# The engine knows a prompt; the caller sent a context, which is what makes prompts long.
_FIELDS = {"prompt": "context", "temperature": "sampling.temperature"}


@asynccontextmanager
async def closing(outcomes: AsyncIterator[ValueT]) -> AsyncIterator[AsyncIterator[ValueT]]:
    """Closes an engine's iterator at the end of the block, which aborts what still runs."""
    try:
        yield outcomes
    finally:
        close = getattr(outcomes, "aclose", None)
        if close is not None:
            await close()


def failed(item: Item, outcome: Outcome[Any]) -> ItemOutcome[Any]:
    """The outcome of an item that the engine refused; wrong fields have the names that the caller knows."""
    error = outcome.error or InternalError("The engine answered neither a value nor an error.")
    if isinstance(error, InvalidArgumentError) and error.violations:
        violations = [FieldViolation(_FIELDS.get(v.field, v.field), v.description) for v in error.violations]
        error = InvalidArgumentError(violations=violations, reason=error.reason, metadata=error.metadata)
    return ItemOutcome(item.item_id, error=error)
