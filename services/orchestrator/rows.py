"""Rows on their way through the stages, and which columns of them each stage's shards hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ilf_common.errors import IlfError

INPUT = "input"
"""Name of the shards that hold what the dataset says about an iteration's items."""

Column = list[Any]


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a row is bad: the stage that failed, the error's class, reason and message."""

    stage: str
    kind: str
    reason: str
    message: str

    @classmethod
    def of(cls, stage: str, error: IlfError) -> Failure:
        """The failure of a row in a stage."""
        return cls(stage, type(error).__name__, error.reason, error.message)


@dataclass(frozen=True, slots=True)
class Score:
    """A refinement's score; `judges` are (name, score, missing mass)."""

    score: float
    spread: float = 0.0
    missing_mass: float = 0.0
    judges: tuple[tuple[str, float, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """One item. What later stages add is empty before them.

    Attributes:
        item_id: Unique in its split.
        nothing_to_change: The feedback asks for no change.
        refinements: Candidates; the initial output itself where it is kept.
        scores: One a refinement.
        weights: One a refinement; they sum to 1 where the row is trained on.
        chosen_index: The refinement with the highest score, -1 where there is none.
        exact: The plugin's score of each refinement, where there is a plugin.
        output: Evaluation: what the policy answers to the context.
        win: Evaluation: 1, 0.5 or 0 against the initial policy's output.
        best_output: Evaluation: the best of N samples by reward models.
        best_reward: Evaluation: what the reward models say of it.
        best_exact_match: Evaluation: the plugin's score of it, where there is a plugin.
        failure: Set where the row is bad; no stage touches it any more.
    """

    item_id: str
    context: str = ""
    initial_output: str | None = None
    feedback: str | None = None
    reference: str | None = None
    nothing_to_change: bool = False
    refinements: tuple[str, ...] = ()
    scores: tuple[Score, ...] = ()
    weights: tuple[float, ...] = ()
    chosen_index: int = -1
    exact: tuple[float, ...] = ()
    output: str | None = None
    output_tokens: int | None = None
    exact_match: float | None = None
    nll: float | None = None
    nll_tokens: int | None = None
    win: float | None = None
    best_output: str | None = None
    best_reward: float | None = None
    best_exact_match: float | None = None
    failure: Failure | None = None

    def failed(self, stage: str, error: IlfError) -> Row:
        """The row as bad."""
        return replace(self, failure=Failure.of(stage, error))


COLUMNS: Mapping[str, tuple[str, ...]] = {
    INPUT: ("item_id", "context", "initial_output", "feedback", "reference"),
    "generate": ("item_id", "initial_output"),
    "feedback": ("item_id", "feedback", "nothing_to_change"),
    "refine": ("item_id", "refinements"),
    "rank": ("item_id", "scores"),
    "select": ("item_id", "chosen_index", "weights", "exact"),
    "evaluate": (
        "item_id",
        "output",
        "output_tokens",
        "exact_match",
        "nll",
        "nll_tokens",
        "win",
        "best_output",
        "best_reward",
        "best_exact_match",
    ),
}
"""The fields that a stage's shards hold, beside those of the failure."""

FAILURE_COLUMNS = ("failed_stage", "error_kind", "error_reason", "error_message")


def to_columns(stage: str, rows: Sequence[Row]) -> dict[str, Column]:
    """The columns of a stage's shard, one value a row."""
    columns: dict[str, Column] = {name: [getattr(row, name) for row in rows] for name in COLUMNS[stage]}
    if "scores" in columns:
        columns["scores"] = [[_plain_score(score) for score in scores] for scores in columns["scores"]]
    failures = [row.failure for row in rows]
    columns["failed_stage"] = [failure and failure.stage for failure in failures]
    columns["error_kind"] = [failure and failure.kind for failure in failures]
    columns["error_reason"] = [failure and failure.reason for failure in failures]
    columns["error_message"] = [failure and failure.message for failure in failures]
    return columns


def with_columns(stage: str, rows: Sequence[Row] | None, columns: Mapping[str, Column]) -> list[Row]:
    """Rows with what a stage's shard says about them; without rows, new ones (of the input).

    Raises:
        ValueError: The shard is about other rows.
    """
    ids = columns["item_id"]
    if rows is not None and [row.item_id for row in rows] != ids:
        raise ValueError(f"the {stage} shard holds other rows than the shard before it")
    # A shard of an earlier release lacks the columns that came later.
    names = [name for name in COLUMNS[stage][1:] if name in columns]
    result = []
    for index, item_id in enumerate(ids):
        values = {name: _value(name, columns[name][index]) for name in names}
        failure = _failure(columns, index)
        row = Row(item_id) if rows is None else rows[index]
        result.append(replace(row, **values, failure=failure))
    return result


def _value(name: str, value: Any) -> Any:
    if name == "scores":
        return tuple(
            Score(
                score["score"],
                score["spread"],
                score["missing_mass"],
                tuple((judge["name"], judge["score"], judge["missing_mass"]) for judge in score["judges"]),
            )
            for score in value
        )
    if name == "context":
        return value or ""
    return tuple(value) if isinstance(value, list) else value


def _plain_score(score: Score) -> dict[str, Any]:
    judges = [{"name": name, "score": value, "missing_mass": missing} for name, value, missing in score.judges]
    return {"score": score.score, "spread": score.spread, "missing_mass": score.missing_mass, "judges": judges}


def _failure(columns: Mapping[str, Column], index: int) -> Failure | None:
    stage = columns["failed_stage"][index]
    if stage is None:
        return None
    return Failure(
        stage,
        columns["error_kind"][index],
        columns["error_reason"][index],
        columns["error_message"][index],
    )
