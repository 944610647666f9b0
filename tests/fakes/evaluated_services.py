"""Services to be evaluated: policies that write words by seed, scorers by rule, and a count of what was asked."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

from ilf.common.v1 import common_pb2
from ilf.orchestrator.v1 import orchestrator_service_pb2 as orchestrator
from ilf.ranking.v1 import ranking_service_pb2 as ranking
from ilf.refinement.v1 import refinement_service_pb2 as refinement
from ilf.reward.v1 import reward_service_pb2 as reward

from ilf_common.errors import InvalidArgumentError, NotFoundError
from ilf_common.rpc.status import to_status
from tests.fakes.ilf_server import FakeServices


class EvaluatedServices(FakeServices):
    """Policies, rankers and judges by rule.

    Attributes:
        policies: Digests by policy; each writes a word more than the one before, in the mean.
        generated: How often each item was generated, by policy and item id.
        too_long: Item ids whose prompt is refused.
        replaced_by: A digest that every policy has after it was looked at.
        nan_for: Item ids whose second candidate gets a NaN score.
        judge_models: Models of the server's judges.
        runs: What GetRun answers by name, where it has one of that name.
    """

    def __init__(self) -> None:
        super().__init__()
        self.policies = {"base": "0" * 64, "tuned": "1" * 64}
        self.generated: Counter[tuple[str, str]] = Counter()
        self.too_long: set[str] = set()
        self.replaced_by = ""
        self.nan_for: set[str] = set()
        self.judge_models = ["judge"]
        self.runs: dict[str, orchestrator.Run] = {}

    async def GetPolicy(self, request: Any, context: Any) -> refinement.Policy:
        self._arrive("GetPolicy", request)
        if request.name not in self.policies:
            raise NotFoundError(
                f"no model {request.name!r}",
                resource_type="policy",
                resource_name=request.name,
                reason="MODEL_NOT_FOUND",
            )
        found = refinement.Policy(name=request.name, digest=self.policies[request.name])
        self.policies[request.name] = self.replaced_by or found.digest
        return found

    async def BatchGenerate(self, request: Any, context: Any) -> AsyncIterator[Any]:
        def answer(item: Any) -> refinement.GenerateResponse:
            self.generated[request.model, item.item_id] += 1
            scale = 1 + list(self.policies).index(request.model)
            samples = [
                common_pb2.Sample(
                    text=_words(scale, item.seed, index),
                    token_count=3,
                    finish_reason=common_pb2.FINISH_REASON_LENGTH if index % 2 else common_pb2.FINISH_REASON_STOP,
                )
                for index in range(request.sampling.n or 1)
            ]
            version = f"{request.model}@{self.policies[request.model]}"
            return refinement.GenerateResponse(outputs=samples, model_version=version)

        async for response in self._stream(
            "BatchGenerate", request, refinement.BatchGenerateResponse, refinement.GenerateOutcome, answer
        ):
            outcome = response.outcomes[0]
            if outcome.item_id in self.too_long:
                error = InvalidArgumentError.of("context", "is too long", reason="PROMPT_TOO_LONG")
                response = refinement.BatchGenerateResponse(
                    outcomes=[refinement.GenerateOutcome(item_id=outcome.item_id, error=to_status(error))]
                )
            yield response

    async def BatchRank(self, request: Any, context: Any) -> AsyncIterator[Any]:
        def answer(item: Any) -> ranking.RankResponse:
            scores = [ranking.CandidateScore(score=float(len(text))) for text in item.candidates]
            if item.item_id in self.nan_for:
                scores[1].score = math.nan
            return ranking.RankResponse(scores=scores, ranker=request.ranker.name)

        async for response in self._stream(
            "BatchRank", request, ranking.BatchRankResponse, ranking.RankOutcome, answer
        ):
            yield response

    async def BatchScoreText(self, request: Any, context: Any) -> AsyncIterator[Any]:
        """A word costs the first policy 2 nats and each further one 1 more, the end 0.5."""
        scale = 1 + list(self.policies).index(request.model)

        def answer(item: Any) -> refinement.ScoreTextResponse:
            words = len(item.text.split())
            return refinement.ScoreTextResponse(
                logprob=-(1.0 + scale) * words - (0.0 if item.unfinished else 0.5),
                token_count=words + (not item.unfinished),
                model_version=f"{request.model}@{self.policies[request.model]}",
            )

        async for response in self._stream(
            "BatchScoreText", request, refinement.BatchScoreTextResponse, refinement.ScoreTextOutcome, answer
        ):
            yield response

    async def ListRankers(self, request: Any, context: Any) -> ranking.ListRankersResponse:
        judges = [ranking.JudgeSpec(name=f"judge_{k}", model=model) for k, model in enumerate(self.judge_models)]
        return ranking.ListRankersResponse(rankers=[ranking.Ranker(name="instruct_rm", judges=judges)])

    async def GetRun(self, request: Any, context: Any) -> orchestrator.Run:
        return self.runs.get(request.name, self.run)

    async def GetRewardModel(self, request: Any, context: Any) -> reward.RewardModel:
        self._arrive("GetRewardModel", request)
        if request.name == "gone":
            raise NotFoundError("no such reward model", resource_type="reward model", resource_name="gone")
        loss = common_pb2.REWARD_LOSS_A_B if "compares" in request.name else common_pb2.REWARD_LOSS_BRADLEY_TERRY
        return reward.RewardModel(name=request.name, uri=f"models/{request.name}", digest=request.name, loss=loss)

    async def BatchCompare(self, request: Any, context: Any) -> AsyncIterator[Any]:
        """The longer output is better, for judges and for reward models; 0.5 where both are equally long."""
        service = reward if isinstance(request, reward.BatchCompareRequest) else ranking

        def answer(item: Any) -> Any:
            difference = len(item.output_a) - len(item.output_b)
            return service.CompareResponse(probability_a=1 / (1 + math.exp(-difference / 5)))  # type: ignore[attr-defined]

        async for response in self._stream(
            "BatchCompare",
            request,
            service.BatchCompareResponse,  # type: ignore[attr-defined]
            service.CompareOutcome,  # type: ignore[attr-defined]
            answer,
        ):
            yield response


def _words(scale: int, seed: int, index: int) -> str:
    count = scale + random.Random(f"{scale}/{seed}/{index}").randint(0, 5)
    return " ".join(["word"] * count)
