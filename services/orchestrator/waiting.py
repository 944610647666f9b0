"""Calls to other services that outlast their absence."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TypeVar

from ilf_common.errors import (
    AbortedError,
    CancelledError,
    IlfError,
    InternalError,
    ResourceExhaustedError,
    RetryableError,
    UnauthenticatedError,
    UnavailableError,
)
from services.orchestrator.calls import Item, Outcome
from services.orchestrator.journal import Journal
from services.orchestrator.ports import Clock

CallT = TypeVar("CallT")
ResultT = TypeVar("ResultT")

_FIRST_PAUSE = 0.2
_LONGEST_PAUSE = 10.0
_INTERNAL_ATTEMPTS = 3
_MAX_CALL_CHARACTERS = 8_000_000
"""Texts of one call; with 4 bytes a character it stays below the services' message limit."""


def passes(error: IlfError) -> bool:
    """Whether an error says something about the moment, not about the request.

    A refused token too: a secret that is changed reaches the pods one after the other.
    """
    return isinstance(error, RetryableError | CancelledError | AbortedError | UnauthenticatedError)


async def patiently(journal: Journal, clock: Clock, service: str, call: Callable[[], Awaitable[CallT]]) -> CallT:
    """Makes a call until the service answers; meanwhile the run says that it waits, for what and since when.

    A fault inside the service (INTERNAL) is tried three times, because a process that dies in the middle of an
    answer looks like one.

    Raises:
        IlfError: The service refused the call.
    """
    who = object()
    pause = _FIRST_PAUSE
    internal = 0
    try:
        while True:
            try:
                return await call()
            except IlfError as error:
                internal += isinstance(error, InternalError)
                if not passes(error) and not 0 < internal < _INTERNAL_ATTEMPTS:
                    raise
                # A full queue at the first try is the ordinary way of being slowed down, not a fault.
                if not isinstance(error, ResourceExhaustedError) or pause > _FIRST_PAUSE:
                    journal.wait(who, f"{service.upper()}_UNAVAILABLE", f"The {service} service: {error.message}")
                await clock.sleep(max(pause, getattr(error, "retry_after", None) or 0.0))
                pause = min(pause * 2, _LONGEST_PAUSE)
    finally:
        journal.go_on(who)


async def collect(stream: AsyncIterator[list[Outcome[ResultT]]], items: Sequence[Item]) -> dict[str, Outcome[ResultT]]:
    """All outcomes of a batch call by item id.

    Raises:
        IlfError: An item failed for a reason that passes, or the stream ended too early: the call is to be repeated.
    """
    found: dict[str, Outcome[ResultT]] = {}
    async for outcomes in stream:
        for outcome in outcomes:
            if outcome.error is not None and passes(outcome.error):
                raise outcome.error
            found[outcome.item_id] = outcome
    if missing := [item.item_id for item in items if item.item_id not in found]:
        raise UnavailableError(f"ended its answer before {len(missing)} of {len(items)} items had one")
    return found


def calls_of(items: Sequence[Item]) -> list[Sequence[Item]]:
    """Items in the calls that carry them: all in one, unless their texts are too long for a message."""
    calls: list[list[Item]] = [[]]
    size = 0
    for item in items:
        length = len(item.context) + len(item.initial_output) + len(item.feedback) + len(item.output)
        length += len(item.other_output) + sum(map(len, item.candidates))
        if calls[-1] and size + length > _MAX_CALL_CHARACTERS:
            calls.append([])
            size = 0
        calls[-1].append(item)
        size += length
    return [call for call in calls if call]
