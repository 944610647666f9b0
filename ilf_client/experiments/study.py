"""What an experiment declares: its question, what is measured, its arms, and the paper's figures beside them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from ilf_client.experiments.lab import Step

Measured = Mapping[str, Mapping[str, Mapping[int, Sequence[float]]]]
"""Values of the items by metric name, row and seed."""


@dataclass(frozen=True)
class Metric:
    """Something that is measured on each item.

    Attributes:
        name: In records and tables.
        share: It is a share, of items that are between 0 and 1; shown in percent.
    """

    name: str
    share: bool = True


SCORE = Metric("score")
WIN_RANDOM = Metric("win against a random refinement")
WIN_INITIAL = Metric("win against the initial output")
WIN_REFERENCE = Metric("win against the reference")
INCORPORATED = Metric("feedback incorporated")
NLL = Metric("NLL, nats a token", share=False)


@dataclass(frozen=True)
class Arm:
    """One cell of the declared set: a row of the table, a seed, and the step that measures it."""

    row: str
    seed: int
    step: Step


@dataclass(frozen=True)
class PaperFigure:
    """A figure of the paper in percent or nats, its standard error, and its own `x` where it is a point of a line."""

    value: float
    standard_error: float
    x: float = 0.0


@dataclass(frozen=True)
class Place:
    """Where a row stands in a plot of lines over the number of training rows."""

    line: str
    x: float


@dataclass(frozen=True)
class Study:
    """An experiment, declared.

    Attributes:
        name: On the command line.
        question: What it asks, in a sentence.
        arms: All arms of all seeds.
        metrics: A table each.
        against: The row that each row is compared with, by row; one that is left out is compared with none.
        paper: The paper's figures by metric name and row.
        paper_metric: What the paper's figures measure, where it is something else than the metric.
        places: Rows that are drawn as points of lines instead of one below the other; all of them, or none.
        notes: Lines below the tables, from what was measured.
    """

    name: str
    question: str
    arms: Sequence[Arm]
    metrics: Sequence[Metric]
    against: Mapping[str, str] = field(default_factory=dict)
    paper: Mapping[str, Mapping[str, PaperFigure]] = field(default_factory=dict)
    paper_metric: str = ""
    places: Mapping[str, Place] = field(default_factory=dict)
    notes: Callable[[Measured], Sequence[str]] | None = None
