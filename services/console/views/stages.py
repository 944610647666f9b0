"""A run as its page shows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from ilf_client.humanize import between, duration
from ilf_client.models.inference import Usage
from ilf_client.models.runs import Iteration, Run, StageState
from ilf_client.stages import StageCost, rate, remaining, rows_of_whole_run, speed_text, stage_cost

_KINDS = {
    "succeeded": "good",
    "serving": "good",
    "running": "busy",
    "loading": "busy",
    "waiting": "warn",
    "draining": "warn",
    "cancelled": "warn",
    "failed": "bad",
}


def badge_kind(state: Enum) -> str:
    """How a state is coloured: "good", "busy", "warn", "bad", or "" for neutral."""
    return _KINDS.get(str(state.value), "")


@dataclass(frozen=True)
class StageRow:
    """A stage in words.

    Attributes:
        stage: Its name.
        state: Where it is.
        done, total: Rows.
        bad: Rows that failed.
        rate: Rows a second; empty where unknown.
        left: Time that it still needs; empty where unknown.
        took: Time since it began, or that it took.
        tokens: Prompt and new tokens.
    """

    stage: str
    state: StageState
    done: int
    total: int
    bad: int
    rate: str
    left: str
    took: str
    tokens: int


def stage_rows(iteration: Iteration) -> list[StageRow]:
    """The stages of an iteration in their order."""
    return [
        StageRow(
            stage.stage,
            stage.state,
            stage.progress.done,
            stage.progress.total,
            stage.bad_rows,
            speed_text(rate(stage)),
            duration(left) if (left := remaining(stage)) is not None else "",
            between(stage.start_time, stage.end_time),
            stage.usage.prompt_tokens + stage.usage.completion_tokens,
        )
        for stage in iteration.stages
    ]


def usage_of(iterations: Sequence[Iteration]) -> Usage:
    """Tokens of all stages together."""
    spent = [stage.usage for iteration in iterations for stage in iteration.stages]
    return Usage(sum(usage.prompt_tokens for usage in spent), sum(usage.completion_tokens for usage in spent))


def preview_costs(run: Run, training_rows: int | None) -> list[StageCost]:
    """What the stages of a preview took, and what they would take for the whole run; empty for whole runs.

    Args:
        run: The preview.
        training_rows: Rows of the training set, where known.
    """
    worked = [iteration for iteration in run.iterations if any(s.stage == "refine" for s in iteration.stages)]
    if not run.spec.preview_rows or not worked:
        return []
    whole = rows_of_whole_run(run.spec, training_rows)
    return [stage_cost(stage, whole) for stage in worked[-1].stages if stage.progress.done]
