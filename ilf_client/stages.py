"""How far the stages of a run are, and what they cost."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from ilf_client.humanize import between, duration, since
from ilf_client.models.runs import Run, StageState, StageStatus
from ilf_client.models.specs import RunSpec


@dataclass(frozen=True)
class StageCost:
    """What one stage took for the preview, and what it would take for all rows (None: their number is not known)."""

    stage: str
    rows: int
    seconds: float
    prompt_tokens: int
    completion_tokens: int
    expected_seconds: float | None
    expected_tokens: int | None


def rate(stage: StageStatus) -> float:
    """Rows a second so far."""
    if stage.start_time is None or not stage.progress.done:
        return 0.0
    seconds = ((stage.end_time or datetime.now(UTC)) - stage.start_time).total_seconds()
    return stage.progress.done / seconds if seconds > 0 else 0.0


def speed_text(speed: float) -> str:
    """`3.5/s`, or `4.2/min` where that says more; empty for none."""
    if not speed:
        return ""
    return f"{speed:,.1f}/s" if speed >= 0.5 else f"{60 * speed:,.1f}/min"


def remaining(stage: StageStatus) -> float | None:
    """Seconds that a running stage still needs at its rate."""
    speed = rate(stage)
    if stage.state is not StageState.RUNNING or not speed:
        return None
    return max(0, stage.progress.total - stage.progress.done) / speed


def waiting_line(run: Run) -> str:
    """What the run waits for, and since when."""
    if run.waiting is None:
        return ""
    text = f"waiting for {since(run.waiting.since) or 'now'}: {run.waiting.reason}"
    return f"{text} ({run.waiting.message})" if run.waiting.message else text


def stage_cells(stage: StageStatus) -> list[str]:
    """State, rows, bad rows, rate, time left and time taken of a stage, as texts."""
    speed, left = rate(stage), remaining(stage)
    return [
        stage.state.value,
        f"{stage.progress.done}/{stage.progress.total}" if stage.progress.total else "",
        str(stage.bad_rows or ""),
        speed_text(speed),
        "" if left is None else duration(left),
        between(stage.start_time, stage.end_time),
    ]


def newest_refined(run: Run) -> int:
    """The newest iteration with refinements; 1 where there is none."""
    refined = [i.index for i in run.iterations if any(s.stage == "refine" and s.progress.done for s in i.stages)]
    return refined[-1] if refined else 1


def rows_of_whole_run(spec: RunSpec, training_rows: int | None) -> int | None:
    """Contexts that go through the stages of a whole run, over all iterations."""
    iterations = max(1, spec.iterations)
    if spec.contexts_per_iteration:
        return spec.contexts_per_iteration * iterations
    if training_rows is None:
        return None
    return training_rows * iterations if spec.reuse_contexts else training_rows


def stage_cost(stage: StageStatus, whole: int | None) -> StageCost:
    """Scales a previewed stage up to the whole run."""
    started, ended = stage.start_time, stage.end_time
    seconds = (ended - started).total_seconds() if started and ended else 0.0
    tokens = stage.usage.prompt_tokens + stage.usage.completion_tokens
    scale = None if whole is None or not stage.progress.done else whole / stage.progress.done
    return StageCost(
        stage.stage,
        stage.progress.done,
        seconds,
        stage.usage.prompt_tokens,
        stage.usage.completion_tokens,
        None if scale is None else seconds * scale,
        None if scale is None else round(tokens * scale),
    )
