"""The line in front of the workers: who is next, who gets it, and that the numbers add up whatever happens."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from ilf_common.errors import ResourceExhaustedError, UnavailableError
from ilf_common.front.line import Call, Grant, Line


def numbers(line: Line) -> tuple[int, int, int]:
    return line.numbers.queued_items, line.numbers.running_items, line.numbers.finished_items


async def hold(
    line: Line, call: Call, items: int, got: list[tuple[str, str]], name: str, release: asyncio.Event
) -> None:
    async with line.worker_for(call, items, 10) as grant:
        got.append((name, grant.worker))
        await release.wait()
        grant.finish(items)


async def test_the_least_busy_worker_gets_the_next_items() -> None:
    line = Line(100, 10)
    line.add_worker("a")
    line.add_worker("b")
    async with AsyncExitStack() as stack:
        call = stack.enter_context(line.admit(9))
        grants: list[Grant] = [await stack.enter_async_context(line.worker_for(call, 3, 1)) for _ in range(2)]
        assert {grant.worker for grant in grants} == {"a", "b"}
        grants[1].finish(2)
        third = await stack.enter_async_context(line.worker_for(call, 3, 1))
        assert third.worker == grants[1].worker
        assert numbers(line) == (0, 7, 2)
    assert numbers(line) == (0, 0, 2)


async def test_calls_take_turns_whatever_their_size() -> None:
    line = Line(1000, 1)
    got: list[tuple[str, str]] = []
    release = asyncio.Event()
    release.set()
    with line.admit(4) as large, line.admit(1) as small:
        tasks = [asyncio.create_task(hold(line, large, 1, got, "large", release)) for _ in range(4)]
        await asyncio.sleep(0)
        tasks.append(asyncio.create_task(hold(line, small, 1, got, "small", release)))
        await asyncio.sleep(0)
        line.add_worker("a")
        await asyncio.gather(*tasks)
    assert [name for name, _ in got] == ["large", "small", "large", "large", "large"]


async def test_a_worker_gets_no_more_than_its_share_and_none_after_it_left() -> None:
    line = Line(100, 2)
    line.add_worker("a")
    with line.admit(3) as call:
        async with line.worker_for(call, 1, 1), line.worker_for(call, 1, 1):
            with pytest.raises(UnavailableError, match="busy"):
                async with line.worker_for(call, 1, 0.01):
                    pass
            line.remove_worker("a")
        assert numbers(line) == (3, 0, 0)
        with pytest.raises(UnavailableError, match="woken") as caught:
            async with line.worker_for(call, 1, 0.01):
                pass
        assert caught.value.reason == "NO_WORKER" and caught.value.retry_after
    assert numbers(line) == (0, 0, 0)


async def test_the_bound_holds_for_what_waits_and_one_large_call_still_gets_in() -> None:
    line = Line(10, 2)
    with line.admit(50):
        with pytest.raises(ResourceExhaustedError) as caught, line.admit(1):
            pass
        assert caught.value.retry_after
    with line.admit(10):
        pass


async def test_a_call_that_gives_up_while_it_waits_leaves_nothing_behind() -> None:
    line = Line(10, 2)
    with line.admit(2) as call:
        waiting = asyncio.create_task(hold(line, call, 2, [], "x", asyncio.Event()))
        await asyncio.sleep(0)
        line.add_worker("a")
        # The worker was given and the call gives up in the same moment.
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert numbers(line) == (2, 0, 0)
        async with line.worker_for(call, 2, 1) as grant:
            assert grant.worker == "a"


async def test_busy_seconds_count_workers_that_have_items() -> None:
    now = 0.0
    line = Line(10, 5, clock=lambda: now)
    line.add_worker("a")
    line.add_worker("b")
    now = 5.0
    with line.admit(2) as call:
        async with line.worker_for(call, 1, 1):
            now = 6.0
            async with line.worker_for(call, 1, 1):
                now = 8.0
    now = 20.0
    assert line.numbers.busy_worker_seconds == pytest.approx(1 + 2 * 2)


async def test_queued_seconds_count_items_that_wait_whether_a_worker_comes_or_not() -> None:
    now = 0.0
    line = Line(10, 5, clock=lambda: now)
    with line.admit(3) as call:
        now = 2.0
        line.add_worker("a")
        async with line.worker_for(call, 2, 1):
            now = 6.0
    now = 20.0
    assert line.numbers.queued_item_seconds == pytest.approx(3 * 2 + 1 * 4)
