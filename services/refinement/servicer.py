"""The RPCs of `ilf.refinement.v1.RefinementService`: convert, one use case, convert."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from ilf.refinement.v1 import refinement_service_pb2 as pb
from ilf.refinement.v1 import refinement_service_pb2_grpc as pb_grpc

from ilf_common.rpc.pagination import page
from services.refinement import convert
from services.refinement.aliases import AliasService
from services.refinement.models import PolicyView
from services.refinement.policies import PolicyService
from services.refinement.service import InferenceService


class RefinementServicer(pb_grpc.RefinementServiceServicer):
    """Answers the RPCs with the use cases."""

    def __init__(self, inference: InferenceService, policies: PolicyService, aliases: AliasService) -> None:
        self._inference = inference
        self._aliases = aliases
        self._policies = policies

    async def Refine(self, request: pb.RefineRequest, context: Any) -> pb.RefineResponse:
        """Samples refinements of one initial output."""
        return convert.refine_response(await self._inference.sample(convert.refine_call(request)))

    async def BatchRefine(self, request: pb.BatchRefineRequest, context: Any) -> AsyncIterator[pb.BatchRefineResponse]:
        """Refines many items."""
        call = convert.batch_refine_call(request)
        async with aclosing(self._inference.sample_batch(call)) as groups:
            async for group in groups:
                yield convert.batch_refine_response(group)

    async def Generate(self, request: pb.GenerateRequest, context: Any) -> pb.GenerateResponse:
        """Samples outputs for one context."""
        return convert.generate_response(await self._inference.sample(convert.generate_call(request)))

    async def BatchGenerate(
        self, request: pb.BatchGenerateRequest, context: Any
    ) -> AsyncIterator[pb.BatchGenerateResponse]:
        """Generates for many items."""
        call = convert.batch_generate_call(request)
        async with aclosing(self._inference.sample_batch(call)) as groups:
            async for group in groups:
                yield convert.batch_generate_response(group)

    async def ScoreText(self, request: pb.ScoreTextRequest, context: Any) -> pb.ScoreTextResponse:
        """Scores one text."""
        return convert.score_text_response(await self._inference.score(convert.score_text_call(request)))

    async def BatchScoreText(
        self, request: pb.BatchScoreTextRequest, context: Any
    ) -> AsyncIterator[pb.BatchScoreTextResponse]:
        """Scores many texts."""
        call = convert.batch_score_text_call(request)
        async with aclosing(self._inference.score_batch(call)) as groups:
            async for group in groups:
                yield convert.batch_score_text_response(group)

    async def LoadPolicy(self, request: pb.LoadPolicyRequest, context: Any) -> pb.Policy:
        """Loads a version."""
        return convert.policy(await self._policies.load(convert.load_request(request)))

    async def GetPolicy(self, request: pb.GetPolicyRequest, context: Any) -> pb.Policy:
        """One version."""
        return convert.policy(self._policies.get(request.name))

    async def ListPolicies(self, request: pb.ListPoliciesRequest, context: Any) -> pb.ListPoliciesResponse:
        """A page of all versions."""
        views, token = page(self._policies.list_all(), request.page_size, request.page_token, key=_position)
        return pb.ListPoliciesResponse(policies=[convert.policy(view) for view in views], next_page_token=token)

    async def UnloadPolicy(self, request: pb.UnloadPolicyRequest, context: Any) -> pb.UnloadPolicyResponse:
        """Takes a version out of service."""
        await self._policies.unload(request.name, request.request_id)
        return pb.UnloadPolicyResponse()

    async def PromotePolicy(self, request: pb.PromotePolicyRequest, context: Any) -> pb.PolicyAlias:
        """Points an alias."""
        alias = await self._aliases.promote(request.alias, request.name, request.request_id)
        return convert.policy_alias(alias)

    async def RollbackPolicy(self, request: pb.RollbackPolicyRequest, context: Any) -> pb.PolicyAlias:
        """Points an alias back."""
        return convert.policy_alias(await self._aliases.rollback(request.alias, request.request_id))


def _position(view: PolicyView) -> str:
    """One name can be there twice while its old version drains."""
    return f"{view.policy.name}\0{view.state.value}\0{view.policy.digest}"
