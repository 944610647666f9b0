"""Runs in the database: one document each."""

from __future__ import annotations

import json

import sqlalchemy as sa

from ilf_common.errors import AlreadyExistsError
from services.orchestrator.adapters.database import RUNS, in_thread
from services.orchestrator.codec import from_plain, to_plain
from services.orchestrator.run import Run


class SqlRunStore:
    """Implements `ports.RunStore`."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    async def create(self, run: Run, request_digest: str) -> Run:
        """Stores a run, or answers the one that the same request made before."""
        return await in_thread(self._create, run, request_digest)

    def _create(self, run: Run, request_digest: str) -> Run:
        values = {
            "id": run.id,
            "request_id": run.request_id,
            "request_digest": request_digest,
            "create_time": run.create_time.isoformat(),
            "document": _document(run),
        }
        try:
            with self._engine.begin() as connection:
                connection.execute(RUNS.insert().values(values))
        except sa.exc.IntegrityError:
            first = self._by_request(run.request_id, request_digest)
            if first is not None:
                return first
            raise AlreadyExistsError(
                f"There is a run {run.name} already, made by another request. Choose another run_id.",
                reason="RUN_EXISTS",
                metadata={"resource": run.name},
            ) from None
        return run

    async def by_request(self, request_id: str, request_digest: str) -> Run | None:
        """The run that a request made before."""
        return await in_thread(self._by_request, request_id, request_digest)

    def _by_request(self, request_id: str, request_digest: str) -> Run | None:
        query = sa.select(RUNS.c.request_digest, RUNS.c.document).where(RUNS.c.request_id == request_id)
        with self._engine.connect() as connection:
            found = connection.execute(query).first()
        if found is None:
            return None
        if found.request_digest != request_digest:
            raise AlreadyExistsError(
                f"request_id {request_id!r} was used for another run. Use a new one for every new run.",
                reason="REQUEST_ID_CONFLICT",
                metadata={"request_id": request_id},
            )
        return _run(found.document)

    async def get(self, run_id: str) -> Run | None:
        """A run by id."""
        return await in_thread(self._get, run_id)

    def _get(self, run_id: str) -> Run | None:
        with self._engine.connect() as connection:
            document = connection.execute(sa.select(RUNS.c.document).where(RUNS.c.id == run_id)).scalar()
        return None if document is None else _run(document)

    async def all_runs(self) -> list[Run]:
        """All runs, oldest first."""
        return await in_thread(self._all_runs)

    def _all_runs(self) -> list[Run]:
        with self._engine.connect() as connection:
            documents = connection.execute(sa.select(RUNS.c.document).order_by(RUNS.c.create_time)).scalars().all()
        return [_run(document) for document in documents]

    async def newest_ids(self) -> list[str]:
        """The ids of all runs, newest first."""
        return await in_thread(self._newest_ids)

    def _newest_ids(self) -> list[str]:
        with self._engine.connect() as connection:
            return list(connection.execute(sa.select(RUNS.c.id).order_by(RUNS.c.create_time.desc())).scalars())

    async def save(self, run: Run) -> None:
        """Replaces a run's document."""
        await in_thread(self._save, run)

    def _save(self, run: Run) -> None:
        with self._engine.begin() as connection:
            connection.execute(RUNS.update().where(RUNS.c.id == run.id).values(document=_document(run)))


def _document(run: Run) -> str:
    return json.dumps(to_plain(run), ensure_ascii=False)


def _run(document: str) -> Run:
    return from_plain(Run, json.loads(document))
