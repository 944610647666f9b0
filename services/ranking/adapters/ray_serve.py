"""The Ray Serve application: one deployment per judge model, one for embeddings, and the ensemble that calls them."""

from __future__ import annotations

import asyncio
import logging
import math
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar, cast

from ilf_common.engine.port import Outcome
from ilf_common.errors import FailedPreconditionError, UnavailableError
from services.ranking.adapters.ray_serve_cluster import RayCluster
from services.ranking.models import CandidateScore, CompareItem, Comparison, Judge, RankItem
from services.ranking.settings import EmbeddingSettings, JudgeModelSettings, RankingSettings

ValueT = TypeVar("ValueT")

_PING_SECONDS = 10.0
# Our front logs every call already.
_LOGGING = {"enable_access_log": False, "log_level": "WARNING"}


class RayServeModels:
    """`JudgeEnsemble` and `Embedder` by one Serve application; also starts and stops it.

    Args:
        settings: Models, and where they run.
    """

    def __init__(self, settings: RankingSettings) -> None:
        self._settings = settings
        self._cluster = RayCluster(settings.ray, settings.state_dir)
        # Ray's processes die with the thread that started them, and only the main thread has its SIGTERM handler
        # replaced: both want a thread of its own that stays.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ray")
        self._handle: Any = None

    async def start(self) -> None:
        """Starts or joins Ray and loads all models.

        Raises:
            FailedPreconditionError: MODELS_NOT_LOADED; a model cannot be loaded. The log has Serve's reason.
            UnavailableError: The cluster to join does not answer.
        """
        try:
            self._handle = await self._in_thread(self._deploy)
        finally:
            _take_back_signals()

    async def stop(self) -> None:
        """Ends the application, and an own cluster with it."""
        self._handle = None
        await self._in_thread(self._remove)
        self._thread.shutdown(wait=False)

    async def check_health(self) -> None:
        """Raises `UnavailableError` while the ensemble does not answer."""
        from services.ranking.adapters.ray_serve_calls import call

        await call(self._ready.ping, timeout=_PING_SECONDS)

    async def rank(
        self, items: Sequence[RankItem], judges: Sequence[Judge], timeout: float | None
    ) -> list[Outcome[tuple[CandidateScore, ...]]]:
        """See `JudgeEnsemble.rank`."""
        outcomes: list[Outcome[tuple[CandidateScore, ...]]]
        outcomes = await self._ask(self._ready.rank, items, judges, timeout)
        return outcomes

    async def compare(
        self, items: Sequence[CompareItem], judges: Sequence[Judge], timeout: float | None
    ) -> list[Outcome[Comparison]]:
        """See `JudgeEnsemble.compare`."""
        outcomes: list[Outcome[Comparison]] = await self._ask(self._ready.compare, items, judges, timeout)
        return outcomes

    async def similarities(
        self, groups: Sequence[tuple[str, tuple[str, ...]]], timeout: float | None
    ) -> Sequence[tuple[float, ...]]:
        """See `Embedder.similarities`."""
        from services.ranking.adapters.ray_serve_calls import call
        from services.ranking.adapters.ray_serve_outcomes import unpack

        seconds = self._seconds(timeout)
        (outcome,) = unpack([await call(self._ready.similarities, groups, seconds, timeout=seconds)])
        if outcome.error is not None:
            raise outcome.error
        return cast("list[tuple[float, ...]]", outcome.value)

    async def _ask(self, method: Any, items: Any, judges: Any, timeout: float | None) -> Any:
        from services.ranking.adapters.ray_serve_calls import call
        from services.ranking.adapters.ray_serve_outcomes import unpack

        seconds = self._seconds(timeout)
        return unpack(await call(method, items, judges, seconds, timeout=seconds))

    def _seconds(self, timeout: float | None) -> float:
        longest = self._settings.ray.call_timeout_seconds
        return longest if timeout is None else min(timeout, longest)

    @property
    def _ready(self) -> Any:
        if self._handle is None:
            raise UnavailableError("The models are not loaded yet.", reason="ENGINE_UNAVAILABLE", retry_after=2.0)
        return self._handle

    async def _in_thread(self, work: Callable[[], ValueT]) -> ValueT:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _deploy(self) -> Any:
        self._cluster.start()
        import ray
        from ray import serve

        logging.getLogger("ray.serve").setLevel(logging.ERROR)
        # Our own front answers gRPC; without a proxy no HTTP port is opened that another service could have.
        serve.start(proxy_location="Disabled")
        name = self._settings.ray.app_name
        try:
            gpus = ray.cluster_resources().get("GPU", 0.0)
            handle = serve.run(build_application(self._settings, gpus), name=name, route_prefix=None)
        except RuntimeError as error:
            raise FailedPreconditionError(
                f"Serve could not load the models; its reason: {_reason(serve.status(), name)}",
                reason="MODELS_NOT_LOADED",
            ) from error
        self._cluster.note_processes()
        return handle

    def _remove(self) -> None:
        import ray

        if self._settings.ray.address is not None and ray.is_initialized():
            from ray import serve

            serve.delete(self._settings.ray.app_name)
        self._cluster.stop()


