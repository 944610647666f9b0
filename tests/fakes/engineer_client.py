"""A client whose runs, jobs, policies and pools lie in memory: what the console's pages for engineers need."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

from ilf_client import (
    Candidate,
    CandidateScore,
    FieldViolation,
    FinetuneJob,
    FinetuneKind,
    FinetuneSpec,
    IlfError,
    InvalidArgumentError,
    JobProgress,
    JobState,
    JudgeScore,
    LossPoint,
    NotFoundError,
    Policy,
    PolicyAlias,
    PolicyKind,
    PolicyState,
    Pool,
    ReviewTask,
    Run,
    RunSample,
    RunSpec,
    RunState,
    SampleFilter,
    SampleOrder,
    SamplePage,
    TaskState,
    Verdict,
)
from ilf_client.models.comparison import ComparedMetric, RunComparison
from ilf_client.models.inference import Usage
from ilf_client.models.jobs import Condition
from ilf_client.models.runs import Iteration, Metric, Progress, StageState, StageStatus, Waiting
from ilf_client.models.specs import DatasetSpec, RefineStage, Schedule

NOW = datetime.now(UTC)
STAGES = ("generate", "feedback", "refine", "rank", "select", "finetune", "evaluate")


@dataclass
class FakeRuns:
    """Runs and their samples by (run, iteration); `fault` is raised by every call while it is set."""

    runs: dict[str, Run]
    rows: dict[tuple[str, int], list[RunSample]]
    fault: IlfError | None = None
    calls: list[tuple[str, Any]] = field(default_factory=list)
    created: dict[str, Run] = field(default_factory=dict)

    async def list(self, *, states: Sequence[RunState] = (), text: str = "") -> AsyncIterator[Run]:
        self._check("list", (tuple(states), text))
        for run in self.runs.values():
            if (not states or run.state in states) and text.lower() in f"{run.name} {run.policy}".lower():
                yield run

    async def get(self, name: str, *, timeout: float | None = None) -> Run:
        self._check("get", name)
        bare = name.removeprefix("runs/")
        if bare not in self.runs:
            raise NotFoundError(
                f"There is no run {bare!r}.", resource_type="run", resource_name=name, reason="RUN_NOT_FOUND"
            )
        return self.runs[bare]

    async def create(
        self, spec: RunSpec, *, run_id: str = "", validate_only: bool = False, request_id: str | None = None
    ) -> Run:
        self._check("validate" if validate_only else "create", spec)
        if not spec.policy:
            raise InvalidArgumentError(violations=[FieldViolation("spec.policy", "is missing; name a served model")])
        run = Run(f"runs/{run_id or 'made-by-the-server'}", replace(spec, shard_rows=256), RunState.PENDING)
        if not validate_only:
            self.created.setdefault(str(request_id), run)
            self.runs[run.name.removeprefix("runs/")] = run
        return run

    async def cancel(self, name: str) -> Run:
        return self._move("cancel", name, RunState.CANCELLED)

    async def resume(self, name: str) -> Run:
        return self._move("resume", name, RunState.RUNNING)

    async def sample_page(
        self,
        name: str,
        *,
        iteration: int,
        where: SampleFilter | None = None,
        order_by: SampleOrder = SampleOrder.DATASET,
        descending: bool = False,
        page_size: int = 0,
        page_token: str = "",
    ) -> SamplePage:
        self._check("sample_page", (name, iteration, where, order_by, descending, page_size, page_token))
        rows = [row for row in self.rows.get((name, iteration), []) if _fits(row, where or SampleFilter())]
        if order_by is SampleOrder.SCORE:
            rows.sort(key=_score, reverse=descending)
        start = int(page_token or 0)
        end = start + page_size
        return SamplePage(rows[start:end], str(end) if end < len(rows) else "", len(rows))

    def _move(self, what: str, name: str, state: RunState) -> Run:
        self._check(what, name)
        run = self.runs[name] = replace(self.runs[name], state=state)
        return run

    def _check(self, what: str, value: Any) -> None:
        self.calls.append((what, value))
        if self.fault is not None:
            raise self.fault


def _score(row: RunSample) -> float:
    return row.candidates[row.chosen_index].score.score if row.candidates else 0.0


def _fits(row: RunSample, where: SampleFilter) -> bool:
    texts = [row.context, row.initial_output, row.feedback, *(one.text for one in row.candidates)]
    return (
        (not where.text or any(where.text.lower() in text.lower() for text in texts))
        and (not where.item_ids or row.item_id in where.item_ids)
        and (where.failed is None or where.failed == (row.error is not None))
        and (where.min_score is None or _score(row) >= where.min_score)
        and (where.max_score is None or _score(row) <= where.max_score)
    )


@dataclass
class FakeJobs:
    """Jobs by id."""

    jobs: dict[str, FinetuneJob]
    fault: IlfError | None = None

    async def list(self) -> AsyncIterator[FinetuneJob]:
        self._check()
        for job in self.jobs.values():
            yield job

    async def get(self, name: str) -> FinetuneJob:
        self._check()
        return self.jobs[name]

    async def cancel(self, name: str) -> FinetuneJob:
        self.jobs[name] = replace(self.jobs[name], state=JobState.CANCELLED)
        return self.jobs[name]

    def _check(self) -> None:
        if self.fault is not None:
            raise self.fault


@dataclass
class FakePolicies:
    """Versions, and where aliases pointed before."""

    policies: dict[str, Policy]
    before: dict[str, str] = field(default_factory=dict)

    async def list(self) -> AsyncIterator[Policy]:
        for policy in self.policies.values():
            targets = {alias: self.before[alias] for alias in policy.aliases if self.before.get(alias)}
            yield replace(policy, rollback_targets=targets)

    async def promote(self, alias: str, name: str) -> PolicyAlias:
        before = next((policy.name for policy in self.policies.values() if alias in policy.aliases), "")
        self._point(alias, name)
        self.before[alias] = before
        return PolicyAlias(alias, name, before)

    async def rollback(self, alias: str) -> PolicyAlias:
        name = self.before.pop(alias)
        self._point(alias, name)
        return PolicyAlias(alias, name)

    def _point(self, alias: str, name: str) -> None:
        for key, policy in self.policies.items():
            others = tuple(one for one in policy.aliases if one != alias)
            self.policies[key] = replace(policy, aliases=(*others, alias) if key == name else others)


class FakeReviews:
    """Reviews that people have answered."""

    def __init__(self, reviews: Sequence[ReviewTask]) -> None:
        self.reviews = list(reviews)

    async def show(self, *, run: str = "runs/-") -> AsyncIterator[ReviewTask]:
        for review in self.reviews:
            yield review


class EngineerClient:
    """A run that goes on, one that failed, one that succeeded and its preview, with twelve samples an iteration.

    Args:
        text: Is put into every text of people and models that is shown.
    """

    def __init__(self, text: str = "") -> None:
        found = _runs(text)
        rows = {(f"runs/{run}", k): _samples(text, k) for run in ("words-1", "words-2") for k in (1, 2)}
        self.runs = FakeRuns({run.name.removeprefix("runs/"): run for run in found}, rows)
        self.jobs = FakeJobs({job.name.removeprefix("jobs/"): job for job in _jobs(text)})
        self.policies = FakePolicies({policy.name: policy for policy in _policies(text)})
        self.reviews = FakeReviews(_reviews(rows["runs/words-1", 1]))
        self.evaluation = SimpleNamespace(compare_runs=_compare_runs)
        self.pool_list = [
            Pool("refinement", 2, 1, f"240 rows wait {text}", NOW, 240, 200, 30, 10, 3.5, True, 45.0, True, 0, 4, True),
            Pool("ranking", 1, 0, "starting", NOW, 80, 80, 0, 0, 1.0, False, 60.0, False, 0, 2, False),
        ]

    async def pools(self) -> AsyncIterator[Pool]:
        for pool in self.pool_list:
            yield pool

    async def __aenter__(self) -> EngineerClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None


async def _compare_runs(first: str, second: str, **iterations: int) -> RunComparison:
    one, other = Metric(0.61, 0.03, 300), Metric(0.66, 0.03, 300)
    metrics = [ComparedMetric("exact_match", one, other), ComparedMetric("nll", None, other)]
    return RunComparison(first, second, iterations["first_iteration"], iterations["second_iteration"], metrics)


def _stages(done: int, rows: int = 120) -> list[StageStatus]:
    """The first `done` stages are finished, the next runs."""
    found = []
    for k, stage in enumerate(STAGES):
        state = StageState.SUCCEEDED if k < done else StageState.RUNNING if k == done else StageState.PENDING
        start = NOW - timedelta(minutes=60 - 5 * k)
        share = {StageState.SUCCEEDED: rows, StageState.RUNNING: rows // 3}.get(state, 0)
        begun = None if state is StageState.PENDING else start
        ended = start + timedelta(minutes=4) if state is StageState.SUCCEEDED else None
        usage = Usage(90_000, 12_000) if stage in ("generate", "refine") and begun else Usage()
        found.append(StageStatus(stage, state, Progress(share, rows), int(k == 2), begun, ended, usage))
    return found


def _iteration(index: int, done: int, exact: float) -> Iteration:
    finished = done == len(STAGES)
    metrics: Mapping[str, Metric] = {}
    if finished:
        metrics = {"exact_match": Metric(exact, 0.03, 300), "nll": Metric(2.5 - exact, 0.05, 300)}
    policy = f"words-1/it-{index}" if finished and index else "tiny"
    return Iteration(index, _stages(done), metrics, policy, finetune_job="jobs/train-1" if done > 4 and index else "")


def _runs(text: str) -> list[Run]:
    spec = RunSpec(
        DatasetSpec("store://train.jsonl", test_uri="store://test.jsonl"),
        iterations=2,
        policy="tiny",
        schedule=Schedule.CONTINUE,
        seed=7,
        refine=RefineStage(refiner="tiny"),
    )
    zero = Iteration(
        0, [_stages(7)[-1]], {"exact_match": Metric(0.02, 0.01, 300), "nll": Metric(2.6, 0.05, 300)}, "tiny"
    )
    waiting = Waiting("SERVICE_UNAVAILABLE", f"ranking does not answer {text}", NOW - timedelta(minutes=2))
    error = InvalidArgumentError(f"41 of 120 rows failed {text}", reason="TOO_MANY_BAD_ROWS")
    made = {"create_time": NOW - timedelta(hours=2), "policy": "words-1/it-1"}
    return [
        Run(
            "runs/words-2", spec, RunState.WAITING, waiting, None,
            [zero, _iteration(1, 7, 0.58), _iteration(2, 3, 0)], **made,
        ),
        Run(
            "runs/words-1", spec, RunState.SUCCEEDED, None, None,
            [zero, _iteration(1, 7, 0.6), _iteration(2, 7, 0.65)], end_time=NOW - timedelta(hours=1), **made,
        ),
        Run("runs/broken", spec, RunState.FAILED, None, error, [zero, _iteration(1, 2, 0)], end_time=NOW, **made),
        Run(
            "runs/look", replace(spec, preview_rows=20, contexts_per_iteration=500), RunState.SUCCEEDED, None, None,
            [Iteration(1, _stages(4, 20))], end_time=NOW, **made,
        ),
    ]  # fmt: skip


def _samples(text: str, iteration: int) -> list[RunSample]:
    rows = []
    for k in range(12):
        insults = ["bossy", "cranky", "nosy"]
        before = f"You are a {' '.join(insults)} kind person, and I like number {k}. {text}".strip()
        candidates = []
        for j in range(5):
            after = before.replace(f"{insults[j % 3]} ", "") if j < 4 else before + " Thank you."
            score = min(0.98, 0.15 * j + 0.03 * k + 0.05 * iteration)
            judges = [JudgeScore(f"judge {n}", min(1.0, max(0.0, score + 0.04 * (n - 2))), 0.08) for n in range(4)]
            candidates.append(Candidate(after, CandidateScore(score, judges, 0.045 + 0.01 * k, 0.08), float(j == 3)))
        rows.append(
            RunSample(f"item-{k}", f"Repeat this: {before}", before, f"Remove bossy and nosy. {text}", candidates, 3)
        )
    failed = InvalidArgumentError(f"the prompt is too long {text}", reason="PROMPT_TOO_LONG")
    rows[5] = RunSample("item-5", rows[5].context, error=failed, failed_stage="refine")
    return rows


LOSSES = (LossPoint(10, 2.5), LossPoint(20, 2.0), LossPoint(30, 1.5))


def _jobs(text: str) -> list[FinetuneJob]:
    spec = FinetuneSpec(FinetuneKind.SFT, "tiny", "store://data", "store://checkpoint")
    running = JobProgress(40, 200, 1.234, 5200.0, timedelta(minutes=3), NOW, {"train_loss": 1.5}, LOSSES)
    conditions = [Condition("Running", "Started", f"on one GPU {text}", NOW)]
    return [
        FinetuneJob(
            "jobs/train-1", spec, JobState.RUNNING, running, create_time=NOW, conditions=conditions, attempts=1
        ),
        FinetuneJob("jobs/train-0", spec, JobState.SUCCEEDED, replace(running, step=200, loss=0.7), create_time=NOW),
    ]


def _policies(text: str) -> list[Policy]:
    made = {"kind": PolicyKind.CHECKPOINT, "state": PolicyState.SERVING, "digest": "ab" * 32, "load_time": NOW}
    return [
        Policy("tiny", uri="models/tiny", **made),  # type: ignore[arg-type]
        Policy("words-1/it-1", uri="runs/words-1/it-1/checkpoint", aliases=("production",), **made),  # type: ignore[arg-type]
        Policy("words-1/it-2", uri="runs/words-1/it-2/checkpoint", **made),  # type: ignore[arg-type]
        Policy("gone/it-3", state=PolicyState.FAILED, failure=f"the checkpoint is gone {text}"),
    ]


def _reviews(rows: Sequence[RunSample]) -> list[ReviewTask]:
    verdicts = [Verdict.NO, Verdict.PARTLY, Verdict.YES]
    return [
        ReviewTask(
            f"runs/words-1/reviewTasks/{k}", row.item_id, row.context, row.initial_output, row.feedback, "…", "Ada",
            state=TaskState.DONE, verdict=verdicts[min(2, k // 3)], iteration=1, candidate=3,
        )
        for k, row in enumerate(rows) if row.error is None
    ]  # fmt: skip
