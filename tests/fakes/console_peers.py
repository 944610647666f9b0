"""The stand-ins of `tests.fakes.peers` with what only the console asks for: lists of jobs and policies, aliases.

`python -m tests.fakes.console_peers --store DIR --port PORT` serves until SIGTERM.
"""

from __future__ import annotations

import argparse
import asyncio
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc
from ilf.finetune.v1 import finetune_service_pb2 as ft
from ilf.finetune.v1 import finetune_service_pb2_grpc as ft_grpc
from ilf.plugin.v1 import plugin_service_pb2_grpc as plugin_grpc
from ilf.ranking.v1 import ranking_service_pb2_grpc as ranking_grpc
from ilf.refinement.v1 import refinement_service_pb2 as refinement
from ilf.refinement.v1 import refinement_service_pb2_grpc as refinement_grpc
from ilf.reward.v1 import reward_service_pb2 as reward
from ilf.reward.v1 import reward_service_pb2_grpc as reward_grpc

from ilf_common.artifacts import ArtifactStore
from ilf_common.errors import FailedPreconditionError, NotFoundError
from ilf_common.rpc.server import serve
from ilf_common.settings import ServerSettings
from tests.fakes import peers as stand_ins

HOLD = "held-step"
LOSSES = (2.0, 1.4, 1.1, 0.9)


class Refinement(stand_ins.RefinementStandIn):
    """Versions that are loaded serve; each alias remembers where it pointed before."""

    def __init__(self, peers: stand_ins.Peers) -> None:
        super().__init__(peers)
        self.aliases: dict[str, list[str]] = {}

    async def ListPolicies(self, request: Any, context: Any) -> Any:
        pointed = {alias: targets[-1] for alias, targets in self.aliases.items()}
        response = refinement.ListPoliciesResponse()
        for policy in self.peers.policies.values():
            shown = response.policies.add()
            shown.CopyFrom(policy)
            shown.state, shown.kind = refinement.POLICY_STATE_SERVING, refinement.POLICY_KIND_CHECKPOINT
            shown.aliases.extend(sorted(alias for alias, target in pointed.items() if target == policy.name))
            for alias in shown.aliases:
                if previous := self._alias(alias).previous_policy:
                    shown.rollback_targets[alias] = previous
        return response

    async def PromotePolicy(self, request: Any, context: Any) -> Any:
        self.policy(request.name)
        self.aliases.setdefault(request.alias, []).append(request.name)
        return self._alias(request.alias)

    async def RollbackPolicy(self, request: Any, context: Any) -> Any:
        if len(self.aliases.get(request.alias, [])) < 2:
            raise FailedPreconditionError("There is no earlier version.", reason="NO_PREVIOUS_POLICY")
        self.aliases[request.alias].pop()
        return self._alias(request.alias)

    def _alias(self, alias: str) -> refinement.PolicyAlias:
        targets = self.aliases[alias]
        return refinement.PolicyAlias(alias=alias, policy=targets[-1], previous_policy=["", *targets[:-1]][-1])


class Ranking(stand_ins.RankingStandIn):
    """Judges that differ a little."""

    async def BatchRank(self, request: Any, context: Any) -> Any:
        async for message in super().BatchRank(request, context):
            for outcome in message.outcomes:
                for score in outcome.result.scores:
                    for place, judge in enumerate(score.judge_scores):
                        judge.score = min(1.0, max(0.0, judge.score + (place - 1) * 0.07))
                    score.spread = 0.05 + score.score / 10
                    score.missing_mass = 0.2 * score.score
            yield message


class Finetune(stand_ins.FinetuneStandIn):
    """Jobs that can be looked at, and wait at the step that stands in a file while there is one."""

    def __init__(self, peers: stand_ins.Peers, hold: Path) -> None:
        super().__init__(peers)
        self._hold = hold

    async def GetFinetuneJob(self, request: Any, context: Any) -> Any:
        if request.name not in self.peers.jobs:
            raise NotFoundError("no such job", resource_type="finetune_job", resource_name=request.name)
        return self.peers.jobs[request.name]

    async def ListFinetuneJobs(self, request: Any, context: Any) -> Any:
        return ft.ListFinetuneJobsResponse(finetune_jobs=list(self.peers.jobs.values())[::-1])

    async def WatchFinetuneJob(self, request: Any, context: Any) -> Any:
        async for message in super().WatchFinetuneJob(request, context):
            job = message.finetune_job
            if job.state == ft.FINETUNE_JOB_STATE_SUCCEEDED:
                job.progress.step = job.progress.max_steps
            job.progress.loss = LOSSES[min(job.progress.step, len(LOSSES) - 1)]
            job.progress.losses.extend(
                ft.LossPoint(step=step, loss=loss) for step, loss in enumerate(LOSSES, 1) if step < job.progress.step
            )
            kept = self.peers.jobs[request.name]
            kept.progress.CopyFrom(job.progress)
            yield message
            while kept.state == ft.FINETUNE_JOB_STATE_RUNNING and job.progress.step >= self._held_step():
                await asyncio.sleep(0.02)

    def _held_step(self) -> float:
        try:
            return float(self._hold.read_text(encoding="ascii"))
        except FileNotFoundError:
            return math.inf


class Reward(stand_ins.RewardStandIn):
    """Serves no reward model of its own."""

    async def ListRewardModels(self, request: Any, context: Any) -> Any:
        return reward.ListRewardModelsResponse()


def main(
    refinement_type: type[Refinement] = Refinement,
    ranking_type: type[Ranking] = Ranking,
    plugin_type: type[stand_ins.PluginStandIn] = stand_ins.PluginStandIn,
) -> None:
    """Serves until it is told to stop."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--store", required=True)
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    peers = stand_ins.Peers(ArtifactStore(options.store), judges=3)

    def register(server: grpc.aio.Server) -> Sequence[str]:
        refinement_grpc.add_RefinementServiceServicer_to_server(refinement_type(peers), server)  # type: ignore[abstract]
        ranking_grpc.add_RankingServiceServicer_to_server(ranking_type(peers), server)  # type: ignore[abstract]
        reward_grpc.add_RewardServiceServicer_to_server(Reward(peers), server)  # type: ignore[abstract]
        ft_grpc.add_FinetuneServiceServicer_to_server(Finetune(peers, Path(options.store).with_name(HOLD)), server)  # type: ignore[abstract]
        plugin_grpc.add_PluginServiceServicer_to_server(plugin_type(peers), server)
        return [refinement.DESCRIPTOR.services_by_name["RefinementService"].full_name]  # a front asks for its health

    settings = ServerSettings(port=options.port, drain_seconds=1)
    asyncio.run(serve("peers", settings, register=register, start=nothing, stop=nothing))


async def nothing() -> None:
    """The stand-ins need no start and no end."""


if __name__ == "__main__":
    main()
