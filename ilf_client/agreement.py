"""How far annotators agree on comparisons and reviews that several of them have done."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping

from ilf_client.models.tasks import (
    AnnotatorAgreement,
    ComparisonTask,
    LabelAgreement,
    Preference,
    ReviewTask,
    TaskState,
)
from ilf_common.statistics.agreement import agreement_with_others, krippendorff_alpha

_Unit = tuple[str, int, str]


def comparison_agreement(tasks: Iterable[ComparisonTask]) -> LabelAgreement:
    """Of comparisons: people may have seen a pair in different orders, and agree where they prefer the same text."""
    return _agreement((task, _preferred(task)) for task in tasks if task.state is TaskState.DONE)


def review_agreement(tasks: Iterable[ReviewTask]) -> LabelAgreement:
    """Of reviews: yes, partly and no are three labels without an order."""
    return _agreement((task, task.verdict) for task in tasks if task.state is TaskState.DONE)


def _preferred(task: ComparisonTask) -> str:
    """The text that was preferred; empty for a tie."""
    return {Preference.A: task.output_a, Preference.B: task.output_b}.get(task.preference, "")


def _agreement(labelled: Iterable[tuple[ComparisonTask | ReviewTask, Hashable]]) -> LabelAgreement:
    units: dict[_Unit, dict[str, Hashable]] = defaultdict(dict)
    for task, label in labelled:
        units[(task.name.rsplit("/", 2)[0], task.iteration, task.item_id)][task.annotator] = label
    several: list[Mapping[str, Hashable]] = [unit for unit in units.values() if len(unit) > 1]
    people = [
        AnnotatorAgreement(annotator, agreed / compared, compared)
        for annotator, (agreed, compared) in agreement_with_others(several).items()
    ]
    alpha = krippendorff_alpha([list(unit.values()) for unit in several])
    return LabelAgreement(alpha, len(several), len(people), people)
