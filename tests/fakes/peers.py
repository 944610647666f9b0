"""Instant, deterministic stand-ins for refinement, ranking, finetune and plugin, behind their real protos.

In process: `register(peers)` with `tests.support.running_server`. As a process:
`python -m tests.fakes.peers --store DIR` prints its address and serves until it is killed. A context that holds
"POISON-<call>" fails that call for its item alone.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import grpc
from ilf.common.v1 import common_pb2 as common
from ilf.finetune.v1 import finetune_service_pb2 as ft
from ilf.finetune.v1 import finetune_service_pb2_grpc as ft_grpc
from ilf.plugin.v1 import plugin_service_pb2 as plugin
from ilf.plugin.v1 import plugin_service_pb2_grpc as plugin_grpc
from ilf.ranking.v1 import ranking_service_pb2 as ranking
from ilf.ranking.v1 import ranking_service_pb2_grpc as ranking_grpc
from ilf.refinement.v1 import refinement_service_pb2 as refinement
from ilf.refinement.v1 import refinement_service_pb2_grpc as refinement_grpc
from ilf.reward.v1 import reward_service_pb2 as reward
from ilf.reward.v1 import reward_service_pb2_grpc as reward_grpc

from ilf_common.artifacts import ArtifactStore
from ilf_common.errors import InvalidArgumentError, NotFoundError, UnavailableError
from ilf_common.rpc.interceptor import CallInterceptor
from ilf_common.rpc.server import bind, new_server
from ilf_common.rpc.status import to_status
from ilf_common.settings import ServerSettings

MODELS = ("base", "refiner", "critic")
OUTCOMES_A_MESSAGE = 32


class Peers:
    """What the stand-ins share: the store, what is loaded, what is switched off, and how often they were called."""

    def __init__(self, store: ArtifactStore, *, delay: float = 0.0, judges: int = 1, job_steps: int = 3) -> None:
        self.store = store
        self.delay = delay
        self.judges = judges
        self.job_steps = job_steps
        self.down: set[str] = set()
        self.policies = {
            name: refinement.Policy(name=name, digest=digest(name), uri=f"/models/{name}") for name in MODELS
        }
        self.jobs: dict[str, ft.FinetuneJob] = {}
        self.calls: Counter[str] = Counter()
        self.contexts: dict[str, set[str]] = {}
        self.hold_jobs = False
        self.fail_jobs = False
        self.ranker_description = ""
        self.reward_digest = ""

    async def enter(self, service: str, call: str, contexts: Sequence[str] = ()) -> None:
        """Counts a call; refuses it while its service is switched off."""
        self.calls[call] += 1
        self.contexts.setdefault(call, set()).update(contexts)
        if service in self.down:
            raise UnavailableError(f"the {service} stand-in is switched off")
        if self.delay:
            await asyncio.sleep(self.delay)


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def number(text: str) -> int:
    return int(digest(text)[:8], 16)


async def in_messages(outcomes: Sequence[Any], kind: Callable[..., Any]) -> Any:
    for start in range(0, len(outcomes), OUTCOMES_A_MESSAGE):
        yield kind(outcomes=outcomes[start : start + OUTCOMES_A_MESSAGE])


def poisoned(context: str, call: str) -> bool:
    return f"POISON-{call}" in context


def poison_status() -> Any:
    return to_status(InvalidArgumentError.of("context", "is poisoned"))


class RefinementStandIn(refinement_grpc.RefinementServiceServicer):
    def __init__(self, peers: Peers) -> None:
        self.peers = peers

    def policy(self, name: str) -> refinement.Policy:
        if name not in self.peers.policies:
            raise NotFoundError(
                f"no model {name}", resource_type="policy", resource_name=name, reason="MODEL_NOT_FOUND"
            )
        return self.peers.policies[name]

    async def GetPolicy(self, request: Any, context: Any) -> Any:
        await self.peers.enter("refinement", "GetPolicy")
        return self.policy(request.name)

    async def LoadPolicy(self, request: Any, context: Any) -> Any:
        await self.peers.enter("refinement", "LoadPolicy")
        manifest = self.peers.store.read_manifest(self.peers.store.resolve(request.uri))
        policy = refinement.Policy(
            name=request.name, uri=request.uri, digest=manifest.digest, base_model=request.base_model
        )
        self.peers.policies[request.name] = policy
        return policy

    async def BatchGenerate(self, request: Any, context: Any) -> Any:
        await self.peers.enter("refinement", "BatchGenerate", [item.context for item in request.items])
        policy = self.policy(request.model)
        outcomes = []
        for item in request.items:
            outcome = refinement.GenerateOutcome(item_id=item.item_id)
            if poisoned(item.context, "generate"):
                outcome.error.CopyFrom(poison_status())
            else:
                for sample in range(max(request.sampling.n, 1)):
                    text = f"{item.context} by {policy.digest[:6]} {(item.seed + sample) % 1000}"
                    outcome.result.outputs.add(text=text, token_count=len(text.split()))
                outcome.result.usage.prompt_tokens = 10
                outcome.result.usage.completion_tokens = 5
            outcomes.append(outcome)
        async for message in in_messages(outcomes, refinement.BatchGenerateResponse):
            yield message

    async def BatchRefine(self, request: Any, context: Any) -> Any:
        await self.peers.enter("refinement", "BatchRefine", [item.context for item in request.items])
        self.policy(request.model)
        outcomes = []
        for item in request.items:
            outcome = refinement.RefineOutcome(item_id=item.item_id)
            if poisoned(item.context, "refine"):
                outcome.error.CopyFrom(poison_status())
            else:
                for sample in range(request.sampling.n):
                    outcome.result.refinements.add(text=f"{item.context} refined {(item.seed + sample) % 9973}")
                outcome.result.usage.prompt_tokens = 20
                outcome.result.usage.completion_tokens = 25
            outcomes.append(outcome)
        async for message in in_messages(outcomes, refinement.BatchRefineResponse):
            yield message

    async def BatchScoreText(self, request: Any, context: Any) -> Any:
        await self.peers.enter("refinement", "BatchScoreText")
        outcomes = []
        for item in request.items:
            outcome = refinement.ScoreTextOutcome(item_id=item.item_id)
            outcome.result.logprob = -float(len(item.text))
            outcome.result.token_count = max(1, len(item.text.split()))
            outcomes.append(outcome)
        async for message in in_messages(outcomes, refinement.BatchScoreTextResponse):
            yield message


class RankingStandIn(ranking_grpc.RankingServiceServicer):
    def __init__(self, peers: Peers) -> None:
        self.peers = peers

    async def ListRankers(self, request: Any, context: Any) -> Any:
        await self.peers.enter("ranking", "ListRankers")
        names = ("instruct_rm", "embedding", "length", "random")
        return ranking.ListRankersResponse(
            rankers=[ranking.Ranker(name=name, description=self.peers.ranker_description) for name in names]
        )

    async def BatchRank(self, request: Any, context: Any) -> Any:
        await self.peers.enter("ranking", "BatchRank", [item.context for item in request.items])
        outcomes = []
        for item in request.items:
            outcome = ranking.RankOutcome(item_id=item.item_id)
            if poisoned(item.context, "rank"):
                outcome.error.CopyFrom(poison_status())
            else:
                for candidate in item.candidates:
                    value = (hash_of(candidate) % 1000) / 1000
                    score = outcome.result.scores.add(score=value, spread=0.1, missing_mass=0.01)
                    for judge in range(self.peers.judges):
                        score.judge_scores.add(judge=f"judge-{judge}", score=value, missing_mass=0.01)
            outcomes.append(outcome)
        async for message in in_messages(outcomes, ranking.BatchRankResponse):
            yield message

    async def BatchCompare(self, request: Any, context: Any) -> Any:
        await self.peers.enter("ranking", "BatchCompare")
        outcomes = []
        for item in request.items:
            outcome = ranking.CompareOutcome(item_id=item.item_id)
            outcome.result.probability_a = (0.2, 0.5, 0.8)[number(item.output_a) % 3]
            outcomes.append(outcome)
        async for message in in_messages(outcomes, ranking.BatchCompareResponse):
            yield message


class RewardStandIn(reward_grpc.RewardServiceServicer):
    """The model `compares` gives no rewards; the reward of a text is its hash."""

    def __init__(self, peers: Peers) -> None:
        self.peers = peers

    async def GetRewardModel(self, request: Any, context: Any) -> Any:
        await self.peers.enter("reward", "GetRewardModel")
        if request.name == "gone":
            raise NotFoundError(
                "no such model", resource_type="reward_model", resource_name="gone", reason="REWARD_MODEL_NOT_FOUND"
            )
        loss = common.REWARD_LOSS_A_B if request.name == "compares" else common.REWARD_LOSS_BRADLEY_TERRY
        return reward.RewardModel(name=request.name, digest=f"{request.name} {self.peers.reward_digest}", loss=loss)

    async def BatchScore(self, request: Any, context: Any) -> Any:
        await self.peers.enter("reward", "BatchScore", [item.context for item in request.items])
        outcomes = []
        for item in request.items:
            outcome = reward.ScoreOutcome(item_id=item.item_id)
            if poisoned(item.context, "rank"):
                outcome.error.CopyFrom(poison_status())
            else:
                rewards = [(hash_of(item.output) % 1000) / 1000 + place for place in range(len(request.models))]
                outcome.result.model_rewards.extend(rewards)
                outcome.result.reward = sum(rewards) / len(rewards)
            outcomes.append(outcome)
        async for message in in_messages(outcomes, reward.BatchScoreResponse):
            yield message

    async def BatchCompare(self, request: Any, context: Any) -> Any:
        await self.peers.enter("reward", "BatchCompare", [item.context for item in request.items])
        outcomes = []
        for item in request.items:
            ahead = (hash_of(item.output_a) % 1000 - hash_of(item.output_b) % 1000) / 1000
            outcome = reward.CompareOutcome(item_id=item.item_id)
            outcome.result.model_probabilities.extend([0.5 + ahead / 2] * len(request.models))
            outcomes.append(outcome)
        async for message in in_messages(outcomes, reward.BatchCompareResponse):
            yield message


def hash_of(text: str) -> int:
    """A fast hash that is the same in every process."""
    value = 0
    for character in text[-8:]:
        value = (value * 131 + ord(character)) % 1_000_003
    return value


class FinetuneStandIn(ft_grpc.FinetuneServiceServicer):
    """Jobs end at once; their checkpoint holds the digest of their dataset."""

    def __init__(self, peers: Peers) -> None:
        self.peers = peers

    async def CreateFinetuneJob(self, request: Any, context: Any) -> Any:
        await self.peers.enter("finetune", "CreateFinetuneJob")
        name = f"jobs/{request.request_id}"
        if name not in self.peers.jobs:
            self.peers.jobs[name] = ft.FinetuneJob(name=name, spec=request.spec, state=ft.FINETUNE_JOB_STATE_RUNNING)
        return self.peers.jobs[name]

    async def WatchFinetuneJob(self, request: Any, context: Any) -> Any:
        await self.peers.enter("finetune", "WatchFinetuneJob")
        job = self.peers.jobs[request.name]
        for step in range(self.peers.job_steps):
            if job.state != ft.FINETUNE_JOB_STATE_RUNNING:
                break
            job.progress.step, job.progress.max_steps = step, self.peers.job_steps
            yield ft.WatchFinetuneJobResponse(finetune_job=job)
            await asyncio.sleep(self.peers.delay)
        while self.peers.hold_jobs and job.state == ft.FINETUNE_JOB_STATE_RUNNING:
            await asyncio.sleep(0.02)
        if job.state == ft.FINETUNE_JOB_STATE_RUNNING:
            self.finish(job)
        yield ft.WatchFinetuneJobResponse(finetune_job=job)

    def finish(self, job: Any) -> None:
        if self.peers.fail_jobs:
            job.state = ft.FINETUNE_JOB_STATE_FAILED
            error = InvalidArgumentError("the loss is not a number", reason="NAN_LOSS")
            job.error.CopyFrom(to_status(error))
            return
        data = self.peers.store.read_bytes(self.peers.store.resolve(job.spec.dataset_uri))
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "weights").write_text(hashlib.sha256(data).hexdigest() + job.spec.base_model[-12:])
            self.peers.store.publish_directory(Path(folder), self.peers.store.resolve(job.spec.output_uri))
        job.state = ft.FINETUNE_JOB_STATE_SUCCEEDED

    async def CancelFinetuneJob(self, request: Any, context: Any) -> Any:
        await self.peers.enter("finetune", "CancelFinetuneJob")
        job = self.peers.jobs[request.name]
        if job.state == ft.FINETUNE_JOB_STATE_RUNNING:
            job.state = ft.FINETUNE_JOB_STATE_CANCELLED
        return job


class PluginStandIn(plugin_grpc.PluginServiceServicer):
    def __init__(self, peers: Peers) -> None:
        self.peers = peers

    async def GiveFeedback(self, request: Any, context: Any) -> Any:
        await self.peers.enter("plugin", "GiveFeedback", [item.context for item in request.items])
        return plugin.GiveFeedbackResponse(
            feedback=[
                "Nothing to change." if "FINE" in item.context else f"Say it shorter: {len(item.output)}."
                for item in request.items
            ]
        )

    async def ScoreOutputs(self, request: Any, context: Any) -> Any:
        await self.peers.enter("plugin", "ScoreOutputs", [item.context for item in request.items])
        return plugin.ScoreOutputsResponse(scores=[float(number(item.output) % 2) for item in request.items])


def register(peers: Peers) -> Callable[[grpc.aio.Server], Sequence[str]]:
    """Adds all stand-ins to a server."""

    def add(server: grpc.aio.Server) -> Sequence[str]:
        refinement_grpc.add_RefinementServiceServicer_to_server(RefinementStandIn(peers), server)  # type: ignore[abstract]
        ranking_grpc.add_RankingServiceServicer_to_server(RankingStandIn(peers), server)  # type: ignore[abstract]
        reward_grpc.add_RewardServiceServicer_to_server(RewardStandIn(peers), server)  # type: ignore[abstract]
        ft_grpc.add_FinetuneServiceServicer_to_server(FinetuneStandIn(peers), server)  # type: ignore[abstract]
        plugin_grpc.add_PluginServiceServicer_to_server(PluginStandIn(peers), server)
        return []

    return add


async def main() -> None:
    """Serves until it is killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--store", required=True)
    parser.add_argument("--delay", type=float, default=0.0)
    parser.add_argument("--judges", type=int, default=1)
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args()
    peers = Peers(ArtifactStore(options.store), delay=options.delay, judges=options.judges)
    settings = ServerSettings(port=options.port)
    server = new_server(settings, CallInterceptor("peers"))
    register(peers)(server)
    port = bind(server, settings)
    await server.start()
    print(f"127.0.0.1:{port}", flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main())
