"""Figures of the paper with their standard errors, in percent where a share is meant.

Scheurer et al. 2023, "Training Language Models with Language Feedback at Scale" (arXiv 2303.16755), with the results
notebook that its authors published. People judged; win rates hold within one round of judging only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ilf_client.experiments.measuring import Choice
from ilf_client.experiments.study import INCORPORATED, SCORE, WIN_INITIAL, WIN_RANDOM, WIN_REFERENCE, PaperFigure
from ilf_client.experiments.training import Target

WIN_OVER_HUMAN = "win over human summaries, %"

WORD_REMOVAL = {
    "GPT-3 Ada": PaperFigure(1.2, 0.3),
    "GPT-3 Babbage": PaperFigure(1.7, 0.4),
    "GPT-3 Curie": PaperFigure(8.2, 0.7),
    "GPT-3 Davinci": PaperFigure(38.5, 1.3),
}
"""Exact match over all 27 cells, 1,350 prompts a model."""

RANKERS = {
    WIN_RANDOM.name: {
        "length": PaperFigure(65.0, 2.7),
        "reward_model": PaperFigure(63.3, 2.7),
        "ensemble": PaperFigure(56.0, 2.9),
        "judge_1": PaperFigure(55.0, 2.9),
        "judge_2": PaperFigure(58.0, 2.9),
        "judge_3": PaperFigure(56.5, 2.9),
        "judge_4": PaperFigure(55.8, 2.8),
        "judge_5": PaperFigure(50.0, 2.9),
        "embedding": PaperFigure(48.3, 2.9),
        "random": PaperFigure(50.0, 0.0),
    }
}
"""Development split, 200 posts; its judges ask other questions than the task's."""

QUALITY = {
    WIN_INITIAL.name: {
        Choice.REFERENCE.label: PaperFigure(83.2, 1.7),
        Choice.BEST.label: PaperFigure(69.1, 1.9),
        Choice.RANDOM.label: PaperFigure(63.9, 2.0),
        Choice.BLIND.label: PaperFigure(59.4, 2.1),
    },
    WIN_REFERENCE.name: {
        Choice.BEST.label: PaperFigure(30.3, 2.1),
        Choice.RANDOM.label: PaperFigure(30.6, 2.0),
        Choice.BLIND.label: PaperFigure(26.6, 2.0),
    },
    INCORPORATED.name: {
        Choice.REFERENCE.label: PaperFigure(74.0, 2.0),
        Choice.BEST.label: PaperFigure(57.4, 2.2),
        Choice.RANDOM.label: PaperFigure(49.6, 2.2),
        Choice.BLIND.label: PaperFigure(30.8, 2.0),
    },
}
"""Validation split, 500 posts."""

SIZES = (100, 1000, 5000)
"""Training rows of the paper's finetuned policies."""

_TARGETS: Mapping[Target, Sequence[tuple[float, float]]] = {
    Target.REFINEMENT: ((19.6, 1.5), (29.2, 1.7), (31.3, 1.7)),
    Target.REFERENCE: ((16.8, 1.4), (26.3, 1.7), (28.9, 1.7)),
    Target.INITIAL_OUTPUT: ((19.6, 1.5), (25.1, 1.6), (27.3, 1.7)),
}
_NLL: Mapping[Target, Sequence[float]] = {
    Target.REFERENCE: (1.461, 1.394, 1.314),
    Target.REFINEMENT: (1.115, 1.046, 0.967),
    Target.INITIAL_OUTPUT: (1.021, 0.938, 0.854),
}


def target_figure(target: Target, place: int) -> PaperFigure | None:
    """The win rate over human summaries at the first, second or third of `SIZES`.

    Feedback and refinement were judged in another round, and only at the last size; there ILF had 36.0 ± 1.8 and human
    summaries 35.4 ± 1.8.
    """
    if target is Target.FEEDBACK_AND_REFINEMENT:
        return PaperFigure(26.1, 1.7, SIZES[place]) if place == 2 else None
    return PaperFigure(*_TARGETS[target][place], SIZES[place]) if target in _TARGETS else None


def nll_figure(target: Target, place: int) -> PaperFigure:
    """The validation NLL at the first, second or third of `SIZES` (read off a plot, ± 0.005)."""
    return PaperFigure(_NLL[target][place], 0.0, SIZES[place])


COMBINED = {
    SCORE.name: {
        "before any training": PaperFigure(22.4, 0.9),
        "before any training, best of N": PaperFigure(45.1, 1.9),
        "ILF": PaperFigure(36.0, 1.8),
        "ILF, best of N": PaperFigure(50.8, 1.9),
    }
}
"""Second round of judging, 698 posts, N = 64; the zero-shot figure is the mean of three other rounds (n = 2,094)."""

ROUNDS = {
    SCORE.name: {
        "union, 2 rounds": PaperFigure(48.9, 1.9),
        "continue, 2 rounds": PaperFigure(49.4, 1.9),
        "union, 3 rounds": PaperFigure(55.6, 1.9),
        "continue, 3 rounds": PaperFigure(50.9, 1.9),
    }
}
"""Win rate against as many one-shot refinements, 100 contexts a round, 698 posts."""
