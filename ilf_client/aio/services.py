"""The five services behind one object, without what is built upon them."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from ilf_client._transport import Timeouts, Transport
from ilf_client.aio.data import AsyncData
from ilf_client.aio.inference import AsyncInference
from ilf_client.aio.jobs import AsyncJobs
from ilf_client.aio.policies import AsyncPolicies
from ilf_client.aio.pools import AsyncPools
from ilf_client.aio.ranking import AsyncRanking
from ilf_client.aio.reward import AsyncReward
from ilf_client.aio.runs import AsyncRuns
from ilf_client.aio.tasks import AsyncAnswers, AsyncComparisons, AsyncFeedback, AsyncReviews
from ilf_client.endpoints import Endpoints, Security
from ilf_common.rpc.client import RetryPolicy


class AsyncServices(AsyncInference, AsyncRanking, AsyncPools):
    """All five services, asynchronously.

    Calls repeat while a service is UNAVAILABLE, always with the same request_id, until their deadline. Errors are the
    classes of `ilf_common.errors`, with `reason` and, for wrong input, `violations`.

    Args:
        endpoints: Where the services are; None reads the environment, then takes this machine's default ports.
        security: TLS and token files; None reads the environment.
        timeouts: Seconds after which calls are given up.
        retry: How calls are repeated.

    Attributes:
        policies: Versions of the policy.
        reward: Reward models.
        jobs: Finetune jobs.
        runs: Runs of the loop.
        feedback: Feedback tasks of people.
        comparisons: Comparison tasks of people.
        reviews: Reviews of refinements by people.
        answers: What people have answered.
        data: Files to and from the artifact store.
    """

    def __init__(
        self,
        endpoints: Endpoints | None = None,
        *,
        security: Security | None = None,
        timeouts: Timeouts | None = None,
        retry: RetryPolicy | None = None,
    ) -> None:
        self._transport = Transport(
            endpoints or Endpoints.from_environment(),
            security or Security.from_environment(),
            timeouts or Timeouts(),
            retry or RetryPolicy(),
        )
        self.policies = AsyncPolicies(self._transport)
        self.reward = AsyncReward(self._transport)
        self.jobs = AsyncJobs(self._transport)
        self.runs = AsyncRuns(self._transport)
        self.feedback = AsyncFeedback(self._transport)
        self.comparisons = AsyncComparisons(self._transport)
        self.reviews = AsyncReviews(self._transport)
        self.answers = AsyncAnswers(self._transport)
        self.data = AsyncData(self._transport)

    async def close(self) -> None:
        """Closes the connections."""
        await self._transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()
