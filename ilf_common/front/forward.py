"""Calls on their way to a worker and back: waiting, sharing, and repeating what is safe to repeat."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, TypeVar

from google.protobuf.message import Message

from ilf_common.errors import CancelledError, IlfError, UnavailableError
from ilf_common.front.api import FrontedApi, Method
from ilf_common.front.fleet import Fleet
from ilf_common.front.line import Call, Grant, Line
from ilf_common.front.pieces import Piece, cut
from ilf_common.front.serving import Serving
from ilf_common.front.worker import Worker
from ilf_common.rpc.client import is_transient
from ilf_common.rpc.context import time_remaining

ResultT = TypeVar("ResultT")

# Enough for a pool that is updated worker by worker; few enough that items which kill workers come to an end.
_WORKERS_PER_ITEM = 8
# A batch takes turns with itself, so that a worker computes one piece while the next is on its way.
_PIECES_PER_WORKER = 4
# The share of a caller's time that is kept for telling it that no worker came.
_ANSWER_SHARE = 0.1
_ANSWER_SECONDS = 1.0


class Forwarder:
    """Forwards calls that one worker answers.

    Args:
        api: Of the service.
        serving: What workers have to know.
        fleet: The workers.
        line: In front of them.
        worker_items: Items that a worker has at once.
        wait_seconds: Longest wait for a worker.
    """

    def __init__(
        self, api: FrontedApi, serving: Serving, fleet: Fleet, line: Line, *, worker_items: int, wait_seconds: float
    ) -> None:
        self._api = api
        self._serving = serving
        self._fleet = fleet
        self._line = line
        self._piece_items = max(1, worker_items // _PIECES_PER_WORKER)
        self._wait_seconds = wait_seconds

    def wait_seconds(self) -> float:
        """How long the present call may wait for a worker: the caller must hear of it before its deadline."""
        remaining = time_remaining()
        if remaining is None:
            return self._wait_seconds
        return min(self._wait_seconds, remaining - min(_ANSWER_SECONDS, _ANSWER_SHARE * remaining))

    async def single(self, method: Method, request: Message) -> Any:
        """A call with one response. Repeated with another worker, unless that might do something twice."""

        async def ask(worker: Worker, grant: Grant, last: bool) -> Any:
            response = await worker.call(method, request, timeout=time_remaining())
            grant.finish(1)
            return response

        repeatable = not method.changes or bool(getattr(request, "request_id", ""))
        with self._line.admit(1) as call:
            return await self._with_worker(
                call, request, lambda: 1, ask, attempts=_WORKERS_PER_ITEM if repeatable else 1
            )

    async def batch(self, method: Method, request: Any) -> AsyncGenerator[Any, None]:
        """A call that streams outcomes of its items; pieces of it go to several workers at once."""
        pieces = cut(request, self._piece_items)
        arrived: asyncio.Queue[Any] = asyncio.Queue()
        with self._line.admit(sum(piece.size for piece in pieces)) as call:
            tasks = [asyncio.create_task(self._piece(call, method, request, piece, arrived)) for piece in pieces]
            all_done = asyncio.gather(*tasks)
            all_done.add_done_callback(lambda _: arrived.put_nowait(None))
            try:
                while (response := await arrived.get()) is not None:
                    yield response
                await all_done
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, all_done, return_exceptions=True)

    async def _piece(self, call: Call, method: Method, batch: Any, piece: Piece, arrived: asyncio.Queue[Any]) -> None:
        async def ask(worker: Worker, grant: Grant, last: bool) -> None:
            try:
                async with aclosing(worker.stream(method, piece.request(), timeout=time_remaining())) as responses:
                    async for response in responses:
                        counting = piece.take(response, last=last)
                        if counting.outcomes:
                            grant.finish(len(counting.outcomes))
                            arrived.put_nowait(counting)
            except IlfError:
                # A worker that went after its last outcome owes nothing; asked again, it would get an empty batch.
                if not piece.is_answered:
                    raise
            if piece.unanswered:
                raise UnavailableError("A worker left items without an outcome.", reason="ENGINE_UNAVAILABLE")

        await self._with_worker(call, batch, lambda: piece.unanswered or piece.size, ask, attempts=_WORKERS_PER_ITEM)

    async def _with_worker(
        self,
        call: Call,
        request: Message,
        size: Callable[[], int],
        ask: Callable[[Worker, Grant, bool], Awaitable[ResultT]],
        *,
        attempts: int,
    ) -> ResultT:
        """Asks one worker, and another one where that breaks off."""
        keys = self._api.keys(request)
        for left in reversed(range(attempts)):
            again = left < attempts - 1
            async with self._line.worker_for(call, size(), self.wait_seconds(), again=again) as grant:
                try:
                    worker = self._fleet.find(grant.worker)
                    await self._serving.ensure(worker, keys)
                    return await ask(worker, grant, not left)
                except IlfError as error:
                    if not _broke_off(error):
                        grant.finish(grant.items)
                        raise
                    self._fleet.rest(grant.worker, error)
                    if not left:
                        raise
        raise AssertionError("the last attempt answers or raises")


def _broke_off(error: IlfError) -> bool:
    """Whether another worker may answer: this one is gone, stopping, broken or full. Nobody here has cancelled."""
    return is_transient(error) or isinstance(error, CancelledError)
