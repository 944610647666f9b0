"""Lists and lookups: answered by a worker, or from memory while none is awake."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

from google.protobuf import json_format

from ilf_common.artifacts import ArtifactStore
from ilf_common.errors import IlfError, NotFoundError
from ilf_common.front.api import FrontedApi, Method
from ilf_common.front.fleet import Fleet
from ilf_common.front.serving import Serving
from ilf_common.front.worker import Worker
from ilf_common.rpc.context import time_remaining
from ilf_common.rpc.pagination import MAX_PAGE_SIZE, page

log = logging.getLogger("ilf.front")

_READ_SECONDS = 20.0


class Reading:
    """Answers from a worker where one is ready; else from the journal and what the last worker had of its own.

    Args:
        api: Of the service.
        serving: What the pool serves.
        fleet: Its workers.
        store: Holds the last list under `serving/<pool>/seen.json`.
    """

    def __init__(self, api: FrontedApi, serving: Serving, fleet: Fleet, store: ArtifactStore) -> None:
        self._api = api
        self._serving = serving
        self._fleet = fleet
        self._store = store
        self._key = f"serving/{api.pool}/seen.json"
        self._list = api.method(api.list_method)
        self._field = _resources_field(self._list)
        self._seen: Any = None

    async def load(self) -> None:
        """Reads what the last worker had."""
        try:
            data = await asyncio.to_thread(self._store.read_bytes, self._key)
            self._seen = json_format.Parse(data, self._list.response())
        except (NotFoundError, json_format.ParseError):
            self._seen = None

    async def look(self, worker: Worker) -> None:
        """Remembers what a worker has."""
        seen: Any = self._list.response()
        getattr(seen, self._field).extend(await self._all(worker))
        if seen != self._seen:
            self._seen = seen
            try:
                await asyncio.to_thread(self._store.write_bytes, self._key, json_format.MessageToJson(seen).encode())
            except OSError as error:
                # The next look or the next front finds it out again.
                log.warning("list not written down", extra={"error": type(error).__name__})

    @property
    def is_blind(self) -> bool:
        """Whether nobody can answer: no worker is ready, and none ever was."""
        return not self._fleet.ready and self._seen is None

    async def list_page(self, request: Any) -> Any:
        """One page over everything that the pool serves."""
        found = await self._everything()
        numbered = {f"{resource.name}\0{index:06}": resource for index, resource in enumerate(found)}
        keys, token = page(numbered, request.page_size, request.page_token, key=str)
        response: Any = self._list.response(next_page_token=token)
        getattr(response, self._field).extend(numbered[key] for key in keys)
        return response

    async def get(self, method: Method, request: Any) -> Any:
        """One resource; None where no worker is ready to say whether it is there.

        Raises:
            NotFoundError: The workers do not have it, nor does the journal.
        """
        for worker in self._fleet.ready[:1]:
            try:
                return await worker.call(method, request, timeout=_seconds())
            except NotFoundError:
                resting = self._resting(request.name)
                if resting is None:
                    raise
                return resting
        known = {resource.name: resource for resource in self._remembered()}
        return self._resting(request.name) or known.get(request.name)

    async def _everything(self) -> Sequence[Any]:
        for worker in self._fleet.ready[:1]:
            try:
                live = await self._all(worker)
            except IlfError as error:
                log.warning("list from memory", extra={"worker": worker.address, "reason": error.reason})
                continue
            names = {resource.name for resource in live}
            return [*live, *(one for one in self._journalled() if one.name not in names)]
        return self._remembered()

    async def _all(self, worker: Worker) -> list[Any]:
        found: list[Any] = []
        token = ""
        while True:
            request: Any = self._list.request(page_size=MAX_PAGE_SIZE, page_token=token)
            response = await worker.call(self._list, request, timeout=_seconds())
            found.extend(getattr(response, self._field))
            token = response.next_page_token
            if not token:
                return found

    def _remembered(self) -> list[Any]:
        """Everything, as it is told while nobody has it loaded."""
        journalled = self._journalled()
        names = {resource.name for resource in journalled}
        seen = getattr(self._seen, self._field) if self._seen is not None else ()
        return [*(self._at_rest(one) for one in seen if one.name not in names), *journalled]

    def _journalled(self) -> list[Any]:
        return [found for key in self._serving.journal.entries if (found := self._resource(key)) is not None]

    def _resting(self, name: str) -> Any:
        return self._resource(self._api.resource_key(self._serving.journal, name))

    def _resource(self, key: str) -> Any:
        entry = self._serving.journal.get(key)
        if entry is None or entry.resource is None:
            return None
        holder: Any = self._list.response()
        return self._at_rest(json_format.ParseDict(dict(entry.resource), getattr(holder, self._field).add()))

    def _at_rest(self, resource: Any) -> Any:
        copy = type(resource)()
        copy.CopyFrom(resource)
        return self._api.at_rest(self._serving.journal, copy)


def _seconds() -> float:
    remaining = time_remaining()
    return _READ_SECONDS if remaining is None else min(remaining, _READ_SECONDS)


def _resources_field(method: Method) -> str:
    """The one repeated field of a list's response."""
    return next(str(field.name) for field in method.response.DESCRIPTOR.fields if field.is_repeated)
