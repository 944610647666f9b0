"""The second port of the process: what KEDA calls, with certificates of its own and without a token."""

from __future__ import annotations

import logging

import grpc
from ilf.keda.externalscaler_pb2_grpc import ExternalScalerServicer, add_ExternalScalerServicer_to_server

from ilf_common.rpc.interceptor import CallInterceptor
from ilf_common.rpc.server import bind, new_server
from ilf_common.settings import ServerSettings


class ScalerServer:
    """Serves an external scaler; built inside the event loop that will run it."""

    def __init__(self, settings: ServerSettings, servicer: ExternalScalerServicer) -> None:
        self._settings = settings
        self._servicer = servicer
        self._server: grpc.aio.Server | None = None

    async def start(self) -> int:
        """Opens the port and answers its number.

        Raises:
            FailedPreconditionError: As `ilf_common.rpc.server.bind`.
        """
        # KEDA calls every few seconds for each pool: at INFO its lines would bury all others.
        self._server = new_server(self._settings, CallInterceptor("orchestrator", access_level=logging.DEBUG))
        add_ExternalScalerServicer_to_server(self._servicer, self._server)
        port = bind(self._server, self._settings)
        await self._server.start()
        return port

    async def stop(self) -> None:
        """Ends all calls; KEDA calls again."""
        if self._server is not None:
            await self._server.stop(None)
