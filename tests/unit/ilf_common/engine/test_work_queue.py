from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing

import pytest
import pytest_asyncio

from ilf_common.engine.work_queue import Call, CallAbandonedError, WorkQueue
from ilf_common.errors import ResourceExhaustedError, UnavailableError


@pytest_asyncio.fixture
async def queue() -> AsyncIterator[WorkQueue]:
    queue = WorkQueue("test", max_queue=10, is_fatal=lambda error: isinstance(error, MemoryError))
    queue.start()
    yield queue
    await queue.stop()


def steps(*batches: Sequence[int]) -> Callable[[Call], Iterator[Sequence[int]]]:
    return lambda call: iter(batches)


async def collect(queue: WorkQueue, size: int, plan: Callable[[Call], Iterator[Sequence[int]]]) -> list[int]:
    return [result async for result in queue.stream(size, plan)]


async def test_results_of_all_steps_arrive_in_order(queue: WorkQueue) -> None:
    assert await collect(queue, 4, steps([1, 2], [], [3], [4])) == [1, 2, 3, 4]


async def test_calls_take_turns_so_a_small_one_overtakes_a_huge_one(queue: WorkQueue) -> None:
    order: list[str] = []
    begun, go_on = threading.Event(), threading.Event()

    def huge(call: Call) -> Iterator[list[int]]:
        for index in range(5):
            begun.set()
            go_on.wait(10)
            order.append("huge")
            yield [index]

    def small(call: Call) -> Iterator[list[int]]:
        order.append("small")
        yield [0]

    first = asyncio.create_task(collect(queue, 5, huge))
    await asyncio.to_thread(begun.wait, 10)
    second = asyncio.create_task(collect(queue, 1, small))
    await asyncio.sleep(0)
    go_on.set()
    await asyncio.gather(first, second)
    assert order.index("small") == 1


async def test_an_error_reaches_its_caller_only(queue: WorkQueue) -> None:
    def failing(call: Call) -> Iterator[list[int]]:
        yield [1]
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await collect(queue, 2, failing)
    assert await collect(queue, 1, steps([7])) == [7]


async def test_a_full_queue_refuses_with_a_time_to_come_back(queue: WorkQueue) -> None:
    go_on = threading.Event()

    def held(call: Call) -> Iterator[list[int]]:
        go_on.wait(10)
        yield [1]

    waiting = asyncio.create_task(collect(queue, 8, held))
    await asyncio.sleep(0)
    with pytest.raises(ResourceExhaustedError) as caught:
        await collect(queue, 3, steps([1]))
    assert caught.value.retry_after is not None and caught.value.retry_after > 0
    go_on.set()
    assert await waiting == [1]


async def test_an_idle_queue_takes_a_call_larger_than_itself(queue: WorkQueue) -> None:
    assert await collect(queue, 11, steps([1])) == [1]
    assert await collect(queue, 11, steps([2])) == [2]


async def test_leaving_the_iterator_ends_the_step_in_the_middle(queue: WorkQueue) -> None:
    begun, ended = threading.Event(), threading.Event()

    def endless(call: Call) -> Iterator[list[int]]:
        yield [1]
        begun.set()
        try:
            while True:
                call.raise_if_abandoned()
        except CallAbandonedError:
            ended.set()
            raise

    async with aclosing(queue.stream(2, endless)) as results:
        assert await anext(results) == 1
        assert await asyncio.to_thread(begun.wait, 10)
    assert await asyncio.to_thread(ended.wait, 10)
    assert await collect(queue, 1, steps([7])) == [7]


async def test_stopping_answers_those_who_wait(queue: WorkQueue) -> None:
    def endless(call: Call) -> Iterator[list[int]]:
        while True:
            call.raise_if_abandoned()

    waiting = [asyncio.create_task(collect(queue, 1, endless)) for _ in range(3)]
    await asyncio.sleep(0.01)
    await queue.stop()
    answers = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(answer, UnavailableError) for answer in answers)
    with pytest.raises(UnavailableError):
        await collect(queue, 1, steps([1]))


async def test_a_fatal_error_ends_the_queue(queue: WorkQueue) -> None:
    def fatal(call: Call) -> Iterator[list[int]]:
        yield []
        raise MemoryError

    with pytest.raises(UnavailableError) as caught:
        await collect(queue, 1, fatal)
    assert caught.value.reason == "ENGINE_DEAD"
    with pytest.raises(UnavailableError):
        queue.check_alive()


async def test_actions_run_on_the_thread_even_when_the_queue_is_full(queue: WorkQueue) -> None:
    go_on = threading.Event()

    def held(call: Call) -> Iterator[list[int]]:
        go_on.wait(10)
        yield [1]

    waiting = asyncio.create_task(collect(queue, 12, held))
    await asyncio.sleep(0)
    action = asyncio.create_task(queue.run(lambda: threading.current_thread().name))
    await asyncio.sleep(0)
    go_on.set()
    assert await action == "test"
    assert await waiting == [1]
