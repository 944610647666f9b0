from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.refinement.coalescing import coalesce


async def instant(count: int) -> AsyncGenerator[int]:
    for k in range(count):
        yield k


@given(st.integers(0, 1000), st.integers(1, 300))
async def test_every_value_comes_once_and_in_order_in_groups_of_at_most_the_limit(count: int, limit: int) -> None:
    groups = [group async for group in coalesce(instant(count), max_items=limit)]

    assert [value for group in groups for value in group] == list(range(count))
    assert all(0 < len(group) <= limit for group in groups)
    assert len(groups) == -(-count // limit)


async def test_a_value_does_not_wait_for_the_next_one() -> None:
    go_on = asyncio.Event()

    async def slow() -> AsyncGenerator[str]:
        yield "first"
        await go_on.wait()
        yield "second"

    async with aclosing(coalesce(slow())) as groups:
        assert await anext(groups) == ["first"]
        go_on.set()
        assert await anext(groups) == ["second"]


async def test_an_error_comes_after_what_was_ready_before_it() -> None:
    async def failing() -> AsyncGenerator[int]:
        yield 1
        yield 2
        raise ValueError("broken")

    seen = []
    with pytest.raises(ValueError, match="broken"):
        async for group in coalesce(failing(), max_items=1):
            seen += group
    assert seen == [1, 2]


async def test_closing_closes_the_source_while_it_waits() -> None:
    closed = asyncio.Event()

    async def endless() -> AsyncGenerator[int]:
        try:
            yield 1
            await asyncio.Event().wait()
        finally:
            closed.set()

    groups = coalesce(endless())
    await anext(groups)
    await groups.aclose()

    assert closed.is_set()
