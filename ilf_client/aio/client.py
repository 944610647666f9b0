"""The asynchronous client."""

from __future__ import annotations

from ilf_client._transport import Timeouts
from ilf_client.aio.evaluation import AsyncEvaluation
from ilf_client.aio.services import AsyncServices
from ilf_client.endpoints import Endpoints, Security
from ilf_common.rpc.client import RetryPolicy


class AsyncClient(AsyncServices):
    """All five services, asynchronously, and evaluation upon them.

    Arguments, behaviour and the other attributes are those of `AsyncServices`.

    Attributes:
        evaluation: Best-of-N, comparisons and measures over datasets.
    """

    def __init__(
        self,
        endpoints: Endpoints | None = None,
        *,
        security: Security | None = None,
        timeouts: Timeouts | None = None,
        retry: RetryPolicy | None = None,
    ) -> None:
        super().__init__(endpoints, security=security, timeouts=timeouts, retry=retry)
        self.evaluation = AsyncEvaluation(self)
