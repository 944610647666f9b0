"""What a pool serves: kept in the artifact store, and brought to every worker."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Any

from google.protobuf import json_format

from ilf_common.artifacts import ArtifactStore
from ilf_common.errors import FailedPreconditionError, IlfError, NotFoundError, UnavailableError
from ilf_common.front.api import FrontedApi
from ilf_common.front.journal import Entry, Journal, Step
from ilf_common.front.worker import Worker

log = logging.getLogger("ilf.front")

TELL_SECONDS = 1800.0
"""Longest time for one control call to one worker: loading a large checkpoint takes minutes."""
_STORE_RETRY_SECONDS = 2.0


class Serving:
    """The journal, and the way of each worker to it.

    Args:
        api: Of the service.
        store: Holds the journal under `serving/<pool>/journal.json`.
    """

    def __init__(self, api: FrontedApi, store: ArtifactStore) -> None:
        self.journal = Journal.empty()
        self._api = api
        self._store = store
        self._key = f"serving/{api.pool}/journal.json"

    async def load(self) -> None:
        """Reads what is served; also what another front wrote meanwhile (two overlap while one is replaced).

        Raises:
            FailedPreconditionError: reason STATE_UNREADABLE.
            UnavailableError: reason STORE_UNAVAILABLE.
        """
        try:
            journal = Journal.from_json(await asyncio.to_thread(self._store.read_bytes, self._key))
        except NotFoundError:
            return
        except OSError as error:
            raise _store_away(self._store, error) from error
        except (ValueError, KeyError, TypeError) as error:
            raise FailedPreconditionError(
                f"{self._store.uri(self._key)} cannot be understood ({type(error).__name__}). Mend it, or move it away "
                "to start without what was loaded.",
                reason="STATE_UNREADABLE",
            ) from error
        if journal.revision >= self.journal.revision:
            self.journal = journal

    async def save(self, journal: Journal) -> None:
        """Writes down what is served from now on.

        Raises:
            UnavailableError: reason STORE_UNAVAILABLE; nothing has changed.
        """
        if journal == self.journal:
            return
        try:
            await asyncio.to_thread(self._store.write_bytes, self._key, journal.to_json())
        except OSError as error:
            raise _store_away(self._store, error) from error
        self.journal = journal

    async def refresh(self) -> None:
        """Reads what another front may have written; while the store is away, what is known here counts."""
        try:
            await self.load()
        except UnavailableError as error:
            log.warning("journal not read again: %s", error.message, extra={"reason": error.reason})

    async def bring(self, worker: Worker) -> None:
        """Brings a worker to what the pool serves; what it refuses is logged, and it serves the rest.

        Returns between two changes of the journal: what changes later finds the worker ready.

        Raises:
            UnavailableError: The worker does not answer.
        """
        refused: set[str] = set()
        async with worker.telling:
            while True:
                extra = [key for key in worker.told if key not in self.journal.entries]
                missing = [one for one in self._missing(worker, self.journal.standing()) if one.key not in refused]
                if not extra and not missing:
                    return
                for key in extra:
                    await self._take_out(worker, key)
                for entry in missing:
                    if not await self._told(worker, entry):
                        refused.add(entry.key)

    async def ensure(self, worker: Worker, keys: Iterable[str]) -> None:
        """Tells a worker what a call needs, where it does not know it yet.

        Raises:
            IlfError: The worker refuses it, or does not answer.
        """
        wanted = list(keys)
        if not any(True for _ in self._missing(worker, self.journal.with_needs(wanted))):
            return
        async with worker.telling:
            for entry in list(self._missing(worker, self.journal.with_needs(wanted))):
                await self._tell(worker, entry)

    async def send(self, worker: Worker, step: Step) -> Any:
        """One control call to one worker."""
        method = self._api.method(step.method)
        request = json_format.ParseDict(dict(step.request), method.request())
        return await worker.call(method, request, timeout=TELL_SECONDS)

    def _missing(self, worker: Worker, entries: Iterable[Entry]) -> list[Entry]:
        return [entry for entry in entries if worker.told.get(entry.key) != entry.revision]

    async def _tell(self, worker: Worker, entry: Entry) -> None:
        for step in entry.steps:
            await self.send(worker, step)
        worker.told[entry.key] = entry.revision
        log.info("worker told", extra={"worker": worker.address, "key": entry.key})

    async def _told(self, worker: Worker, entry: Entry) -> bool:
        try:
            await self._tell(worker, entry)
        except UnavailableError:
            raise
        except IlfError as error:
            log.error(
                "worker refused: %s",
                error.message,
                extra={"worker": worker.address, "key": entry.key, "reason": error.reason},
            )
            return False
        return True

    async def _take_out(self, worker: Worker, key: str) -> None:
        step = self._api.undo(key)
        del worker.told[key]
        if step is not None:
            try:
                await self.send(worker, step)
            except UnavailableError:
                raise
            except IlfError as error:
                log.error("not undone: %s", error.message, extra={"worker": worker.address, "key": key})


def _store_away(store: ArtifactStore, error: OSError) -> UnavailableError:
    return UnavailableError(
        f"The artifact store {store.root} does not answer ({type(error).__name__}), and what is served is written "
        "down there; send the call again.",
        reason="STORE_UNAVAILABLE",
        retry_after=_STORE_RETRY_SECONDS,
    )
