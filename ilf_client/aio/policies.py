"""Versions of the policy at the refinement service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import cached_property
from typing import TYPE_CHECKING

from ilf.refinement.v1 import refinement_service_pb2 as pb
from ilf.refinement.v1.refinement_service_pb2_grpc import RefinementServiceStub

from ilf_client._convert import from_proto
from ilf_client._transport import Transport, collect_pages, new_request_id
from ilf_client.models.policies import Policy, PolicyAlias

if TYPE_CHECKING:
    from ilf.refinement.v1.refinement_service_pb2_grpc import RefinementServiceAsyncStub


class AsyncPolicies:
    """Load, list, promote and unload policy versions."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    @cached_property
    def _stub(self) -> RefinementServiceAsyncStub:
        return RefinementServiceStub(self._transport.channel("refinement"))

    async def load(
        self,
        name: str,
        uri: str,
        *,
        base_model: str = "",
        replace: bool = False,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> Policy:
        """Loads a checkpoint and moves traffic to it once it is verified.

        Args:
            name: `<run>/it-<k>`, or any other name.
            uri: The checkpoint's directory in the artifact store.
            base_model: For an adapter: the served model that it sits on.
            replace: Swap the version that is served under this name.
            request_id: The same id is the same request; None makes a fresh one.
            timeout: Seconds; None takes `Timeouts.load`.
        """
        request = pb.LoadPolicyRequest(
            request_id=new_request_id(request_id), name=name, uri=uri, base_model=base_model, replace=replace
        )
        deadline = self._transport.timeouts.load if timeout is None else timeout
        return from_proto(await self._transport.call(self._stub.LoadPolicy, request, deadline), Policy)

    async def get(self, name: str, *, timeout: float | None = None) -> Policy:
        """One version, by its name or an alias."""
        request = pb.GetPolicyRequest(name=name)
        return from_proto(await self._transport.call(self._stub.GetPolicy, request, timeout), Policy)

    async def list(self, *, timeout: float | None = None) -> AsyncIterator[Policy]:
        """All versions and models of the server."""

        async def fetch(token: str) -> pb.ListPoliciesResponse:
            request = pb.ListPoliciesRequest(page_token=token)
            return await self._transport.call(self._stub.ListPolicies, request, timeout)

        async for policy in collect_pages(fetch, "policies", Policy):
            yield policy

    async def unload(self, name: str, *, request_id: str | None = None, timeout: float | None = None) -> None:
        """Takes a version out of service after its requests have drained."""
        request = pb.UnloadPolicyRequest(request_id=new_request_id(request_id), name=name)
        await self._transport.call(self._stub.UnloadPolicy, request, timeout)

    async def promote(
        self, alias: str, name: str, *, request_id: str | None = None, timeout: float | None = None
    ) -> PolicyAlias:
        """Points an alias at a loaded version."""
        request = pb.PromotePolicyRequest(request_id=new_request_id(request_id), alias=alias, name=name)
        return from_proto(await self._transport.call(self._stub.PromotePolicy, request, timeout), PolicyAlias)

    async def rollback(self, alias: str, *, request_id: str | None = None, timeout: float | None = None) -> PolicyAlias:
        """Points an alias back at its previous version."""
        request = pb.RollbackPolicyRequest(request_id=new_request_id(request_id), alias=alias)
        return from_proto(await self._transport.call(self._stub.RollbackPolicy, request, timeout), PolicyAlias)
