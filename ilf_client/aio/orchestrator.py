"""What all clients of the orchestrator's service share."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from ilf.orchestrator.v1.orchestrator_service_pb2_grpc import OrchestratorServiceStub

from ilf_client._transport import Transport

if TYPE_CHECKING:
    from ilf.orchestrator.v1.orchestrator_service_pb2_grpc import OrchestratorServiceAsyncStub


class OrchestratorCalls:
    """The transport and the stub of the orchestrator's service."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    @cached_property
    def _stub(self) -> OrchestratorServiceAsyncStub:
        return OrchestratorServiceStub(self._transport.channel("orchestrator"))
