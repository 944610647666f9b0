"""Builds the service from its settings; the only place that chooses implementations."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path

import grpc
import sqlalchemy as sa
from ilf.data.v1 import data_service_pb2
from ilf.data.v1.data_service_pb2_grpc import add_DataServiceServicer_to_server
from ilf.orchestrator.v1 import orchestrator_service_pb2 as pb
from ilf.orchestrator.v1.orchestrator_service_pb2_grpc import add_OrchestratorServiceServicer_to_server

from ilf_common.artifacts import ArtifactStore
from ilf_common.rpc.client import ChannelSettings, open_channel
from ilf_common.rpc.server import serve
from ilf_common.telemetry import REGISTRY
from services.orchestrator.adapters.clock import SystemClock
from services.orchestrator.adapters.database import in_thread, open_database, prepare_database
from services.orchestrator.adapters.datasets import DatasetSource
from services.orchestrator.adapters.dbos_workflows import DbosWorkflows
from services.orchestrator.adapters.download_files import DownloadFiles
from services.orchestrator.adapters.fence import Fence
from services.orchestrator.adapters.finetune_client import FinetuneClient
from services.orchestrator.adapters.plugin_client import PluginClient
from services.orchestrator.adapters.pool_client import PoolClient
from services.orchestrator.adapters.pool_metrics import PoolMetrics
from services.orchestrator.adapters.ranking_client import RankingClient
from services.orchestrator.adapters.refinement_client import RefinementClient
from services.orchestrator.adapters.reward_client import NoRewards, RewardClient
from services.orchestrator.adapters.run_metrics import RunMetrics
from services.orchestrator.adapters.sample_index import SampleIndexFiles
from services.orchestrator.adapters.scaler_server import ScalerServer
from services.orchestrator.adapters.shard_files import ShardFiles
from services.orchestrator.adapters.sql_store import SqlRunStore
from services.orchestrator.adapters.sql_tasks import SqlTaskStore
from services.orchestrator.adapters.upload_files import UploadFiles
from services.orchestrator.data_servicer import DataServicer
from services.orchestrator.downloads import DownloadService
from services.orchestrator.journal import Signal
from services.orchestrator.people import PeopleService
from services.orchestrator.pools.board import PoolBoard
from services.orchestrator.pools.keeper import PoolKeeper
from services.orchestrator.pools.models import PoolRules
from services.orchestrator.ports import Reward
from services.orchestrator.samples import SampleBrowser
from services.orchestrator.scaler import PoolScaler
from services.orchestrator.service import Outside, RunService
from services.orchestrator.servicer import OrchestratorServicer
from services.orchestrator.settings import OrchestratorSettings, PoolSettings
from services.orchestrator.task_maker import TaskMaker
from services.orchestrator.uploads import UploadService
from services.orchestrator.work import Limits, Peers

COMPONENT = "orchestrator"
SERVICE_NAME = pb.DESCRIPTOR.services_by_name["OrchestratorService"].full_name
DATA_SERVICE_NAME = data_service_pb2.DESCRIPTOR.services_by_name["DataService"].full_name


class Orchestrator:
    """The service, built but not started. Build it inside the event loop that will run it."""

    def __init__(self, settings: OrchestratorSettings) -> None:
        Path(settings.state_dir).mkdir(parents=True, exist_ok=True)
        url = settings.resolved_database_url
        self._engine: sa.Engine = open_database(url)
        self._database_seconds = settings.database_seconds
        self._fence = Fence(settings.state_dir, self._engine)
        self._channels = [open_channel(peer) for peer in (settings.refinement, settings.ranking, settings.finetune)]
        refinement, ranking, finetune = self._channels
        self._plugin = PluginClient(settings.plugin)
        clock = SystemClock()
        store = ArtifactStore(settings.store.root)
        shards = ShardFiles(store)
        tasks = SqlTaskStore(self._engine)
        signal = Signal()
        self._runs = RunService(
            Outside(
                SqlRunStore(self._engine),
                tasks,
                shards,
                DatasetSource(store),
                Peers(
                    RefinementClient(refinement),
                    RankingClient(ranking),
                    self._reward(settings.reward),
                    FinetuneClient(finetune),
                    self._plugin,
                ),
                clock,
            ),
            Limits(**settings.limits.model_dump()),
            signal,
        )
        self._workflows = DbosWorkflows(url, settings.executor_id, self._runs.execute)
        self._fronts = {name: open_channel(pool.front) for name, pool in settings.pools.items()}
        self._pools = PoolKeeper(
            PoolBoard([_rules(name, pool) for name, pool in settings.pools.items()], clock.now()),
            {name: PoolClient(channel) for name, channel in self._fronts.items()},
            self._runs.journeys,
            clock,
        )
        self._metrics = (PoolMetrics(self._pools.board.views), RunMetrics(self._runs.live_runs, clock.now))
        self._scaler = ScalerServer(settings.scaler, PoolScaler(self._pools.board)) if settings.scaler else None
        self._runs.attach(self._workflows, self._pools)
        maker = TaskMaker(self._runs, tasks, shards, clock)
        people = PeopleService(self._runs, tasks, maker, clock, signal)
        self._sample_index = SampleIndexFiles(Path(settings.state_dir) / "samples", shards)
        samples = SampleBrowser(shards, self._sample_index)
        self._servicer = OrchestratorServicer(self._runs, people, shards, samples, self._pools.board)
        self._data = DataServicer(
            UploadService(UploadFiles(store), settings.uploads.max_bytes), DownloadService(DownloadFiles(store))
        )

    def _reward(self, settings: ChannelSettings | None) -> Reward:
        if settings is None:
            return NoRewards()
        channel = open_channel(settings)
        self._channels.append(channel)
        return RewardClient(channel)

    def register(self, server: grpc.aio.Server) -> Sequence[str]:
        """Adds the services to a server, and answers their names."""
        add_OrchestratorServiceServicer_to_server(self._servicer, server)
        add_DataServiceServicer_to_server(self._data, server)
        return [SERVICE_NAME, DATA_SERVICE_NAME]

    async def start(self) -> None:
        """Waits for the database, takes the fence and takes up what was running before.

        Raises:
            FailedPreconditionError: EXECUTOR_TAKEN, or DATABASE_REFUSED.
            UnavailableError: DATABASE_UNAVAILABLE.
        """
        await prepare_database(self._engine, self._database_seconds)
        self._fence.take()
        self._workflows.launch()
        await self._runs.take_up()
        self._pools.start()
        for metrics in self._metrics:
            REGISTRY.register(metrics)
        if self._scaler is not None:
            await self._scaler.start()

    async def drain(self) -> None:
        """Ends the watches."""
        await self._runs.drain()

    async def stop(self) -> None:
        """Leaves running runs to the next process."""
        if self._scaler is not None:
            await self._scaler.stop()
        for metrics in self._metrics:
            with contextlib.suppress(KeyError):
                REGISTRY.unregister(metrics)
        self._sample_index.stop()
        await self._pools.stop()
        await self._runs.stop()
        self._workflows.shut_down()
        self._fence.release()
        await self._plugin.close()
        for channel in (*self._channels, *self._fronts.values()):
            await channel.close()
        self._engine.dispose()

    async def check_health(self) -> None:
        """Raises while the database does not answer."""
        await in_thread(self._ping)

    def _ping(self) -> None:
        with self._engine.connect() as connection:
            connection.execute(sa.text("SELECT 1"))


def _rules(name: str, pool: PoolSettings) -> PoolRules:
    return PoolRules(name, **pool.model_dump(exclude={"front"}))


async def run(settings: OrchestratorSettings, *, ready: Callable[[int], None] | None = None) -> None:
    """Serves until the process is told to stop."""
    orchestrator = Orchestrator(settings)
    await serve(
        COMPONENT,
        settings.server,
        register=orchestrator.register,
        start=orchestrator.start,
        stop=orchestrator.stop,
        check_health=orchestrator.check_health,
        ready=ready,
        drain=orchestrator.drain,
        telemetry=settings.telemetry,
    )
