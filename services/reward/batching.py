"""Puts the sequences of all calls into batches of like length and has one thread score them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field

from ilf_common.errors import ResourceExhaustedError, UnavailableError
from services.reward.models import Limits
from services.reward.ports import RewardModel

_RETRY_AFTER_SECONDS = 1.0

Scores = list[tuple[int, float]]
"""Positions in a call, and their rewards."""


def plan_batches(lengths: Sequence[int], limits: Limits) -> list[list[int]]:
    """Cuts sequences, longest first, into batches whose padded size keeps within `limits`.

    Args:
        lengths: Tokens of each sequence.
        limits: `batch_tokens` and `max_batch_size`.

    Returns:
        Positions in `lengths`, each exactly once; equal lengths keep their order.
    """
    batches: list[list[int]] = []
    room = 0
    for position in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        if room == 0:
            batches.append([])
            # The first of a batch is its longest, so all others are padded to it.
            room = min(limits.max_batch_size, max(1, limits.batch_tokens // max(1, lengths[position])))
        batches[-1].append(position)
        room -= 1
    return batches


@dataclass
class _Call:
    """One call's place where its finished scores arrive."""

    arrivals: asyncio.Queue[Scores | Exception] = field(default_factory=asyncio.Queue)
    abandoned: bool = False


@dataclass(frozen=True)
class _Ticket:
    """One sequence of a call."""

    call: _Call
    index: int
    ids: Sequence[int]


class ScoringQueue:
    """The sequences that wait for one model.

    They are taken in the order of arrival, a window at a time; within a window, batches hold sequences of like length,
    of whatever calls. Sequences of a call that was given up are left out of every batch that has not begun.

    Args:
        model: Scores the batches.
        executor: Runs the model; one thread.
        limits: Sizes of batches, window and queue.
    """

    def __init__(self, model: RewardModel, executor: Executor, limits: Limits) -> None:
        self._model = model
        self._executor = executor
        self._limits = limits
        self._waiting: deque[_Ticket] = deque()
        self._arrived = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._closed = False
        self._worker = asyncio.create_task(self._work())

    @property
    def waiting(self) -> int:
        """Sequences that no batch has taken yet."""
        return len(self._waiting)

    async def score(self, sequences: Sequence[Sequence[int]]) -> AsyncGenerator[Scores]:
        """Rewards as batches finish, each position exactly once. Closing the iterator gives the rest up.

        Args:
            sequences: Token ids.

        Raises:
            ResourceExhaustedError: reason QUEUE_FULL.
            UnavailableError: reason MODEL_UNLOADED; the model is on its way out.
        """
        call = _Call()
        self._admit([_Ticket(call, index, ids) for index, ids in enumerate(sequences)])
        missing = len(sequences)
        try:
            while missing:
                arrival = await call.arrivals.get()
                if isinstance(arrival, Exception):
                    raise arrival
                missing -= len(arrival)
                yield arrival
        finally:
            call.abandoned = True

    async def close(self) -> None:
        """Takes no further calls, finishes those that wait, and ends."""
        self._closed = True
        await self._idle.wait()
        self._worker.cancel()

    def _admit(self, tickets: Sequence[_Ticket]) -> None:
        if self._closed:
            raise UnavailableError("The reward model is being unloaded.", reason="MODEL_UNLOADED")
        if self._waiting and len(self._waiting) + len(tickets) > self._limits.max_queue:
            raise ResourceExhaustedError(
                f"{len(self._waiting):,} texts wait for this reward model, and {len(tickets):,} more are too many "
                f"(limit {self._limits.max_queue:,}). Try again soon, or send fewer at once.",
                metadata={"limit": str(self._limits.max_queue)},
                retry_after=_RETRY_AFTER_SECONDS,
            )
        if tickets:
            self._waiting.extend(tickets)
            self._arrived.set()
            self._idle.clear()

    async def _work(self) -> None:
        while True:
            await self._arrived.wait()
            window = [self._waiting.popleft() for _ in range(min(self._limits.window, len(self._waiting)))]
            for batch in plan_batches([len(ticket.ids) for ticket in window], self._limits):
                await self._run([window[position] for position in batch])
            if not self._waiting:
                self._arrived.clear()
                self._idle.set()

    async def _run(self, batch: Sequence[_Ticket]) -> None:
        tickets = [ticket for ticket in batch if not ticket.call.abandoned]
        if not tickets:
            return
        loop = asyncio.get_running_loop()
        try:
            rewards = await loop.run_in_executor(self._executor, self._model.score, [ticket.ids for ticket in tickets])
        except Exception as error:
            for call in {id(ticket.call): ticket.call for ticket in tickets}.values():
                call.arrivals.put_nowait(error)
            return
        finished: dict[int, tuple[_Call, Scores]] = {}
        for ticket, reward in zip(tickets, rewards, strict=True):
            finished.setdefault(id(ticket.call), (ticket.call, []))[1].append((ticket.index, reward))
        for call, scores in finished.values():
            call.arrivals.put_nowait(scores)
