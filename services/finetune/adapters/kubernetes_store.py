"""Jobs as ConfigMaps: the record of a job, which owns everything else that the job is made of."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from pydantic import TypeAdapter, ValidationError

from ilf_common.errors import AbortedError
from services.finetune.adapters.kubernetes_api import CONFIG_MAPS, Cluster, Object, RefusedError
from services.finetune.adapters.kubernetes_manifests import JOB_ID_LABEL, labels_of, selector
from services.finetune.models import FinetuneJob

log = logging.getLogger("ilf.finetune")

COMPONENT = "finetune-job"
_KEY = "job.json"
_JOB = TypeAdapter(FinetuneJob)


class ConfigMapJobs:
    """Keeps jobs in a namespace. A write that does not follow the newest one is refused, so that two processes of the
    service, as there are in an upgrade, never undo each other's work.

    Args:
        cluster: The namespace.
        instance: Tells this installation's jobs from those of another.
    """

    def __init__(self, cluster: Cluster, instance: str) -> None:
        self._cluster = cluster
        self._instance = instance
        self._seen: dict[str, dict[str, str]] = {}

    async def load(self) -> Sequence[FinetuneJob]:
        """All jobs; one whose record cannot be read is left out, and the log names it."""
        found, _ = await self._cluster.list(CONFIG_MAPS, selector(self._instance, COMPONENT))
        jobs = [self._take(record) for record in found]
        return [job for job in jobs if job is not None]

    async def add(self, job: FinetuneJob) -> FinetuneJob:
        """Writes a new job down; answers the first one where there is one with this id."""
        try:
            self._note(await self._cluster.create(CONFIG_MAPS, self._record(job)))
        except RefusedError as error:
            first = await self.read(job.id) if error.kind == "AlreadyExists" else None
            if first is None:
                raise
            return first
        return job

    async def save(self, job: FinetuneJob) -> None:
        """Writes a job."""
        record = self._record(job)
        record["metadata"]["resourceVersion"] = self._seen[job.id]["resourceVersion"]
        try:
            self._note(await self._cluster.replace(CONFIG_MAPS, record))
        except RefusedError as error:
            if error.kind not in ("Conflict", "NotFound"):
                raise
            # The first try of this very write may have come through before its answer was lost.
            if await self.read(job.id) != job:
                raise AbortedError(f"{job.name} was changed by another process of the service.") from error

    async def read(self, job_id: str) -> FinetuneJob | None:
        """A job as it is written now."""
        record = await self._cluster.get(CONFIG_MAPS, job_id)
        return self._take(record) if record is not None else None

    async def remove(self, job_id: str) -> None:
        """Deletes a job, and with it all that it owns."""
        await self._cluster.delete(CONFIG_MAPS, job_id)
        self._seen.pop(job_id, None)

    async def close(self) -> None:
        """Closes the connections to the cluster."""
        await self._cluster.close()

    def owner_of(self, job_id: str) -> Object:
        """The reference by which an object belongs to the job's record."""
        return {"apiVersion": "v1", "kind": "ConfigMap", "name": job_id, "uid": self._seen[job_id]["uid"]}

    def _record(self, job: FinetuneJob) -> dict[str, dict[str, Any]]:
        metadata: dict[str, Any] = {
            "name": job.id,
            "labels": {**labels_of(self._instance, COMPONENT), JOB_ID_LABEL: job.id},
            "annotations": {"ilf.dev/request-id": job.request_id, "ilf.dev/state": job.state.value},
        }
        return {"metadata": metadata, "data": {_KEY: _JOB.dump_json(job).decode()}}

    def _take(self, record: Object) -> FinetuneJob | None:
        self._note(record)
        try:
            return _JOB.validate_json(record["data"][_KEY])
        except (KeyError, ValidationError):
            log.error("job record not readable", extra={"record": record["metadata"]["name"]})
            return None

    def _note(self, record: Object) -> None:
        metadata = record["metadata"]
        self._seen[metadata["name"]] = {"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"]}
