"""The whole service as an application of Ray Serve, for Ray clusters that somebody else runs (KubeRay).

`import_path: services.ranking.adapters.ray_serve_app:application`; settings come from ILF_CONFIG_FILE and variables as
always. The application's ingress is a replica in which our own gRPC server listens: Serve's gRPC proxy has neither TLS
nor interceptors.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from ilf_common.errors import FailedPreconditionError, UnavailableError
from ilf_common.settings import load_settings
from services.ranking.adapters.ray_serve_deployments import LOGGING, build_ensemble
from services.ranking.adapters.ray_serve_handle import EnsembleHandle
from services.ranking.settings import RankingSettings

# What Serve gives a replica above the time that running calls have to finish.
_STOP_SECONDS = 10.0


class GrpcIngress:
    """Runs the gRPC server for as long as Serve keeps the replica.

    Args:
        settings: Of the service.
        ensemble: Handle of the models.
    """

    async def __init__(self, settings: RankingSettings, ensemble: Any) -> None:  # type: ignore[misc]
        from services.ranking.wiring import run

        self._stopping = asyncio.Event()
        serving = asyncio.get_running_loop().create_future()
        models = EnsembleHandle(settings, ensemble)
        self._server = asyncio.create_task(
            _served(run(settings, models=models, ready=serving.set_result, stopping=self._stopping))
        )
        await asyncio.wait({serving, self._server}, return_when=asyncio.FIRST_COMPLETED)
        await self.check_health()

    async def __call__(self, request: Any) -> str:
        """Answers Serve's HTTP proxy, which KubeRay wants to see; the service itself speaks gRPC."""
        return "This is a gRPC service.\n"

    async def check_health(self) -> None:
        """Serve calls this now and then, and replaces the replica when it raises."""
        if self._server.done():
            self._server.result()
            raise UnavailableError("The gRPC server has stopped.", reason="STOPPED")

    async def __del__(self) -> None:
        """Serve calls this when it lets the replica go: new calls are refused, running ones finish."""
        self._stopping.set()
        await asyncio.wait({self._server})


async def _served(run: Any) -> None:
    """An exit is no way for a guest in Ray's process to end."""
    try:
        await run
    except SystemExit as error:
        raise FailedPreconditionError(
            "The gRPC server of the ranking service cannot serve; the line before this one says why.",
            reason="START_FAILED",
        ) from error


def application(arguments: Mapping[str, str]) -> Any:
    """Builds the application; Serve calls it where it deploys.

    Raises:
        InvalidArgumentError: The settings are wrong.
    """
    import ray
    from ray import serve

    settings = load_settings(RankingSettings, "ranking")
    ingress = serve.deployment(
        GrpcIngress,
        name="grpc",
        ray_actor_options={"num_cpus": 0, "resources": settings.ray.ingress_resources},
        logging_config=LOGGING,
        health_check_period_s=5,
        graceful_shutdown_timeout_s=settings.server.drain_seconds + _STOP_SECONDS,
    )
    gpus = ray.cluster_resources().get("GPU", 0.0)
    return ingress.bind(settings, build_ensemble(settings, gpus))
