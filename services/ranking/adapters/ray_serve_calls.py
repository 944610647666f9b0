"""Calls of Serve deployments by handle: a time limit, cancellation, and errors of the project's tree."""

from __future__ import annotations

import asyncio
from typing import Any

from ray.exceptions import RayError, RayTaskError, TaskCancelledError
from ray.serve.exceptions import BackPressureError, RayServeException

from ilf_common.errors import DeadlineExceededError, ResourceExhaustedError, UnavailableError


async def call(method: Any, *arguments: Any, timeout: float) -> Any:
    """Awaits one call.

    Args:
        method: A method of a deployment handle.
        arguments: Its arguments.
        timeout: Seconds; the call is then cancelled as well as Serve can.

    Raises:
        UnavailableError: ENGINE_UNAVAILABLE; the replica died or failed, Serve starts another one.
        ResourceExhaustedError: QUEUE_FULL.
        DeadlineExceededError: Time ran out.
    """
    response = method.remote(*arguments)
    try:
        return await asyncio.wait_for(_result(response), timeout)
    except TimeoutError:
        response.cancel()
        raise DeadlineExceededError(f"The models gave no answer in {timeout:.1f} s.") from None
    except asyncio.CancelledError:
        response.cancel()
        raise
    except BackPressureError:
        raise ResourceExhaustedError("Too many calls wait for the models.", retry_after=1.0) from None
    except RayTaskError as error:
        # A fault in our own code would hide behind "try again"; only what the tree knows as such may be repeated.
        if isinstance(error.cause, UnavailableError):
            raise unavailable() from error
        raise
    except TaskCancelledError:
        raise DeadlineExceededError("The call to the models was cancelled.") from None
    except (RayError, RayServeException) as error:
        raise unavailable() from error


def unavailable() -> UnavailableError:
    """The error of a model whose replica died or whose engine failed."""
    return UnavailableError(
        "A model of the ranking service is down and is being started again.",
        reason="ENGINE_UNAVAILABLE",
        retry_after=2.0,
    )


async def _result(response: Any) -> Any:
    return await response
