"""The synchronous client: the twin of `ilf_client.aio`, method by method."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from ilf_client._blocking import Blocking, LoopThread, Streaming, SyncNoun
from ilf_client._transport import Timeouts
from ilf_client.aio.client import AsyncClient
from ilf_client.aio.data import AsyncData
from ilf_client.aio.evaluation import AsyncEvaluation
from ilf_client.aio.jobs import AsyncJobs
from ilf_client.aio.policies import AsyncPolicies
from ilf_client.aio.reward import AsyncReward
from ilf_client.aio.runs import AsyncRuns
from ilf_client.aio.tasks import AsyncAnswers, AsyncComparisons, AsyncFeedback, AsyncReviews
from ilf_client.endpoints import Endpoints, Security
from ilf_common.rpc.client import RetryPolicy


class Policies(SyncNoun[AsyncPolicies]):
    """Load, list, promote and unload policy versions."""

    load = Blocking(AsyncPolicies.load)
    get = Blocking(AsyncPolicies.get)
    list = Streaming(AsyncPolicies.list)
    unload = Blocking(AsyncPolicies.unload)
    promote = Blocking(AsyncPolicies.promote)
    rollback = Blocking(AsyncPolicies.rollback)


class Reward(SyncNoun[AsyncReward]):
    """Train, load and ask reward models."""

    score = Blocking(AsyncReward.score)
    batch_score = Streaming(AsyncReward.batch_score)
    compare = Blocking(AsyncReward.compare)
    batch_compare = Streaming(AsyncReward.batch_compare)
    evaluate = Blocking(AsyncReward.evaluate)
    best_of_n = Blocking(AsyncReward.best_of_n)
    train = Blocking(AsyncReward.train)
    load = Blocking(AsyncReward.load)
    get = Blocking(AsyncReward.get)
    list = Streaming(AsyncReward.list)
    unload = Blocking(AsyncReward.unload)


class Jobs(SyncNoun[AsyncJobs]):
    """Create, watch and cancel finetune jobs."""

    create = Blocking(AsyncJobs.create)
    get = Blocking(AsyncJobs.get)
    list = Streaming(AsyncJobs.list)
    cancel = Blocking(AsyncJobs.cancel)
    watch = Streaming(AsyncJobs.watch)


class Runs(SyncNoun[AsyncRuns]):
    """Create, watch, cancel and resume runs of the loop."""

    create = Blocking(AsyncRuns.create)
    get = Blocking(AsyncRuns.get)
    list = Streaming(AsyncRuns.list)
    watch = Streaming(AsyncRuns.watch)
    cancel = Blocking(AsyncRuns.cancel)
    resume = Blocking(AsyncRuns.resume)
    explain = Streaming(AsyncRuns.explain)
    samples = Streaming(AsyncRuns.samples)
    sample_page = Blocking(AsyncRuns.sample_page)


class Feedback(SyncNoun[AsyncFeedback]):
    """Lease feedback tasks and answer them."""

    lease = Blocking(AsyncFeedback.lease)
    submit = Blocking(AsyncFeedback.submit)
    skip = Blocking(AsyncFeedback.skip)
    show = Streaming(AsyncFeedback.show)


class Comparisons(SyncNoun[AsyncComparisons]):
    """Lease comparison tasks and answer them."""

    lease = Blocking(AsyncComparisons.lease)
    submit = Blocking(AsyncComparisons.submit)
    skip = Blocking(AsyncComparisons.skip)
    show = Streaming(AsyncComparisons.show)


class Reviews(SyncNoun[AsyncReviews]):
    """Lease refinements and say whether they incorporate the feedback."""

    lease = Blocking(AsyncReviews.lease)
    submit = Blocking(AsyncReviews.submit)
    skip = Blocking(AsyncReviews.skip)
    show = Streaming(AsyncReviews.show)


class Answers(SyncNoun[AsyncAnswers]):
    """What annotators have answered."""

    latest = Blocking(AsyncAnswers.latest)
    progress = Blocking(AsyncAnswers.progress)
    agreement = Blocking(AsyncAnswers.agreement)


class Data(SyncNoun[AsyncData]):
    """Send datasets, fetch checkpoints."""

    push = Blocking(AsyncData.push)
    pull = Blocking(AsyncData.pull)
    describe = Blocking(AsyncData.describe)


class Evaluation(SyncNoun[AsyncEvaluation]):
    """Measure policies on datasets."""

    best_of_n = Blocking(AsyncEvaluation.best_of_n)
    evaluate = Blocking(AsyncEvaluation.evaluate)
    calibrate_judges = Blocking(AsyncEvaluation.calibrate_judges)
    compare_runs = Blocking(AsyncEvaluation.compare_runs)


class Client(SyncNoun[AsyncClient]):
    """All five services; arguments, attributes and errors as in `AsyncClient`. Safe to share among threads."""

    def __init__(
        self,
        endpoints: Endpoints | None = None,
        *,
        security: Security | None = None,
        timeouts: Timeouts | None = None,
        retry: RetryPolicy | None = None,
    ) -> None:
        twin = AsyncClient(endpoints, security=security, timeouts=timeouts, retry=retry)
        loop = LoopThread()
        super().__init__(twin, loop)
        self.policies = Policies(twin.policies, loop)
        self.reward = Reward(twin.reward, loop)
        self.jobs = Jobs(twin.jobs, loop)
        self.runs = Runs(twin.runs, loop)
        self.feedback = Feedback(twin.feedback, loop)
        self.comparisons = Comparisons(twin.comparisons, loop)
        self.reviews = Reviews(twin.reviews, loop)
        self.answers = Answers(twin.answers, loop)
        self.data = Data(twin.data, loop)
        self.evaluation = Evaluation(twin.evaluation, loop)

    refine = Blocking(AsyncClient.refine)
    batch_refine = Streaming(AsyncClient.batch_refine)
    generate = Blocking(AsyncClient.generate)
    batch_generate = Streaming(AsyncClient.batch_generate)
    score_text = Blocking(AsyncClient.score_text)
    batch_score_text = Streaming(AsyncClient.batch_score_text)
    rank = Blocking(AsyncClient.rank)
    batch_rank = Streaming(AsyncClient.batch_rank)
    compare = Blocking(AsyncClient.compare)
    batch_compare = Streaming(AsyncClient.batch_compare)
    rankers = Streaming(AsyncClient.rankers)
    pools = Streaming(AsyncClient.pools)

    def close(self) -> None:
        """Closes the connections and ends the background thread."""
        if not self._loop.is_stopped:
            self._loop.run(self._twin.close())
            self._loop.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
