"""KEDA's external scaler: how many replicas each pool wants, told in KEDA's words."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from ilf.keda import externalscaler_pb2 as pb
from ilf.keda.externalscaler_pb2_grpc import ExternalScalerServicer

from ilf_common.errors import InvalidArgumentError, UnavailableError
from services.orchestrator.journal import wait_for
from services.orchestrator.pools.board import PoolBoard
from services.orchestrator.pools.models import PoolView

_QUIET_SECONDS = 30.0


class PoolScaler(ExternalScalerServicer):
    """Answers for the pool that the trigger's metadata names under `pool`."""

    def __init__(self, board: PoolBoard) -> None:
        self._board = board

    async def IsActive(self, request: pb.ScaledObjectRef, context: Any) -> pb.IsActiveResponse:  # noqa: D102
        return pb.IsActiveResponse(result=self._want(request) > 0)

    async def StreamIsActive(  # noqa: D102
        self, request: pb.ScaledObjectRef, context: Any
    ) -> AsyncIterator[pb.IsActiveResponse]:
        told: bool | None = None
        while True:
            ticket = self._board.changed.ticket()
            view = self._view(request)
            active = view.decision.want > 0
            if view.is_known and active is not told:
                yield pb.IsActiveResponse(result=active)
                told = active
            await wait_for(ticket, _QUIET_SECONDS)

    async def GetMetricSpec(self, request: pb.ScaledObjectRef, context: Any) -> pb.GetMetricSpecResponse:  # noqa: D102
        self._view(request)
        spec = pb.MetricSpec(metricName=_metric_name(request), targetSize=1, targetSizeFloat=1.0)
        return pb.GetMetricSpecResponse(metricSpecs=[spec])

    async def GetMetrics(self, request: pb.GetMetricsRequest, context: Any) -> pb.GetMetricsResponse:  # noqa: D102
        want = self._want(request.scaledObjectRef)
        name = _metric_name(request.scaledObjectRef)
        value = pb.MetricValue(metricName=name, metricValue=want, metricValueFloat=want)
        return pb.GetMetricsResponse(metricValues=[value])

    def _want(self, request: pb.ScaledObjectRef) -> int:
        view = self._view(request)
        if not view.is_known:
            # An error leaves the replicas as they are, where a 0 would take them away.
            raise UnavailableError(f"The front of pool {view.rules.name} has not answered yet.", retry_after=1.0)
        return view.decision.want

    def _view(self, request: pb.ScaledObjectRef) -> PoolView:
        name = request.scalerMetadata.get("pool", "")
        view = self._board.view(name)
        if view is None:
            known = ", ".join(one.rules.name for one in self._board.views()) or "none"
            raise InvalidArgumentError.of("metadata.pool", f"{name!r} is no pool of this orchestrator; it has: {known}")
        return view


def _metric_name(request: pb.ScaledObjectRef) -> str:
    return f"ilf-{request.scalerMetadata['pool']}-replicas"
