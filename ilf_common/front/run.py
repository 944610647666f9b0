"""Builds and runs a front; the only place that chooses implementations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import grpc
from ilf.pool.v1 import pool_service_pb2_grpc as pool_grpc
from prometheus_client import CollectorRegistry

from ilf_common.artifacts import ArtifactStore
from ilf_common.front.addresses import DnsAddresses, Resolve
from ilf_common.front.api import FrontedApi, Method
from ilf_common.front.control import Control
from ilf_common.front.fleet import Fleet
from ilf_common.front.forward import Forwarder
from ilf_common.front.line import Line
from ilf_common.front.reading import Reading
from ilf_common.front.serving import Serving
from ilf_common.front.settings import FrontSettings
from ilf_common.front.status import SERVICE_NAME, PoolMetrics, PoolServicer
from ilf_common.front.worker import Worker
from ilf_common.rpc.client import open_channel
from ilf_common.rpc.server import serve
from ilf_common.telemetry import REGISTRY


class Front:
    """A front, built but not started; to be built where an event loop runs.

    Args:
        api: Of the service that it stands for.
        settings: All of them.
        resolve: Finds the workers; by default all addresses of the host in the settings.
        registry: Where metrics are registered.
    """

    def __init__(
        self,
        api: FrontedApi,
        settings: FrontSettings,
        *,
        resolve: Resolve | None = None,
        registry: CollectorRegistry = REGISTRY,
    ) -> None:
        found = DnsAddresses(settings.workers.address)
        self.store = ArtifactStore(settings.store.root)
        self._api = api
        self._line = Line(settings.max_queued_items, settings.worker_items, lambda: self.pool.changed())
        self.pool = PoolServicer(api.pool, lambda: self._line.numbers)
        registry.register(PoolMetrics(api.pool, lambda: self._line.numbers))
        self._serving = Serving(api, self.store)
        self._fleet = Fleet(
            api.service.full_name,
            resolve or found,
            lambda address: open_channel(replace(settings.workers, address=address), server_name=found.host),
            settings.resolve_seconds,
            self._line,
            self._prepare,
        )
        self._reading = Reading(api, self._serving, self._fleet, self.store)
        self._control = Control(api, self._serving, self._fleet, self._line, self._reading.look)
        self._forwarder = Forwarder(
            api,
            self._serving,
            self._fleet,
            self._line,
            worker_items=settings.worker_items,
            wait_seconds=settings.wait_seconds,
        )

    def register(self, server: grpc.aio.Server) -> Sequence[str]:
        """Adds the API and the pool's status to a server, and answers the services' names."""
        handlers = {name: self._handler(self._api.method(name)) for name in self._api.service.methods_by_name}
        name = self._api.service.full_name
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, handlers),))
        pool_grpc.add_PoolServiceServicer_to_server(self.pool, server)
        return [name, SERVICE_NAME]

    async def start(self) -> None:
        """Reads what is served, and begins to look for workers; does not wait for any."""
        await self._serving.load()
        await self._reading.load()
        await self._fleet.start()

    async def stop(self) -> None:
        """Lets the workers go."""
        await self._fleet.stop()

    async def _prepare(self, worker: Worker) -> None:
        await self._serving.refresh()
        await self._serving.bring(worker)
        await self._reading.look(worker)

    def _handler(self, method: Method) -> grpc.RpcMethodHandler[Any, Any]:
        make = grpc.unary_stream_rpc_method_handler if method.streams else grpc.unary_unary_rpc_method_handler
        return make(
            self._behaviour(method),
            request_deserializer=method.request.FromString,
            response_serializer=method.response.SerializeToString,
        )

    def _behaviour(self, method: Method) -> Callable[[Any, Any], Any]:
        if method.streams:
            return lambda request, context: self._forwarder.batch(method, request)
        if self._api.is_control(method.name):
            return lambda request, context: self._control.change(method, request, self._forwarder.wait_seconds())
        if method.name == self._api.list_method:
            return lambda request, context: self._list(method, request)
        if method.name == self._api.get_method:
            return lambda request, context: self._get(method, request)
        return lambda request, context: self._forwarder.single(method, request)

    async def _list(self, method: Method, request: Any) -> Any:
        if self._reading.is_blind:
            return await self._forwarder.single(method, request)
        return await self._reading.list_page(request)

    async def _get(self, method: Method, request: Any) -> Any:
        return await self._reading.get(method, request) or await self._forwarder.single(method, request)


async def run(api: FrontedApi, settings: FrontSettings, *, ready: Callable[[int], None] | None = None) -> None:
    """Serves until the process is told to stop."""
    front = Front(api, settings)
    await serve(
        f"{api.pool}-front",
        settings.server,
        register=front.register,
        start=front.start,
        stop=front.stop,
        drain=front.pool.drain,
        ready=ready,
        telemetry=settings.telemetry,
    )
