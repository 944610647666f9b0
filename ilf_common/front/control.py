"""Calls that change what a pool serves: every ready worker does it, or none."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from google.protobuf.message import Message

from ilf_common.errors import IlfError, UnavailableError
from ilf_common.front.api import FrontedApi, Method
from ilf_common.front.fleet import Fleet
from ilf_common.front.journal import Journal
from ilf_common.front.line import Line
from ilf_common.front.serving import TELL_SECONDS, Serving
from ilf_common.front.worker import Worker

log = logging.getLogger("ilf.front")

_Answer = tuple[Worker, Any]


class Control:
    """Sends control calls to all ready workers and writes them down.

    Args:
        api: Of the service.
        serving: What the pool serves.
        fleet: Its workers.
        line: Where a call waits while no worker is awake.
        changed: Told after a change, with a worker that has it.
    """

    def __init__(
        self, api: FrontedApi, serving: Serving, fleet: Fleet, line: Line, changed: Callable[[Worker], Awaitable[None]]
    ) -> None:
        self._api = api
        self._serving = serving
        self._fleet = fleet
        self._line = line
        self._changed = changed
        self._changing = asyncio.Lock()
        self._finishing: set[asyncio.Task[Any]] = set()

    async def change(self, method: Method, request: Message, seconds: float) -> Any:
        """Makes a change; a caller that gives up meanwhile does not leave it half made.

        Args:
            method: A control call.
            request: Its request.
            seconds: Longest wait for a worker.

        Returns:
            What the workers answered.

        Raises:
            UnavailableError: No worker in time.
            IlfError: A worker refused; then the others are as before.
        """
        with self._line.admit(1) as call:
            async with self._line.worker_for(call, 1, seconds) as grant:
                work = asyncio.create_task(self._broadcast(method, request))
                self._finishing.add(work)
                work.add_done_callback(self._finishing.discard)
                response = await asyncio.shield(work)
                grant.finish(1)
                return response

    async def _broadcast(self, method: Method, request: Message) -> Any:
        async with self._changing:
            await self._serving.load()
            workers = self._fleet.ready
            answers = await asyncio.gather(*(self._ask(worker, method, request) for worker in workers))
            gone = [worker for worker, answer in answers if isinstance(answer, UnavailableError)]
            refused = [(worker, one) for worker, one in answers if isinstance(one, IlfError) and worker not in gone]
            done = [(worker, one) for worker, one in answers if not isinstance(one, IlfError)]
            for worker in gone:
                # It may or may not have done it: it is brought to the journal again before it serves.
                worker.told.clear()
                worker.rest(None)
            if not done:
                raise _explained(*refused[0], len(workers), 0) if refused else _all_gone()
            before, response = self._serving.journal, done[0][1]
            after = (self._api.controls or {})[method.name](before, request, response)
            for worker, _ in done:
                _note(worker, before, after)
            try:
                if refused:
                    raise _explained(*refused[0], len(workers), len(done))
                await self._serving.save(after)
            except IlfError:
                await asyncio.gather(*(self._go_back(worker, before, after) for worker, _ in done))
                raise
            log.info("served by all", extra={"method": method.name, "workers": len(done)})
            with suppress(IlfError):
                await self._changed(done[0][0])
            return response

    async def _ask(self, worker: Worker, method: Method, request: Message) -> _Answer:
        try:
            await self._serving.ensure(worker, self._api.keys(request))
            return worker, await worker.call(method, request, timeout=TELL_SECONDS)
        except IlfError as error:
            return worker, error

    async def _go_back(self, worker: Worker, before: Journal, after: Journal) -> None:
        """The journal was not changed, so a worker that was is brought to it as any other."""
        try:
            await self._serving.bring(worker)
            await self._serving.ensure(worker, before.changed_keys(after))
        except IlfError as error:
            log.error("worker did not go back: %s", error.message, extra={"worker": worker.address})
            worker.rest(None)


def _note(worker: Worker, before: Journal, after: Journal) -> None:
    """A worker has done what leads from one journal to the other."""
    for key in before.changed_keys(after):
        entry = after.get(key)
        if entry is not None:
            worker.told[key] = entry.revision
        else:
            worker.told.pop(key, None)


def _all_gone() -> UnavailableError:
    return UnavailableError(
        "All workers went away during the call; send it again.", reason="NO_WORKER", retry_after=1.0
    )


def _explained(worker: Worker, error: IlfError, asked: int, did: int) -> IlfError:
    """The worker's own error, with who said it and what became of the others."""
    if asked > 1:
        error.message = (
            f"Worker {worker.address} cannot: {error.message} Nothing has changed: "
            f"{did} of {asked} workers could, and went back."
        )
        error.metadata = {**error.metadata, "worker": worker.address}
    return error
