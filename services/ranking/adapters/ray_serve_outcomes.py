"""Outcomes on their way between Ray processes: errors travel as packed statuses, since exceptions do not pickle."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from google.rpc import status_pb2

from ilf_common.engine.port import Outcome
from ilf_common.rpc.status import from_status, to_status

ValueT = TypeVar("ValueT")
Packed = tuple[int, ValueT | None, bytes | None]


def pack(outcomes: Iterable[Outcome[ValueT]]) -> list[Packed[ValueT]]:
    """Outcomes as plain tuples of index, value and packed error."""
    return [(one.index, one.value, to_status(one.error).SerializeToString() if one.error else None) for one in outcomes]


def unpack(packed: Iterable[Packed[ValueT]]) -> list[Outcome[ValueT]]:
    """What `pack` packed."""
    return [
        Outcome(index, value, from_status(status_pb2.Status.FromString(error)) if error is not None else None)
        for index, value, error in packed
    ]
