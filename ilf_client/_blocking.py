"""How a synchronous twin is made of an asynchronous class: the same signatures, run on one background event loop.

`Runs.get = Blocking(AsyncRuns.get)` is a method with the parameters and the result of `AsyncRuns.get`, for people and
for type checkers alike; nothing of it is written twice.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, cast, overload

P = ParamSpec("P")
R = TypeVar("R")
N = TypeVar("N")
N_co = TypeVar("N_co", covariant=True)

_END = object()


class LoopThread:
    """An event loop in a background thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="ilf-client", daemon=True)
        self._thread.start()

    @property
    def is_stopped(self) -> bool:
        """`stop` was called."""
        return self._loop.is_closed()

    def run(self, coroutine: Coroutine[Any, Any, R]) -> R:
        """Runs a coroutine to its end; an interrupt (Ctrl-C) here cancels it there."""
        if self.is_stopped:
            coroutine.close()
            raise RuntimeError("the client is closed")
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def iterate(self, iterator: AsyncGenerator[R, None]) -> Iterator[R]:
        """The elements of an asynchronous iterator; leaving the loop early closes it, and so ends the call."""

        async def step() -> R | object:
            return await anext(iterator, _END)

        async def close() -> None:
            await iterator.aclose()

        try:
            while (element := self.run(step())) is not _END:
                yield cast(R, element)
        finally:
            if not self.is_stopped:
                self.run(close())

    def stop(self) -> None:
        """Ends the loop and its thread."""
        if self.is_stopped:
            return
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class SyncNoun(Generic[N_co]):
    """The synchronous twin of one asynchronous object."""

    def __init__(self, twin: N_co, loop: LoopThread) -> None:
        self._twin = twin
        self._loop = loop


class Blocking(Generic[N, P, R]):
    """Makes a method that waits of one that is awaited."""

    def __init__(self, method: Callable[Concatenate[N, P], Coroutine[Any, Any, R]]) -> None:
        self._method = method
        self.__doc__ = method.__doc__

    @overload
    def __get__(self, instance: None, owner: type) -> Blocking[N, P, R]: ...

    @overload
    def __get__(self, instance: SyncNoun[N], owner: type) -> Callable[P, R]: ...

    def __get__(self, instance: SyncNoun[N] | None, owner: type) -> Blocking[N, P, R] | Callable[P, R]:
        if instance is None:
            return self

        def wait(*args: P.args, **kwargs: P.kwargs) -> R:
            return instance._loop.run(self._method(instance._twin, *args, **kwargs))

        return _described(wait, self._method)


class Streaming(Generic[N, P, R]):
    """Makes a method that answers an ordinary iterator of one that answers an asynchronous iterator."""

    def __init__(self, method: Callable[Concatenate[N, P], AsyncIterator[R]]) -> None:
        self._method = method
        self.__doc__ = method.__doc__

    @overload
    def __get__(self, instance: None, owner: type) -> Streaming[N, P, R]: ...

    @overload
    def __get__(self, instance: SyncNoun[N], owner: type) -> Callable[P, Iterator[R]]: ...

    def __get__(self, instance: SyncNoun[N] | None, owner: type) -> Streaming[N, P, R] | Callable[P, Iterator[R]]:
        if instance is None:
            return self

        def iterate(*args: P.args, **kwargs: P.kwargs) -> Iterator[R]:
            iterator = self._method(instance._twin, *args, **kwargs)
            return instance._loop.iterate(cast(AsyncGenerator[R, None], iterator))

        return _described(iterate, self._method)


def _described(function: Callable[P, R], method: Callable[..., Any]) -> Callable[P, R]:
    """Gives the function the name, the documentation and, `self` apart, the signature of the method."""
    functools.update_wrapper(function, method)
    signature = inspect.signature(method)
    parameters = list(signature.parameters.values())[1:]
    function.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return function
