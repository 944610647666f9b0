"""One thread that owns a model and shares its time fairly between calls."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing
from typing import Any, TypeVar

from ilf_common.errors import ResourceExhaustedError, UnavailableError

T = TypeVar("T")

_END = object()


class CallAbandonedError(Exception):
    """Raised inside a step whose caller has gone; never leaves this package."""


class Call:
    """A caller's work, cut into steps.

    Args:
        size: Requests in the call.
        plan: Answers the iterator of the steps; it runs on the thread, and so does every step.

    Attributes:
        abandoned: The caller has gone; steps look at it between forward passes.
        results: What the caller waits for: values, an error, or the mark of the end.
        seconds: Time that its steps have taken.
    """

    def __init__(self, size: int, plan: Callable[[Call], Iterator[Sequence[Any]]]) -> None:
        self.size = size
        self.abandoned = False
        self.results: asyncio.Queue[Any] = asyncio.Queue()
        self.seconds = 0.0
        self._steps = self._plan_in_first_step(plan)
        self._loop = asyncio.get_running_loop()

    def raise_if_abandoned(self) -> None:
        """Ends the running step when nobody waits for it any more."""
        if self.abandoned:
            raise CallAbandonedError

    def step(self) -> Sequence[Any] | None:
        """Runs the next step; None after the last one."""
        self.raise_if_abandoned()
        started = time.perf_counter()
        try:
            return next(self._steps, None)
        finally:
            self.seconds += time.perf_counter() - started

    def post(self, *results: Any) -> None:
        """Hands results to the caller's event loop; a closed loop has no caller."""
        try:
            self._loop.call_soon_threadsafe(self._put, results)
        except RuntimeError:
            self.abandoned = True

    def _put(self, results: Sequence[Any]) -> None:
        for result in results:
            self.results.put_nowait(result)

    def _plan_in_first_step(self, plan: Callable[[Call], Iterator[Sequence[Any]]]) -> Iterator[Sequence[Any]]:
        yield from plan(self)


class WorkQueue:
    """Runs the steps of all calls in turn on its own thread, so that a small call never waits for a huge one.

    Args:
        name: Of the thread.
        max_queue: Most requests that wait or run; an idle queue admits a call of any size.
        is_fatal: Tells the errors after which the model cannot go on.
    """

    def __init__(self, name: str, max_queue: int, is_fatal: Callable[[Exception], bool]) -> None:
        self._max_queue = max_queue
        self._is_fatal = is_fatal
        self._calls: deque[Call] = deque()
        self._running: Call | None = None
        self._pending = 0
        self._seconds_per_request = 0.01
        self._condition = threading.Condition()
        self._ended: UnavailableError | None = None
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    async def stop(self) -> None:
        """Ends the running step at its next forward pass, refuses the rest and waits for the thread."""
        with self._condition:
            self._end(UnavailableError("The engine is stopped.", reason="ENGINE_STOPPED"))
            for call in (*self._calls, self._running):
                if call is not None:
                    call.abandoned = True
        if self._thread.is_alive():
            await asyncio.to_thread(self._thread.join)

    def check_alive(self) -> None:
        """Raises UnavailableError when the thread does not run."""
        if self._ended is not None:
            raise self._ended
        if not self._thread.is_alive():
            raise UnavailableError("The engine is not started.", reason="ENGINE_STOPPED")

    async def run(self, action: Callable[[], T]) -> T:
        """Runs one action on the thread, between the steps of the calls; a full queue does not refuse it."""
        async with aclosing(self.stream(0, lambda _: iter([[action()]]))) as results:
            return await anext(results)

    async def stream(self, size: int, plan: Callable[[Call], Iterator[Sequence[T]]]) -> AsyncGenerator[T, None]:
        """Queues a call and yields its results; leaving the iterator abandons the call.

        Args:
            size: Requests in the call.
            plan: As in `Call`.

        Raises:
            ResourceExhaustedError: The queue is full.
            UnavailableError: The queue has ended.
        """
        call = Call(size, plan)
        self._admit(call)
        try:
            while (result := await call.results.get()) is not _END:
                if isinstance(result, BaseException):
                    raise result
                yield result
        finally:
            call.abandoned = True

    def _admit(self, call: Call) -> None:
        with self._condition:
            self.check_alive()
            if call.size and self._pending and self._pending + call.size > self._max_queue:
                raise ResourceExhaustedError(
                    f"{self._pending} requests are waiting and at most {self._max_queue} may; repeat the call later.",
                    retry_after=min(60.0, max(0.1, self._pending * self._seconds_per_request)),
                )
            self._pending += call.size
            self._calls.append(call)
            self._condition.notify_all()

    def _work(self) -> None:
        while (call := self._next_call()) is not None:
            goes_on = self._step(call)
            with self._condition:
                if goes_on:
                    self._calls.append(call)
                else:
                    self._pending -= call.size
                    self._note_speed(call)
        for waiting in self._calls:
            waiting.post(self._ended)

    def _next_call(self) -> Call | None:
        with self._condition:
            self._condition.wait_for(lambda: self._calls or self._ended)
            self._running = None if self._ended else self._calls.popleft()
            return self._running

    def _step(self, call: Call) -> bool:
        """Runs one step and tells whether the call has more."""
        try:
            results = call.step()
        except CallAbandonedError:
            call.post(self._ended)
            return False
        except Exception as error:  # Whatever it is, it belongs to this call's caller.
            call.post(self._died() if self._is_fatal(error) else error)
            return False
        if results is None:
            call.post(_END)
            return False
        call.post(*results)
        return True

    def _died(self) -> UnavailableError:
        with self._condition:
            return self._end(UnavailableError("The engine is dead; restart the service.", reason="ENGINE_DEAD"))

    def _end(self, reason: UnavailableError) -> UnavailableError:
        self._ended = self._ended or reason
        self._condition.notify_all()
        return self._ended

    def _note_speed(self, call: Call) -> None:
        if call.size:
            self._seconds_per_request += 0.2 * (call.seconds / call.size - self._seconds_per_request)
