"""All five services as instant fakes on one server: they answer by rule, and remember what they were asked."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc
from ilf.common.v1 import common_pb2
from ilf.data.v1 import data_service_pb2 as data
from ilf.data.v1.data_service_pb2_grpc import DataServiceServicer, add_DataServiceServicer_to_server
from ilf.finetune.v1 import finetune_service_pb2 as finetune
from ilf.finetune.v1.finetune_service_pb2_grpc import (
    FinetuneServiceServicer,
    add_FinetuneServiceServicer_to_server,
)
from ilf.orchestrator.v1 import orchestrator_service_pb2 as orchestrator
from ilf.orchestrator.v1.orchestrator_service_pb2_grpc import (
    OrchestratorServiceServicer,
    add_OrchestratorServiceServicer_to_server,
)
from ilf.ranking.v1 import ranking_service_pb2 as ranking
from ilf.ranking.v1.ranking_service_pb2_grpc import RankingServiceServicer, add_RankingServiceServicer_to_server
from ilf.refinement.v1 import refinement_service_pb2 as refinement
from ilf.refinement.v1.refinement_service_pb2_grpc import (
    RefinementServiceServicer,
    add_RefinementServiceServicer_to_server,
)
from ilf.reward.v1 import reward_service_pb2 as reward
from ilf.reward.v1.reward_service_pb2_grpc import RewardServiceServicer, add_RewardServiceServicer_to_server

from ilf_common.errors import IlfError, InvalidArgumentError, NotFoundError
from ilf_common.rpc.status import to_status

REWARD_REPORT = reward.RewardReport(
    pairs=3,
    contexts=1,
    dropped={"equal_texts": 2},
    accuracy=reward.Measure(value=0.75, standard_error=float("inf"), n=1),
    accuracy_low=0.5,
    accuracy_high=0.9,
    uncalibrated=reward.Calibration(ece=0.2, brier=0.3),
    calibrated=reward.Calibration(
        ece=0.1, brier=0.2, bins=[reward.ReliabilityBin(low=0.5, high=0.6, count=6, mean_probability=0.55)]
    ),
    temperature=1.5,
    length=reward.LengthBias(slope=reward.Measure(value=0.01, standard_error=0.002, n=3), longer_is_preferred=0.6),
    slices=[reward.SliceReport(value="cats", pairs=3, accuracy=reward.Measure(value=0.75, standard_error=0.1, n=2))],
)


class FakeServices(
    RefinementServiceServicer,
    RankingServiceServicer,
    RewardServiceServicer,
    FinetuneServiceServicer,
    OrchestratorServiceServicer,
    DataServiceServicer,
):
    """Answers by rule.

    Attributes:
        calls: Requests by the RPC's name, in order of arrival.
        failures: Errors by the RPC's name; each is raised once, first come first.
        break_after: By the RPC's name: a batch stream breaks off after so many outcomes, once.
        run: What the run RPCs answer.
        run_history: What WatchRun streams; `run` where empty.
        pools: What ListPools answers.
        samples: What ListSamples answers.
        tasks: Open feedback tasks.
        pairs: Open comparison tasks.
        reviews: Open review tasks.
        uploads: Datasets that were pushed, by URI.
        directories: Files of published directories, by URI and path.
        seconds: What was left until the deadline as a request arrived, by the RPC's name; of some RPCs only.
    """

    def __init__(self) -> None:
        self.calls: dict[str, list[Any]] = defaultdict(list)
        self.failures: dict[str, list[IlfError]] = defaultdict(list)
        self.break_after: dict[str, tuple[int, IlfError]] = {}
        self.run = orchestrator.Run(name="runs/toy", state=orchestrator.RUN_STATE_SUCCEEDED)
        self.run_history: list[orchestrator.Run] = []
        self.pools: list[orchestrator.Pool] = []
        self.samples: list[orchestrator.RunSample] = []
        self.tasks: list[orchestrator.FeedbackTask] = []
        self.pairs: list[orchestrator.ComparisonTask] = []
        self.reviews: list[orchestrator.ReviewTask] = []
        self.jobs: dict[str, finetune.FinetuneJob] = {}
        self.uploads: dict[str, bytes] = {}
        self.directories: dict[str, dict[str, bytes]] = {}
        self.seconds: dict[str, list[float]] = defaultdict(list)

    def register(self, server: grpc.aio.Server) -> Sequence[str]:
        add_RefinementServiceServicer_to_server(self, server)
        add_RankingServiceServicer_to_server(self, server)
        add_RewardServiceServicer_to_server(self, server)
        add_FinetuneServiceServicer_to_server(self, server)
        add_OrchestratorServiceServicer_to_server(self, server)
        add_DataServiceServicer_to_server(self, server)
        return []

    def _arrive(self, rpc: str, request: Any, context: Any = None) -> None:
        self.calls[rpc].append(request)
        if context is not None:
            self.seconds[rpc].append(context.time_remaining())
        if self.failures[rpc]:
            raise self.failures[rpc].pop(0)

    async def _stream(self, rpc: str, request: Any, response: Any, outcome: Any, answer: Any) -> AsyncIterator[Any]:
        self._arrive(rpc, request)
        for index, item in enumerate(request.items):
            limit, error = self.break_after.get(rpc, (-1, None))
            if index == limit:
                del self.break_after[rpc]
                assert error is not None
                raise error
            if item.context:
                yield response(outcomes=[outcome(item_id=item.item_id, result=answer(item))])
            else:
                refused = InvalidArgumentError.of("context", "is empty")
                yield response(outcomes=[outcome(item_id=item.item_id, error=to_status(refused))])

    # Refinement

    async def Refine(self, request: Any, context: Any) -> refinement.RefineResponse:
        self._arrive("Refine", request)
        if not request.context:
            raise InvalidArgumentError.of("context", "is empty")
        return _refinements(request, request.sampling.n or 5)

    async def BatchRefine(self, request: Any, context: Any) -> AsyncIterator[Any]:
        async for response in self._stream(
            "BatchRefine",
            request,
            refinement.BatchRefineResponse,
            refinement.RefineOutcome,
            lambda item: _refinements(item, request.sampling.n or 5),
        ):
            yield response

    async def Generate(self, request: Any, context: Any) -> refinement.GenerateResponse:
        self._arrive("Generate", request)
        return refinement.GenerateResponse(outputs=_samples(request.context, request.sampling.n or 1))

    async def BatchGenerate(self, request: Any, context: Any) -> AsyncIterator[Any]:
        async for response in self._stream(
            "BatchGenerate",
            request,
            refinement.BatchGenerateResponse,
            refinement.GenerateOutcome,
            lambda item: refinement.GenerateResponse(outputs=_samples(item.context, 1)),
        ):
            yield response

    async def ScoreText(self, request: Any, context: Any) -> refinement.ScoreTextResponse:
        self._arrive("ScoreText", request)
        return refinement.ScoreTextResponse(logprob=-float(len(request.text)), token_count=len(request.text))

    async def BatchScoreText(self, request: Any, context: Any) -> AsyncIterator[Any]:
        async for response in self._stream(
            "BatchScoreText",
            request,
            refinement.BatchScoreTextResponse,
            refinement.ScoreTextOutcome,
            lambda item: refinement.ScoreTextResponse(logprob=-1.0, token_count=len(item.text)),
        ):
            yield response

    async def LoadPolicy(self, request: Any, context: Any) -> refinement.Policy:
        self._arrive("LoadPolicy", request)
        return refinement.Policy(name=request.name, uri=request.uri, state=refinement.POLICY_STATE_SERVING)

    async def GetPolicy(self, request: Any, context: Any) -> refinement.Policy:
        self._arrive("GetPolicy", request, context)
        return refinement.Policy(name=request.name, uri="runs/toy/it-1/checkpoint")

    async def ListPolicies(self, request: Any, context: Any) -> refinement.ListPoliciesResponse:
        self._arrive("ListPolicies", request)
        if not request.page_token:
            return refinement.ListPoliciesResponse(policies=[refinement.Policy(name="toy")], next_page_token="2")
        return refinement.ListPoliciesResponse(
            policies=[
                refinement.Policy(
                    name="toy/it-1",
                    kind=refinement.POLICY_KIND_ADAPTER,
                    state=refinement.POLICY_STATE_SERVING,
                    aliases=["production"],
                )
            ]
        )

    async def UnloadPolicy(self, request: Any, context: Any) -> refinement.UnloadPolicyResponse:
        self._arrive("UnloadPolicy", request)
        return refinement.UnloadPolicyResponse()

    async def PromotePolicy(self, request: Any, context: Any) -> refinement.PolicyAlias:
        self._arrive("PromotePolicy", request)
        return refinement.PolicyAlias(alias=request.alias, policy=request.name, previous_policy="toy")

    async def RollbackPolicy(self, request: Any, context: Any) -> refinement.PolicyAlias:
        self._arrive("RollbackPolicy", request)
        return refinement.PolicyAlias(alias=request.alias, policy="toy")

    # Ranking

    async def Rank(self, request: Any, context: Any) -> ranking.RankResponse:
        self._arrive("Rank", request)
        return _ranked(request.candidates, request.ranker.name)

    async def BatchRank(self, request: Any, context: Any) -> AsyncIterator[Any]:
        async for response in self._stream(
            "BatchRank",
            request,
            ranking.BatchRankResponse,
            ranking.RankOutcome,
            lambda item: _ranked(item.candidates, request.ranker.name),
        ):
            yield response

    async def Compare(self, request: Any, context: Any) -> Any:
        self._arrive("Compare", request)
        if isinstance(request, reward.CompareRequest):
            return reward.CompareResponse(probability_a=0.25, spread=0.1, model_probabilities=[0.25])
        return ranking.CompareResponse(probability_a=0.75, position_bias=0.1)

    async def BatchCompare(self, request: Any, context: Any) -> AsyncIterator[Any]:
        service: Any = reward if isinstance(request, reward.BatchCompareRequest) else ranking
        async for response in self._stream(
            "BatchCompare",
            request,
            service.BatchCompareResponse,
            service.CompareOutcome,
            lambda item: service.CompareResponse(probability_a=0.75),
        ):
            yield response

    async def ListRankers(self, request: Any, context: Any) -> ranking.ListRankersResponse:
        self._arrive("ListRankers", request)
        return ranking.ListRankersResponse(rankers=[ranking.Ranker(name="length", description="longest first")])

    # Reward

    async def Score(self, request: Any, context: Any) -> reward.ScoreResponse:
        self._arrive("Score", request)
        return reward.ScoreResponse(reward=1.5, token_count=3)

    async def BatchScore(self, request: Any, context: Any) -> AsyncIterator[Any]:
        async for response in self._stream(
            "BatchScore",
            request,
            reward.BatchScoreResponse,
            reward.ScoreOutcome,
            lambda item: reward.ScoreResponse(reward=float(len(item.output))),
        ):
            yield response

    async def EvaluateRewardModel(self, request: Any, context: Any) -> reward.EvaluateRewardModelResponse:
        self._arrive("EvaluateRewardModel", request)
        return reward.EvaluateRewardModelResponse(report=REWARD_REPORT)

    async def BestOfN(self, request: Any, context: Any) -> reward.BestOfNResponse:
        self._arrive("BestOfN", request)
        samples = _samples(request.context, request.sampling.n)
        rewards = [float(index) for index in range(len(samples))]
        return reward.BestOfNResponse(
            output=samples[-1].text, chosen_index=len(samples) - 1, samples=samples, rewards=rewards
        )

    async def TrainRewardModel(self, request: Any, context: Any) -> reward.TrainRewardModelResponse:
        self._arrive("TrainRewardModel", request)
        return reward.TrainRewardModelResponse(job="jobs/rm")

    async def LoadRewardModel(self, request: Any, context: Any) -> reward.RewardModel:
        self._arrive("LoadRewardModel", request)
        return reward.RewardModel(name=request.name, uri=request.uri)

    async def GetRewardModel(self, request: Any, context: Any) -> reward.RewardModel:
        self._arrive("GetRewardModel", request)
        report = REWARD_REPORT if request.name == "measured" else None
        return reward.RewardModel(
            name=request.name, loss=common_pb2.REWARD_LOSS_YES_NO, temperature=1.5, held_out=report
        )

    async def ListRewardModels(self, request: Any, context: Any) -> reward.ListRewardModelsResponse:
        self._arrive("ListRewardModels", request)
        return reward.ListRewardModelsResponse(reward_models=[reward.RewardModel(name="rm")])

    async def UnloadRewardModel(self, request: Any, context: Any) -> reward.UnloadRewardModelResponse:
        self._arrive("UnloadRewardModel", request)
        return reward.UnloadRewardModelResponse()

    # Finetune

    async def CreateFinetuneJob(self, request: Any, context: Any) -> finetune.FinetuneJob:
        self._arrive("CreateFinetuneJob", request)
        return self.jobs.setdefault(
            request.request_id,
            finetune.FinetuneJob(
                name=f"jobs/{len(self.jobs)}", spec=request.spec, state=finetune.FINETUNE_JOB_STATE_PENDING
            ),
        )

    async def GetFinetuneJob(self, request: Any, context: Any) -> finetune.FinetuneJob:
        self._arrive("GetFinetuneJob", request)
        for job in self.jobs.values():
            if job.name == request.name:
                return job
        raise NotFoundError(
            f"There is no job {request.name!r}.",
            resource_type="FinetuneJob",
            resource_name=request.name,
            reason="JOB_NOT_FOUND",
        )

    async def ListFinetuneJobs(self, request: Any, context: Any) -> finetune.ListFinetuneJobsResponse:
        self._arrive("ListFinetuneJobs", request)
        return finetune.ListFinetuneJobsResponse(finetune_jobs=self.jobs.values())

    async def CancelFinetuneJob(self, request: Any, context: Any) -> finetune.FinetuneJob:
        self._arrive("CancelFinetuneJob", request)
        return finetune.FinetuneJob(name=request.name, state=finetune.FINETUNE_JOB_STATE_CANCELLED)

    async def WatchFinetuneJob(self, request: Any, context: Any) -> AsyncIterator[finetune.WatchFinetuneJobResponse]:
        self._arrive("WatchFinetuneJob", request)
        for state in (finetune.FINETUNE_JOB_STATE_RUNNING, finetune.FINETUNE_JOB_STATE_SUCCEEDED):
            yield finetune.WatchFinetuneJobResponse(finetune_job=finetune.FinetuneJob(name=request.name, state=state))

    # Orchestrator

    async def CreateRun(self, request: Any, context: Any) -> orchestrator.Run:
        self._arrive("CreateRun", request)
        run = orchestrator.Run()
        run.CopyFrom(self.run)
        run.spec.CopyFrom(request.spec)
        if request.run_id:
            run.name = f"runs/{request.run_id}"
        return run

    async def GetRun(self, request: Any, context: Any) -> orchestrator.Run:
        self._arrive("GetRun", request)
        return self.run

    async def GetUpload(self, request: Any, context: Any) -> data.Upload:
        self._arrive("GetUpload", request)
        return data.Upload(name=request.name, sha256=request.sha256)

    async def UploadDataset(self, request_iterator: Any, context: Any) -> data.Upload:
        header = (await anext(request_iterator)).header
        self._arrive("UploadDataset", header)
        uri = f"datasets/{header.sha256}/{header.name}"
        self.uploads[uri] = b"".join([request.data async for request in request_iterator])
        return data.Upload(name=header.name, sha256=header.sha256, received_bytes=header.size_bytes, uri=uri)

    async def GetDirectory(self, request: Any, context: Any) -> data.Directory:
        self._arrive("GetDirectory", request, context)
        if request.uri not in self.directories:
            raise NotFoundError(
                "Nothing is published there.",
                resource_type="checkpoint",
                resource_name=request.uri,
                reason="CHECKPOINT_NOT_FOUND",
            )
        files = [
            data.DirectoryFile(path=path, size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
            for path, content in self.directories[request.uri].items()
        ]
        return data.Directory(uri=request.uri, files=files)

    async def DownloadFile(self, request: Any, context: Any) -> AsyncIterator[data.DownloadFileResponse]:
        self._arrive("DownloadFile", request, context)
        yield data.DownloadFileResponse(data=self.directories[request.uri][request.path][request.offset :])

    async def ListPools(self, request: Any, context: Any) -> orchestrator.ListPoolsResponse:
        self._arrive("ListPools", request)
        return orchestrator.ListPoolsResponse(pools=self.pools)

    async def ListRuns(self, request: Any, context: Any) -> orchestrator.ListRunsResponse:
        self._arrive("ListRuns", request)
        return orchestrator.ListRunsResponse(runs=[self.run])

    async def CancelRun(self, request: Any, context: Any) -> orchestrator.Run:
        self._arrive("CancelRun", request)
        return orchestrator.Run(name=request.name, state=orchestrator.RUN_STATE_CANCELLED)

    async def ResumeRun(self, request: Any, context: Any) -> orchestrator.Run:
        self._arrive("ResumeRun", request)
        return orchestrator.Run(name=request.name, state=orchestrator.RUN_STATE_RUNNING)

    async def WatchRun(self, request: Any, context: Any) -> AsyncIterator[orchestrator.WatchRunResponse]:
        self._arrive("WatchRun", request)
        limit, error = self.break_after.pop("WatchRun", (-1, None))
        for index, run in enumerate(self.run_history or [self.run]):
            if index == limit:
                assert error is not None
                raise error
            yield orchestrator.WatchRunResponse(run=run)

    async def ExplainRun(self, request: Any, context: Any) -> orchestrator.ExplainRunResponse:
        self._arrive("ExplainRun", request)
        return orchestrator.ExplainRunResponse(
            shards=[
                orchestrator.ShardExplanation(
                    iteration=1, stage="refine", key="abc", rows=4, outcome="reused", key_parts={"seed": "7"}
                )
            ]
        )

    async def ListSamples(self, request: Any, context: Any) -> orchestrator.ListSamplesResponse:
        self._arrive("ListSamples", request)
        return orchestrator.ListSamplesResponse(samples=self.samples)

    async def ListFeedbackTasks(self, request: Any, context: Any) -> orchestrator.ListFeedbackTasksResponse:
        self._arrive("ListFeedbackTasks", request)
        open_tasks = [task for task in self.tasks if task.state != orchestrator.TASK_STATE_DONE]
        return orchestrator.ListFeedbackTasksResponse(
            tasks=open_tasks[: max(1, request.page_size)] if request.annotator else self.tasks,
            progress=common_pb2.Progress(done=len(self.tasks) - len(open_tasks), total=len(self.tasks)),
        )

    async def SubmitFeedback(self, request: Any, context: Any) -> orchestrator.FeedbackTask:
        self._arrive("SubmitFeedback", request)
        task = next(task for task in self.tasks if task.name == request.name)
        task.state = orchestrator.TASK_STATE_DONE
        task.annotator = request.annotator
        task.feedback = request.feedback
        return task

    async def ListComparisonTasks(self, request: Any, context: Any) -> orchestrator.ListComparisonTasksResponse:
        self._arrive("ListComparisonTasks", request)
        open_pairs = [pair for pair in self.pairs if pair.state != orchestrator.TASK_STATE_DONE]
        pairs = open_pairs[: max(1, request.page_size)] if request.annotator else self.pairs
        return orchestrator.ListComparisonTasksResponse(tasks=pairs)

    async def SubmitComparison(self, request: Any, context: Any) -> orchestrator.ComparisonTask:
        self._arrive("SubmitComparison", request)
        pair = next(pair for pair in self.pairs if pair.name == request.name)
        pair.state = orchestrator.TASK_STATE_DONE
        pair.annotator = request.annotator
        pair.preference = request.preference
        return pair

    async def ListReviewTasks(self, request: Any, context: Any) -> orchestrator.ListReviewTasksResponse:
        self._arrive("ListReviewTasks", request)
        open_reviews = [task for task in self.reviews if task.state != orchestrator.TASK_STATE_DONE]
        tasks = open_reviews[: max(1, request.page_size)] if request.annotator else self.reviews
        return orchestrator.ListReviewTasksResponse(tasks=tasks)

    async def SubmitReview(self, request: Any, context: Any) -> orchestrator.ReviewTask:
        self._arrive("SubmitReview", request)
        review = next(task for task in self.reviews if task.name == request.name)
        review.state = orchestrator.TASK_STATE_DONE
        review.annotator = request.annotator
        review.verdict = request.verdict
        return review


def _samples(text: str, n: int) -> list[common_pb2.Sample]:
    return [common_pb2.Sample(text=f"{text} {index}", token_count=2, logprob=-0.5) for index in range(n)]


def _refinements(item: Any, n: int) -> refinement.RefineResponse:
    return refinement.RefineResponse(
        refinements=_samples(item.initial_output, n),
        usage=common_pb2.Usage(prompt_tokens=10, completion_tokens=2 * n),
        model_version="toy@1",
    )


def _ranked(candidates: Sequence[str], ranker: str) -> ranking.RankResponse:
    scores = [
        ranking.CandidateScore(
            score=float(len(text)), judge_scores=[ranking.JudgeScore(judge="judge_1", score=float(len(text)))]
        )
        for text in candidates
    ]
    best = max(range(len(scores)), key=lambda index: scores[index].score)
    return ranking.RankResponse(scores=scores, chosen_index=best, ranker=ranker)
