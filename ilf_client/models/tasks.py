"""What people are asked: feedback on outputs, comparisons of two outputs, reviews of refinements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum

from ilf_client.models.runs import Progress

FLAGS = ("unclear", "harmful", "wrong_language", "other")
"""What an annotator may mark a task with, beside the answer."""


class TaskState(Enum):
    """Where a person's task is."""

    UNSPECIFIED = "unspecified"
    OPEN = "open"
    LEASED = "leased"
    DONE = "done"
    SKIPPED = "skipped"


class Preference(Enum):
    """Which of two outputs is better."""

    UNSPECIFIED = "unspecified"
    A = "a"
    B = "b"
    TIE = "tie"


class Verdict(Enum):
    """Whether a refinement incorporates the feedback."""

    UNSPECIFIED = "unspecified"
    YES = "yes"
    PARTLY = "partly"
    NO = "no"


@dataclass(frozen=True)
class FeedbackTask:
    """An initial output that a person is asked about (`runs/<id>/feedbackTasks/<task>`)."""

    name: str
    item_id: str
    context: str
    initial_output: str
    annotator: str = ""
    lease_expire_time: datetime | None = None
    state: TaskState = TaskState.UNSPECIFIED
    feedback: str = ""
    answer_time: datetime | None = None
    flags: Sequence[str] = ()
    guidelines: str = ""
    nothing_to_change: str = ""
    closed: bool = False
    iteration: int = 0


@dataclass(frozen=True)
class ComparisonTask:
    """Two outputs that a person is asked to compare (`runs/<id>/comparisonTasks/<task>`)."""

    name: str
    item_id: str
    context: str
    output_a: str
    output_b: str
    annotator: str = ""
    lease_expire_time: datetime | None = None
    state: TaskState = TaskState.UNSPECIFIED
    preference: Preference = Preference.UNSPECIFIED
    answer_time: datetime | None = None
    flags: Sequence[str] = ()
    guidelines: str = ""
    reason: str = ""
    candidate_a: int = 0
    candidate_b: int = 0
    iteration: int = 0


@dataclass(frozen=True)
class ReviewTask:
    """A chosen refinement that a person is asked about: is the feedback in it (`runs/<id>/reviewTasks/<task>`)."""

    name: str
    item_id: str
    context: str
    initial_output: str
    feedback: str
    refinement: str
    annotator: str = ""
    lease_expire_time: datetime | None = None
    state: TaskState = TaskState.UNSPECIFIED
    verdict: Verdict = Verdict.UNSPECIFIED
    answer_time: datetime | None = None
    flags: Sequence[str] = ()
    guidelines: str = ""
    iteration: int = 0
    candidate: int = 0


@dataclass(frozen=True)
class FeedbackTasks:
    """Tasks leased to the caller, and how many of all are done."""

    tasks: Sequence[FeedbackTask]
    progress: Progress = field(default_factory=Progress)


@dataclass(frozen=True)
class ComparisonTasks:
    """Tasks leased to the caller, and how many of all are done."""

    tasks: Sequence[ComparisonTask]
    progress: Progress = field(default_factory=Progress)


@dataclass(frozen=True)
class ReviewTasks:
    """Tasks leased to the caller, and how many of all are done."""

    tasks: Sequence[ReviewTask]
    progress: Progress = field(default_factory=Progress)


@dataclass(frozen=True)
class AnnotationProgress:
    """How much is done and left of each kind, and how fast an annotator answers.

    Attributes:
        feedback, comparison, review: Tasks that are made, of all people.
        answered: The annotator's own answers of all kinds.
        answered_last_day, answered_last_hour: Those of the last day and hour.
    """

    feedback: Progress = field(default_factory=Progress)
    comparison: Progress = field(default_factory=Progress)
    review: Progress = field(default_factory=Progress)
    answered: int = 0
    answered_last_day: int = 0
    answered_last_hour: int = 0


@dataclass(frozen=True)
class AnnotatorAgreement:
    """One annotator beside the others.

    Attributes:
        annotator: Who.
        share: Share of the others' labels on the same items that the annotator's own agree with.
        labels: How many labels of others there are on these items.
    """

    annotator: str
    share: float
    labels: int


@dataclass(frozen=True)
class LabelAgreement:
    """How far people agree on labels of one kind.

    Attributes:
        alpha: Krippendorff's alpha for nominal labels: 1 is perfect agreement, 0 what chance would give. None where
            nothing was labelled by two people, or everybody has always given the same label.
        items: Items that two or more people have labelled.
        annotators: People among them.
        by_annotator: Each beside the others, by name.
    """

    alpha: float | None = None
    items: int = 0
    annotators: int = 0
    by_annotator: Sequence[AnnotatorAgreement] = ()


@dataclass(frozen=True)
class AnnotationAgreement:
    """How far the annotators of a run, or of all runs, agree."""

    comparison: LabelAgreement = field(default_factory=LabelAgreement)
    review: LabelAgreement = field(default_factory=LabelAgreement)
