from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import Any

import pytest
from ray.exceptions import ActorDiedError, RayTaskError
from ray.serve.exceptions import BackPressureError

from ilf_common.errors import DeadlineExceededError, IlfError, ResourceExhaustedError, UnavailableError
from services.ranking.adapters.ray_serve_calls import call


class Response:
    """A deployment's response that gives a value, raises, or never comes."""

    def __init__(self, outcome: object) -> None:
        self._outcome = outcome
        self.cancelled = False

    def __await__(self) -> Generator[Any, None, object]:
        if isinstance(self._outcome, BaseException):
            raise self._outcome
        if self._outcome is None:
            yield from asyncio.Event().wait().__await__()
        return self._outcome

    def cancel(self) -> None:
        self.cancelled = True


class Method:
    """A method of a handle."""

    def __init__(self, outcome: object) -> None:
        self.response = Response(outcome)
        self.arguments: tuple[object, ...] = ()

    def remote(self, *arguments: object) -> Response:
        self.arguments = arguments
        return self.response


async def test_arguments_go_and_the_value_comes() -> None:
    method = Method("value")
    assert await call(method, 1, 2, timeout=1) == "value"
    assert method.arguments == (1, 2)


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (ActorDiedError(), UnavailableError),
        (BackPressureError(num_queued_requests=1, max_queued_requests=1), ResourceExhaustedError),
        (RayTaskError("f", "trace", UnavailableError("dead")), UnavailableError),
    ],
)
async def test_errors_of_ray_become_those_of_the_tree(raised: Exception, expected: type[IlfError]) -> None:
    with pytest.raises(expected):
        await call(Method(raised), timeout=1)


async def test_fault_of_our_own_stays_what_it_is() -> None:
    with pytest.raises(RayTaskError):
        await call(Method(RayTaskError("f", "trace", KeyError("x"))), timeout=1)


async def test_time_limit_cancels_the_call() -> None:
    method = Method(None)
    with pytest.raises(DeadlineExceededError):
        await call(method, timeout=0.01)
    assert method.response.cancelled


async def test_cancellation_reaches_the_call() -> None:
    method = Method(None)
    task = asyncio.ensure_future(call(method, timeout=60))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert method.response.cancelled
