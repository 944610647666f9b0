"""The models in a Ray cluster that this service starts, or joins, by itself."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from ilf_common.errors import FailedPreconditionError
from services.ranking.adapters.ray_serve_cluster import RayCluster
from services.ranking.adapters.ray_serve_deployments import build_ensemble
from services.ranking.adapters.ray_serve_handle import EnsembleHandle
from services.ranking.settings import RankingSettings

ValueT = TypeVar("ValueT")


class RayServeModels(EnsembleHandle):
    """The models of one Serve application, which it also starts and stops.

    Args:
        settings: Models, and where they run.
    """

    def __init__(self, settings: RankingSettings) -> None:
        super().__init__(settings)
        self._cluster = RayCluster(settings.ray, settings.state_dir)
        # Ray's processes die with the thread that started them, and only the main thread has its SIGTERM handler
        # replaced: both want a thread of its own that stays.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ray")

    async def start(self) -> None:
        """Starts or joins Ray and loads all models.

        Raises:
            FailedPreconditionError: MODELS_NOT_LOADED; a model cannot be loaded. The log has Serve's reason.
            UnavailableError: The cluster to join does not answer.
        """
        try:
            self.handle = await self._in_thread(self._deploy)
        finally:
            _take_back_signals()

    async def stop(self) -> None:
        """Ends the application, and an own cluster with it."""
        self.handle = None
        await self._in_thread(self._remove)
        self._thread.shutdown(wait=False)

    async def _in_thread(self, work: Callable[[], ValueT]) -> ValueT:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _deploy(self) -> Any:
        self._cluster.start()
        import ray
        from ray import serve

        logging.getLogger("ray.serve").setLevel(logging.ERROR)
        # Our own front answers gRPC; without a proxy no HTTP port is opened that another service could have.
        serve.start(proxy_location="Disabled")
        name = self._settings.ray.app_name
        try:
            gpus = ray.cluster_resources().get("GPU", 0.0)
            handle = serve.run(build_ensemble(self._settings, gpus), name=name, route_prefix=None)
        except RuntimeError as error:
            raise FailedPreconditionError(
                f"Serve could not load the models; its reason: {_reason(serve.status(), name)}",
                reason="MODELS_NOT_LOADED",
            ) from error
        self._cluster.note_processes()
        return handle

    def _remove(self) -> None:
        import ray

        if self._settings.ray.address is not None and ray.is_initialized():
            from ray import serve

            serve.delete(self._settings.ray.app_name)
        self._cluster.stop()


def _take_back_signals() -> None:
    """Puts this process's own handlers in front again; Ray's would print a stack at every orderly stop."""
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.getsignal(number))


def _reason(status: Any, app_name: str) -> str:
    """The messages of the deployments that failed, which hold no request: none was made yet."""
    app = status.applications.get(app_name)
    if app is None:
        return "the application is gone"
    messages = [f"{name}: {one.message}" for name, one in app.deployments.items() if one.status != "HEALTHY"]
    return "; ".join(messages) or app.message
