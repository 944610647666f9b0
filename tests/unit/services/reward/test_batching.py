from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ilf_common.errors import ResourceExhaustedError, UnavailableError
from services.reward.batching import ScoringQueue, plan_batches
from services.reward.models import Limits
from tests.fakes.reward import FakeRewardModel


@given(st.lists(st.integers(1, 300), max_size=200), st.integers(1, 1000), st.integers(1, 20))
def test_batches_hold_each_sequence_once_and_keep_to_the_limits(
    lengths: list[int], batch_tokens: int, max_batch_size: int
) -> None:
    batches = plan_batches(lengths, Limits(batch_tokens, max_batch_size))
    assert sorted(position for batch in batches for position in batch) == list(range(len(lengths)))
    for batch in batches:
        padded = max(lengths[position] for position in batch) * len(batch)
        assert len(batch) <= max_batch_size
        assert padded <= batch_tokens or len(batch) == 1


@given(st.lists(st.integers(1, 300), min_size=1, max_size=200))
def test_batches_waste_no_more_padding_than_any_order_would(lengths: list[int]) -> None:
    batches = plan_batches(lengths, Limits(600, 8))
    ordered = [lengths[position] for batch in batches for position in batch]
    assert ordered == sorted(lengths, reverse=True)
    assert len(batches) >= math.ceil(len(lengths) / 8)


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(max_workers=1) as pool:
        yield pool


@pytest.fixture
def model() -> Iterator[FakeRewardModel]:
    fake = FakeRewardModel()
    yield fake
    fake.gate.set()


@pytest.fixture
async def queue(model: FakeRewardModel, executor: ThreadPoolExecutor) -> AsyncIterator[ScoringQueue]:
    waiting = ScoringQueue(model, executor, Limits(batch_tokens=100, max_batch_size=4, max_queue=8))
    yield waiting
    model.gate.set()
    await waiting.close()


def sequences(model: FakeRewardModel, *outputs: str) -> list[list[int]]:
    return [model.inputs.single("c", output) for output in outputs]


async def rewards(queue: ScoringQueue, ids: Sequence[Sequence[int]]) -> dict[int, float]:
    found: dict[int, float] = {}
    async for scores in queue.score(ids):
        found.update(scores)
    return found


async def entered(model: FakeRewardModel) -> None:
    assert await asyncio.to_thread(model.entered.wait, 10)


async def test_calls_that_come_together_share_batches_and_each_gets_its_own(
    queue: ScoringQueue, model: FakeRewardModel
) -> None:
    model.gate.clear()
    first = asyncio.create_task(rewards(queue, sequences(model, "9")))
    await entered(model)
    others = [asyncio.create_task(rewards(queue, sequences(model, str(number)))) for number in range(1, 5)]
    while queue.waiting < 4:
        await asyncio.sleep(0)
    model.gate.set()
    assert await first == {0: 9.0}
    assert [await other for other in others] == [{0: 1.0}, {0: 2.0}, {0: 3.0}, {0: 4.0}]
    assert [len(batch) for batch in model.batches] == [1, 4]


async def test_a_call_that_was_given_up_is_not_worked_for(queue: ScoringQueue, model: FakeRewardModel) -> None:
    model.gate.clear()
    first = asyncio.create_task(rewards(queue, sequences(model, "9")))
    await entered(model)
    given_up = asyncio.create_task(rewards(queue, sequences(model, "1111", "2222")))
    kept = asyncio.create_task(rewards(queue, sequences(model, "3")))
    while queue.waiting < 3:
        await asyncio.sleep(0)
    given_up.cancel()
    with pytest.raises(asyncio.CancelledError):
        await given_up
    model.gate.set()
    assert await first == {0: 9.0} and await kept == {0: 3.0}
    assert sum(map(len, model.batches)) == 2


async def test_closing_the_iterator_gives_the_rest_up(queue: ScoringQueue, model: FakeRewardModel) -> None:
    async with aclosing(queue.score(sequences(model, *"12345678"))) as arrivals:
        assert len(await anext(arrivals)) == 4
        model.gate.clear()
    model.gate.set()
    assert await rewards(queue, sequences(model, "7")) == {0: 7.0}


async def test_a_full_queue_refuses_with_a_time_to_come_back(queue: ScoringQueue, model: FakeRewardModel) -> None:
    model.gate.clear()
    first = asyncio.create_task(rewards(queue, sequences(model, "9")))
    await entered(model)
    waiting = asyncio.create_task(rewards(queue, sequences(model, *"12345678")))
    while queue.waiting < 8:
        await asyncio.sleep(0)
    with pytest.raises(ResourceExhaustedError) as caught:
        await rewards(queue, sequences(model, "1"))
    assert caught.value.reason == "QUEUE_FULL" and caught.value.retry_after
    model.gate.set()
    assert await first and len(await waiting) == 8


async def test_a_batch_larger_than_the_queue_is_taken_when_nothing_waits(
    queue: ScoringQueue, model: FakeRewardModel
) -> None:
    assert len(await rewards(queue, sequences(model, *["5"] * 20))) == 20


async def test_a_model_that_fails_fails_the_calls_of_that_batch_only(
    queue: ScoringQueue, model: FakeRewardModel
) -> None:
    model.error = RuntimeError("broken")
    with pytest.raises(RuntimeError):
        await rewards(queue, sequences(model, "1"))
    model.error = None
    assert await rewards(queue, sequences(model, "2")) == {0: 2.0}


async def test_closing_finishes_what_waits_and_refuses_what_comes(queue: ScoringQueue, model: FakeRewardModel) -> None:
    model.gate.clear()
    running = asyncio.create_task(rewards(queue, sequences(model, *"123456")))
    await entered(model)
    closing = asyncio.create_task(queue.close())
    await asyncio.sleep(0)
    with pytest.raises(UnavailableError):
        await rewards(queue, sequences(model, "1"))
    model.gate.set()
    assert len(await running) == 6
    await asyncio.wait_for(closing, 5)


async def test_no_sequences_need_no_model(queue: ScoringQueue, model: FakeRewardModel) -> None:
    assert await rewards(queue, []) == {}
    assert model.batches == []
