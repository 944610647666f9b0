"""Groups what is ready together, so that thousands of small results do not each cost a message."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TypeVar

ValueT = TypeVar("ValueT")


async def coalesce(
    source: AsyncGenerator[ValueT], *, max_items: int = 256, max_wait: float = 0.003
) -> AsyncGenerator[list[ValueT]]:
    """Yields the values of `source` in groups, in order.

    Closing this iterator closes `source` at once, wherever it is. An error of `source` comes after all values that
    were ready before it.

    Args:
        source: Where the values come from.
        max_items: Most values in one group.
        max_wait: Seconds that a value that is ready waits for others at most.
    """
    ready: list[ValueT] = []
    arrived = asyncio.Event()

    async def pump() -> None:
        try:
            async with aclosing(source):
                async for value in source:
                    ready.append(value)
                    arrived.set()
        finally:
            arrived.set()

    pumping = asyncio.create_task(pump())
    try:
        while ready or not pumping.done():
            await arrived.wait()
            if len(ready) < max_items:
                await asyncio.wait({pumping}, timeout=max_wait)
            arrived.clear()
            group, ready[:] = ready[:max_items], ready[max_items:]
            if ready or pumping.done():
                arrived.set()
            if group:
                yield group
        await pumping
    finally:
        pumping.cancel()
        await asyncio.wait({pumping})
