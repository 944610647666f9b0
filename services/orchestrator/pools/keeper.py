"""Keeps the board up to date: listens to the fronts and looks at the runs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence

from ilf_common.errors import IlfError
from services.orchestrator.journal import Signal, wait_for
from services.orchestrator.pools.board import PoolBoard
from services.orchestrator.pools.journey import Journey
from services.orchestrator.pools.ports import PoolFront
from services.orchestrator.ports import Clock

log = logging.getLogger("ilf.orchestrator")
_LOOK_SECONDS = 0.5
_AGAIN_SECONDS = 1.0

Journeys = Callable[[], Sequence[Journey]]


class PoolKeeper:
    """Implements `ports.GpuOrder` on top of a board that it keeps.

    Args:
        board: What is kept.
        fronts: By the pool's name.
        journeys: What is left of all runs that have not ended.
        clock: Time.
    """

    def __init__(self, board: PoolBoard, fronts: Mapping[str, PoolFront], journeys: Journeys, clock: Clock) -> None:
        self.board = board
        self._fronts = fronts
        self._journeys = journeys
        self._clock = clock
        self._heard = Signal()
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def changed(self) -> Signal:
        """Given when a pool wants or has another number of replicas."""
        return self.board.changed

    def start(self) -> None:
        """Begins to listen and to look."""
        listening = [self._listen(name, front) for name, front in self._fronts.items()]
        self._tasks = [asyncio.create_task(work) for work in ([self._look_on(), *listening] if listening else [])]

    async def stop(self) -> None:
        """Ends what `start` began."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def leaving(self) -> Sequence[str]:
        """What training has to wait for, by what the runs need right now."""
        self._look()
        return self.board.leaving()

    def _look(self) -> None:
        self.board.look(self._journeys(), self._clock.now())

    async def _look_on(self) -> None:
        while True:
            heard = self._heard.ticket()
            try:
                self._look()
            except Exception:
                log.exception("the pools could not be decided about; they stay as they are")
            await wait_for(heard, _LOOK_SECONDS)

    async def _listen(self, name: str, front: PoolFront) -> None:
        answers = True
        while True:
            try:
                async for status in front.watch():
                    answers = True
                    self.board.front_says(name, status, self._clock.now())
                    self._heard.give()
            except IlfError as error:
                if answers:
                    log.warning("the front of pool %s does not answer: %s", name, error.message)
                answers = False
            except Exception:
                log.exception("the front of pool %s could not be listened to; it is tried again", name)
            self.board.front_says(name, None, self._clock.now())
            await self._clock.sleep(_AGAIN_SECONDS)