def build_application(settings: RankingSettings, gpus: float) -> Any:
    """The application, whose ingress is the ensemble.

    Args:
        settings: The models.
        gpus: GPUs of the cluster, for models that do not say how many they want.
    """
    from ray import serve

    from services.ranking.adapters.ray_serve_replicas import EmbeddingReplica, EnsembleReplica, JudgeReplica

    share = _share(settings, gpus)

    def judge(name: str, model: JudgeModelSettings) -> Any:
        return serve.deployment(
            JudgeReplica,
            name=f"judge-{name}",
            num_replicas=model.replicas,
            max_ongoing_requests=model.max_ongoing_calls,
            ray_actor_options={"num_cpus": 0, "num_gpus": share if model.gpus is None else model.gpus},
            logging_config=_LOGGING,
            health_check_period_s=5,
            health_check_timeout_s=60,
            graceful_shutdown_timeout_s=5,
        ).bind(model)

    def embedding(model: EmbeddingSettings) -> Any:
        return serve.deployment(
            EmbeddingReplica,
            name="embedding",
            num_replicas=model.replicas,
            max_ongoing_requests=32,
            ray_actor_options={"num_cpus": 0, "num_gpus": share if model.gpus is None else model.gpus},
            logging_config=_LOGGING,
            graceful_shutdown_timeout_s=5,
        ).bind(model)

    ensemble = serve.deployment(
        EnsembleReplica,
        name="ensemble",
        # It only waits and averages: what bounds the work is the judges' own limit.
        max_ongoing_requests=1024,
        ray_actor_options={"num_cpus": 0},
        logging_config=_LOGGING,
        graceful_shutdown_timeout_s=5,
    )
    judges = {name: judge(name, model) for name, model in settings.models.items()}
    return ensemble.bind(judges, embedding(settings.embedding) if settings.embedding.enabled else None)


def _share(settings: RankingSettings, gpus: float) -> float:
    """What each copy gets when all GPUs are shared out; whole GPUs, or hundredths of one."""
    copies = sum(model.replicas for model in settings.models.values())
    copies += settings.embedding.replicas if settings.embedding.enabled else 0
    return float(min(1.0, math.floor(100 * gpus / max(1, copies)) / 100))


def _take_back_signals() -> None:
    """Puts this process's own handlers in front again; Ray's would print a stack at every orderly stop."""
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.getsignal(number))


def _reason(status: Any, app_name: str) -> str:
    """The messages of the deployments that failed, which hold no request: none was made yet."""
    app = status.applications.get(app_name)
    if app is None:
        return "the application is gone"
    messages = [f"{name}: {one.message}" for name, one in app.deployments.items() if one.status != "HEALTHY"]
    return "; ".join(messages) or app.message
