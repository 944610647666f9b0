"""Durable workflows on DBOS: a run's loop, its steps recorded in the database."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar, cast

from dbos import DBOS, DBOSConfig, Serializer, SetWorkflowID

from ilf_common.errors import IlfError, InternalError
from services.orchestrator.codec import from_plain, to_plain
from services.orchestrator.ports import Steps
from services.orchestrator.run import ErrorRecord

log = logging.getLogger("ilf.orchestrator")

StepT = TypeVar("StepT")
Execute = Callable[[str, Steps], Awaitable[None]]

APPLICATION_VERSION = "1"
"""Raised by hand when a running workflow cannot be continued by the new code: when steps are added, taken out or
reordered. DBOS by itself would take a hash of the source and drop every running workflow at any edit."""

_QUIET_RECOVERIES = 1_000_000
"""DBOS gives a workflow up after 100 recoveries by default; a run is given up by people only."""

_execute: Execute | None = None


class JsonSerializer(Serializer):  # type: ignore[misc]
    """What DBOS keeps of workflows and steps, as JSON."""

    def serialize(self, data: Any) -> str:
        """JSON text."""
        return json.dumps(_plain(data))

    def deserialize(self, serialized_data: str) -> Any:
        """The value of a JSON text."""
        return json.loads(serialized_data)

    def name(self) -> str:
        """Stored beside the data."""
        return "ilf_json"


def _plain(data: Any) -> Any:
    return {"error": type(data).__name__} if isinstance(data, BaseException) else data


@DBOS.workflow(name="ilf-run", max_recovery_attempts=_QUIET_RECOVERIES)  # type: ignore[untyped-decorator]
async def _run_workflow(run_id: str) -> None:
    if _execute is None:
        raise RuntimeError("the workflow engine was not started by DbosWorkflows")
    await _execute(run_id, DbosSteps())


class DbosSteps:
    """Implements `ports.Steps`."""

    async def run(self, name: str, action: Callable[[], Awaitable[StepT]]) -> StepT:
        """Runs an action, or answers what it answered before; a failure is an answer too."""
        failed: list[IlfError] = []

        async def step() -> dict[str, Any]:
            try:
                return {"answer": await action()}
            except IlfError as error:
                failed.append(error)
            except Exception:
                log.exception("step %s failed by a fault of the orchestrator", name)
                failed.append(InternalError("The orchestrator failed; its log says why. The run can be resumed."))
            return {"failure": to_plain(ErrorRecord.of(failed[0]))}

        recorded = await DBOS.run_step_async({"name": name}, step)
        if "failure" in recorded:
            raise failed[0] if failed else from_plain(ErrorRecord, recorded["failure"]).to_error()
        return cast(StepT, recorded["answer"])


class DbosWorkflows:
    """Implements `ports.Workflows`. There is one in a process, because DBOS is a singleton.

    Args:
        database_url: SQLAlchemy URL of the database that holds the workflows.
        executor_id: Only workflows of this id are recovered.
        execute: The body of a run's workflow.
    """

    def __init__(self, database_url: str, executor_id: str, execute: Execute) -> None:
        self._config = DBOSConfig(
            name="ilf-orchestrator",
            system_database_url=database_url,
            application_version=APPLICATION_VERSION,
            executor_id=executor_id,
            serializer=JsonSerializer(),
            log_level="ERROR",
            console_log_level="ERROR",
            enable_otlp=False,
            max_executor_threads=32,
            # Nobody sends notifications; a short interval lets the listener end quickly.
            notification_listener_polling_interval_sec=0.2,
        )
        self._executor_id = executor_id
        self._execute = execute

    def launch(self) -> None:
        """Starts the engine in the running event loop and takes up what was running before."""
        global _execute
        _execute = self._execute
        DBOS(config=self._config)
        DBOS.launch()
        logging.getLogger("dbos").setLevel(logging.ERROR)

    def shut_down(self) -> None:
        """Stops the engine; running workflows stay unfinished and are taken up by the next process."""
        DBOS.destroy()
        # DBOS made its own thread pool the event loop's, and has just shut it down.
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(thread_name_prefix="orchestrator"))

    async def start(self, workflow_id: str, run_id: str) -> None:
        """Starts the loop of a run under an id that is new."""
        with SetWorkflowID(workflow_id):
            await DBOS.start_workflow_async(_run_workflow, run_id)

    async def continues(self, workflow_id: str) -> bool:
        """Whether the engine has this workflow and will finish it without being asked."""
        status = await DBOS.get_workflow_status_async(workflow_id)
        return (
            status is not None
            and status.status in ("PENDING", "ENQUEUED")
            and status.app_version == APPLICATION_VERSION
            and status.executor_id in (self._executor_id, None)
        )
