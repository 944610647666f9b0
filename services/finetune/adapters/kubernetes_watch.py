"""What the API server holds, kept in memory by a list and the watch that follows it."""

from __future__ import annotations

import asyncio
import logging
import random
import re
from collections.abc import Callable
from typing import Any

from ilf_common.errors import IlfError
from services.finetune.adapters.kubernetes_api import Cluster, Collection, Object

log = logging.getLogger("ilf.finetune")

_JOB_ID = re.compile(r"ft-[0-9a-f]{24}")
_LONGEST_PAUSE = 10.0


class ExpiredError(Exception):
    """The API server has forgotten the version that a watch wants to go on from."""


class Watched:
    """The objects of one kind that belong to finetune jobs; their names hold the ids of the jobs.

    Args:
        cluster: Where they are.
        kind: What they are.
        changed: Called with the id of a job when one of its objects has changed.
        labels: Selects by label.
        fields: Selects by field.
    """

    def __init__(
        self, cluster: Cluster, kind: Collection, changed: Callable[[str], None], *, labels: str = "", fields: str = ""
    ) -> None:
        self._cluster = cluster
        self._kind = kind
        self._changed = changed
        self._labels = labels
        self._fields = fields
        self._objects: dict[str, dict[str, Object]] = {}
        self._version = ""
        self._listed = asyncio.Event()

    def of(self, job_id: str) -> list[Object]:
        """The objects of a job."""
        return [*self._objects.get(job_id, {}).values()]

    async def listed(self) -> None:
        """Waits for the first list."""
        await self._listed.wait()

    def put(self, found: Object) -> None:
        """Adds an object that this process has just created, ahead of its event."""
        if self._is_behind(found["metadata"]["resourceVersion"]):
            self._keep(found)

    async def follow(self) -> None:
        """Lists and watches for ever; goes on after every fault of the API server or the way to it."""
        failures = 0
        while True:
            try:
                if not self._version:
                    await self._list()
                await self._watch()
                failures = 0
            except ExpiredError:
                self._version = ""
            except IlfError as error:
                failures += 1
                if failures == 1:
                    log.warning("watch interrupted: %s", error.message, extra={"kind": self._kind.plural})
                if getattr(error, "status", None) == 410:
                    self._version = ""
                await _pause(failures)
            except Exception:
                # Whatever it was, a list puts it right; a watch that ended for good would leave the service blind.
                failures += 1
                log.exception("watch broken", extra={"kind": self._kind.plural})
                self._version = ""
                await _pause(failures)

    async def _list(self) -> None:
        items, version = await self._cluster.list(self._kind, self._labels, self._fields)
        before = set(self._objects)
        self._objects = {}
        self._version = version
        for found in items:
            self._keep(found)
        for job_id in before - set(self._objects):
            self._changed(job_id)
        self._listed.set()

    async def _watch(self) -> None:
        events = self._cluster.watch(self._kind, self._version, self._labels, self._fields)
        async for event in events:
            what, found = event["type"], event["object"]
            if what == "ERROR":
                if found.get("code") == 410:
                    raise ExpiredError
                log.warning("watch refused: %s", found.get("message"), extra={"kind": self._kind.plural})
                return
            self._version = found["metadata"]["resourceVersion"]
            if what == "DELETED":
                self._drop(found)
            elif what != "BOOKMARK":
                self._keep(found)

    def _keep(self, found: Object) -> None:
        job_id = job_id_in(found)
        if job_id is not None:
            self._objects.setdefault(job_id, {})[found["metadata"]["name"]] = _slim(found)
            self._changed(job_id)

    def _drop(self, found: Object) -> None:
        job_id = job_id_in(found)
        objects = self._objects.get(job_id or "")
        if job_id is None or objects is None:
            return
        objects.pop(found["metadata"]["name"], None)
        if not objects:
            del self._objects[job_id]
        self._changed(job_id)

    def _is_behind(self, version: str) -> bool:
        """Whether the watch has not come to a version yet; it knows better from there on."""
        return not self._version.isdigit() or not version.isdigit() or int(self._version) < int(version)


async def _pause(failures: int) -> None:
    """Many watches must not come back in step."""
    await asyncio.sleep(min(_LONGEST_PAUSE, 0.2 * 2 ** min(failures, 10)) * random.uniform(0.5, 1.0))


def job_id_in(found: Object) -> str | None:
    """The id of the job that an object belongs to."""
    match = _JOB_ID.search(found["metadata"]["name"])
    return match.group() if match else None


def _slim(found: Object) -> Object:
    """The object without what nobody reads, which is most of its size."""
    metadata = {name: value for name, value in found["metadata"].items() if name != "managedFields"}
    slim: dict[str, Any] = {**found, "metadata": metadata}
    if "spec" in found:
        slim["spec"] = {name: found["spec"][name] for name in ("suspend", "nodeName") if name in found["spec"]}
    return slim
