"""Batches cut into pieces, so that several workers share one, and none of its items is answered twice or lost.

Works on every batch call of the project: requests have `items` with ids, responses have `outcomes` with the same ids
and a result or an error each.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from google.rpc import error_details_pb2, status_pb2

from ilf_common.rpc.client import is_transient
from ilf_common.rpc.status import from_status

_ITEM = re.compile(r"\bitems\[(\d+)\]")


class Piece:
    """Some items of a batch that go to one worker together.

    Args:
        request: The whole batch.
        positions: Of the items in the batch.
    """

    def __init__(self, request: Any, positions: range) -> None:
        self._batch = request
        self._waiting = {request.items[position].item_id: position for position in positions}
        self._sent: list[int] = []
        self.size = len(positions)

    @property
    def unanswered(self) -> int:
        """How many items have no outcome yet."""
        return len(self._waiting)

    @property
    def is_answered(self) -> bool:
        """Whether every item has its outcome, however the worker's stream ends."""
        return not self._waiting

    def request(self) -> Any:
        """The request for the items that have no outcome yet, in their order."""
        self._sent = sorted(self._waiting.values())
        request: Any = type(self._batch)()
        for field, value in self._batch.ListFields():
            if field.name != "items" and (field.message_type or field.is_repeated):
                getattr(request, field.name).MergeFrom(value)
            elif field.name != "items":
                setattr(request, field.name, value)
        request.items.extend(self._batch.items[position] for position in self._sent)
        return request

    def take(self, response: Any, *, last: bool) -> Any:
        """The response with those outcomes that count.

        Args:
            response: From a worker.
            last: The items get no further worker. Otherwise items that may fare better with another one stay in the
                piece.
        """
        counting = type(response)()
        for outcome in response.outcomes:
            if outcome.item_id not in self._waiting:
                continue
            if not last and outcome.HasField("error") and is_transient(from_status(outcome.error)):
                continue
            del self._waiting[outcome.item_id]
            counting.outcomes.append(outcome)
        for outcome in counting.outcomes:
            if outcome.HasField("error"):
                _renumber(outcome.error, self._sent)
        return counting


class Whole(Piece):
    """A batch that is not cut, because its worker has to refuse it: without items or with ids that tell nothing."""

    def __init__(self, request: Any) -> None:
        super().__init__(request, range(0))
        self._request = request
        self.size = max(1, len(request.items))

    @property
    def unanswered(self) -> int:
        """Nothing can be told apart here: the worker's stream alone tells the end."""
        return 0

    @property
    def is_answered(self) -> bool:
        """Only the end of the stream tells."""
        return False

    def request(self) -> Any:
        """The batch as it is."""
        return self._request

    def take(self, response: Any, *, last: bool) -> Any:
        """All of it."""
        return response


def cut(request: Any, size: int) -> list[Piece]:
    """Pieces of at most `size` items, in order: the same batch is always cut the same way."""
    ids = {item.item_id for item in request.items}
    count = len(request.items)
    if not count or len(ids) < count or "" in ids:
        return [Whole(request)]
    return [Piece(request, range(start, min(start + size, count))) for start in range(0, count, size)]


def _renumber(status: status_pb2.Status, positions: list[int]) -> None:
    """Names items by their place in the caller's batch, not in the piece that the worker saw."""

    def position(found: re.Match[str]) -> str:
        index = int(found[1])
        return f"items[{positions[index] if index < len(positions) else index}]"

    status.message = _ITEM.sub(position, status.message)
    for packed in status.details:
        _renumber_details(packed, position)


def _renumber_details(packed: Any, position: Callable[[re.Match[str]], str]) -> None:
    request = error_details_pb2.BadRequest()
    if packed.Is(request.DESCRIPTOR) and packed.Unpack(request):
        for violation in request.field_violations:
            violation.field = _ITEM.sub(position, violation.field)
        packed.Pack(request)
