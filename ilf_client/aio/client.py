"""The asynchronous client."""

from __future__ import annotations

from functools import cached_property

from ilf_client.aio.evaluation import AsyncEvaluation
from ilf_client.aio.services import AsyncServices


class AsyncClient(AsyncServices):
    """All five services, asynchronously, and evaluation upon them.

    Arguments, behaviour and the other attributes are those of `AsyncServices`.
    """

    @cached_property
    def evaluation(self) -> AsyncEvaluation:
        """Best-of-N, comparisons and measures over datasets."""
        return AsyncEvaluation(self)
