"""All workers of a pool: found by their addresses, ready by their health."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

import grpc

from ilf_common.errors import IlfError, RetryableError
from ilf_common.front.addresses import Resolve
from ilf_common.front.line import Line
from ilf_common.front.worker import Worker, gone

log = logging.getLogger("ilf.front")


class Fleet:
    """Keeps one `Worker` for each address.

    Args:
        service: Full gRPC service name.
        resolve: Answers the addresses.
        connect: Opens a channel to an address.
        pause: Seconds between two looks at the addresses.
        line: Told which workers are ready.
        prepare: Brings a worker to what the pool serves, before it is ready.
    """

    def __init__(
        self,
        service: str,
        resolve: Resolve,
        connect: Callable[[str], grpc.aio.Channel],
        pause: float,
        line: Line,
        prepare: Callable[[Worker], Awaitable[None]],
    ) -> None:
        self._service = service
        self._resolve = resolve
        self._connect = connect
        self._pause = pause
        self._line = line
        self._prepare = prepare
        self._workers: dict[str, Worker] = {}
        self._ready: dict[str, Worker] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def ready(self) -> list[Worker]:
        """The workers that may get calls."""
        return list(self._ready.values())

    def find(self, address: str) -> Worker:
        """The worker that the line gave a call to.

        Raises:
            UnavailableError: It has gone since.
        """
        if address not in self._ready:
            raise gone(address)
        return self._ready[address]

    def rest(self, address: str, error: IlfError) -> None:
        """A call to this worker broke off."""
        if address in self._ready:
            log.warning("call broke off", extra={"worker": address, "reason": error.reason})
            self._ready[address].rest(error.retry_after if isinstance(error, RetryableError) else None)

    async def start(self) -> None:
        """Begins to look for workers."""
        self._keep(asyncio.create_task(self._look()))

    async def stop(self) -> None:
        """Lets all workers go."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(worker.close() for worker in self._workers.values()))

    async def _look(self) -> None:
        while True:
            try:
                self._follow(await self._resolve())
            except OSError as error:
                # Better workers that may be gone than none: their health tells.
                log.warning("addresses of workers unknown", extra={"error": str(error)})
            await asyncio.sleep(self._pause)

    def _follow(self, addresses: frozenset[str]) -> None:
        for address in addresses - self._workers.keys():
            self._workers[address] = Worker(
                address, self._connect(address), self._service, self._prepare, self._on_ready
            )
        for address in self._workers.keys() - addresses:
            worker = self._workers.pop(address)
            log.info("worker leaves", extra={"worker": address, "items": self._line.outstanding(address)})
            self._keep(asyncio.create_task(worker.leave()))

    def _on_ready(self, worker: Worker, ready: bool) -> None:
        if ready:
            self._ready[worker.address] = worker
            self._line.add_worker(worker.address)
        elif self._ready.get(worker.address) is worker:
            del self._ready[worker.address]
            self._line.remove_worker(worker.address)

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
