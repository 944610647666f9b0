"""The studies, each declared for a task and a size."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from examples.experiments import paper
from examples.experiments.sizes import Size
from examples.experiments.word_table import word_removal
from ilf_client.experiments.lab import Step
from ilf_client.experiments.measuring import (
    CEILING,
    ENSEMBLE,
    REWARD,
    Answered,
    BestAnswered,
    Choice,
    Chosen,
    Likelihood,
    Quality,
)
from ilf_client.experiments.refining import Refined, RefinedBlindly
from ilf_client.experiments.study import (
    INCORPORATED,
    NLL,
    SCORE,
    WIN_INITIAL,
    WIN_RANDOM,
    WIN_REFERENCE,
    Arm,
    Measured,
    PaperFigure,
    Place,
    Study,
)
from ilf_client.experiments.task import Task
from ilf_client.experiments.training import Looped, RewardTrained, SampleRewardTrained, Target, Tuned

_OWN_SAMPLES = f"{REWARD}, own samples"
"""The row of a reward model that learns on such refinements as it ranks, but on those of training contexts."""

_NLL_TARGETS = (Target.REFINEMENT, Target.REFERENCE, Target.INITIAL_OUTPUT)


def rankers(task: Task, size: Size) -> Study:
    """Who chooses best."""
    judges = [judge.name for judge in task.spec().rank.ranker.judges]
    rewards = [REWARD] if task.compares_samples else [REWARD, _OWN_SAMPLES]
    names = [ENSEMBLE, *judges, *rewards, "embedding", "length", "random", CEILING]

    def step(name: str, seed: int) -> Step:
        if name == _OWN_SAMPLES:
            return Chosen(_held_out(size, seed), REWARD, _sample_reward(task, size, seed))
        return Chosen(_held_out(size, seed), name, _reward(task, size, seed) if name == REWARD else None)

    return Study(
        name="rankers",
        question="Which ranker chooses the better refinement, against a random one of the same context?",
        arms=_arms(size, {name: _of(step, name) for name in names}),
        metrics=[WIN_RANDOM, SCORE],
        against={name: "random" for name in names if name != "random"},
        paper=paper.RANKERS,
        paper_metric="win rate, people, %",
    )


def refinement_quality(task: Task, size: Size) -> Study:
    """What feedback and the choice are worth."""

    def step(choice: Choice, seed: int) -> Step:
        blind = RefinedBlindly("dev", size.pool, seed) if choice is Choice.BLIND else None
        return Quality(_held_out(size, seed), choice, blind)

    random_one = Choice.RANDOM.label
    return Study(
        name="refinement-quality",
        question="Are refinements better with feedback than without, and the chosen ones better than random ones?",
        arms=_arms(size, {choice.label: _of(step, choice) for choice in Choice}),
        metrics=[WIN_INITIAL, WIN_REFERENCE, INCORPORATED],
        against={choice.label: random_one for choice in Choice if choice is not Choice.RANDOM},
        paper=paper.QUALITY,
        paper_metric="people, %",
    )


def targets(task: Task, size: Size) -> Study:
    """What to finetune on."""

    def step(cell: tuple[Target, int], seed: int) -> Step:
        return Answered(_tuned(size, cell[0], cell[1], seed), size.held_out, seed)

    cells = [(target, rows) for rows in size.rows for target in Target]
    return Study(
        name="targets",
        question="What is the policy best finetuned on, and with how much of it?",
        arms=_arms(size, {_cell(target, rows): _of(step, (target, rows)) for target, rows in cells}),
        metrics=[SCORE],
        against={
            _cell(target, rows): _cell(Target.REFINEMENT, rows)
            for target, rows in cells
            if target is not Target.REFINEMENT
        },
        paper={
            SCORE.name: _known(
                {
                    _cell(target, rows): paper.target_figure(target, place)
                    for place, rows in enumerate(size.rows[:3])
                    for target in Target
                }
            )
        },
        paper_metric=f"{paper.WIN_OVER_HUMAN}, at 100, 1K, 5K",
        places={_cell(target, rows): Place(target.label, rows) for target, rows in cells},
    )


def nll_scaling(task: Task, size: Size) -> Study:
    """How likelihood grows with data."""

    def step(cell: tuple[Target, int], seed: int) -> Step:
        return Likelihood(_tuned(size, cell[0], cell[1], seed), _held_out(size, seed))

    cells = [(target, rows) for target in _NLL_TARGETS for rows in size.rows]

    def notes(measured: Measured) -> list[str]:
        return [_slope(target, size, measured) for target in _NLL_TARGETS]

    return Study(
        name="nll-scaling",
        question="Is the NLL of held-out texts of a policy's own kind straight over its training size on log-log axes?",
        arms=_arms(size, {_cell(target, rows): _of(step, (target, rows)) for target, rows in cells}),
        metrics=[NLL],
        against={_cell(target, rows): _cell(target, size.rows[0]) for target, rows in cells if rows != size.rows[0]},
        paper={
            NLL.name: _known(
                {
                    _cell(target, rows): paper.nll_figure(target, place)
                    for target in _NLL_TARGETS
                    for place, rows in enumerate(size.rows[:3])
                }
            )
        },
        paper_metric="nats a token, at 100, 1K, 5K",
        places={_cell(target, rows): Place(target.label, rows) for target, rows in cells},
        notes=notes,
    )


def rounds(task: Task, size: Size) -> Study:
    """Whether a second round is worth its feedback."""
    total = size.rounds * size.round_rows
    policies: dict[str, Callable[[int], Looped]] = {
        f"one-shot, {size.round_rows} contexts": lambda seed: Looped(1, size.round_rows, seed),
        f"one-shot, {total} contexts": lambda seed: Looped(1, total, seed),
        f"union, {size.rounds} rounds": lambda seed: Looped(size.rounds, size.round_rows, seed),
        f"continue, {size.rounds} rounds": lambda seed: Looped(
            size.rounds, size.round_rows, seed, ("schedule=continue",)
        ),
    }
    one_shot = f"one-shot, {total} contexts"

    def step(name: str, seed: int) -> Step:
        return Answered(policies[name](seed), size.held_out, seed)

    return Study(
        name="rounds",
        question="Is feedback on a finetuned policy's outputs worth more than as much of it on the first policy's?",
        arms=_arms(size, {name: _of(step, name) for name in policies}),
        metrics=[SCORE],
        against={name: one_shot for name in policies if name != one_shot},
        paper=paper.ROUNDS,
        paper_metric="win over one-shot of the same size, %",
    )


def beta(task: Task, size: Size) -> Study:
    """How sharply to choose."""
    changes: dict[str, tuple[str, ...]] = {
        "argmax": (),
        "top 2": ("select.method=top_k", "select.k=2"),
        **{
            f"softmax, beta {value:g}" + (" (uniform)" if not value else ""): (
                "select.method=softmax",
                f"select.beta={value}",
            )
            for value in sorted(size.betas, reverse=True)
        },
    }

    def step(name: str, seed: int) -> Step:
        return Answered(Looped(1, size.round_rows, seed, changes[name]), size.held_out, seed)

    return Study(
        name="beta",
        question="How sharply should the best refinement be preferred, from argmax to all of them alike?",
        arms=_arms(size, {name: _of(step, name) for name in changes}),
        metrics=[SCORE],
        against={name: "argmax" for name in changes if name != "argmax"},
    )


def combined(task: Task, size: Size) -> Study:
    """Whether best-of-N adds to ILF; all rows but the greedy one are sampled as the task's run samples.

    As in the paper the reward model learns on comparisons of a model's own samples: those of the data, or else those of
    the refinements that ILF is trained on, by the task's score.
    """
    reward = _reward if task.compares_samples else _sample_reward
    learnt_on = "the data's samples" if task.compares_samples else "training contexts' refinements by the task's score"

    def ilf(seed: int) -> Tuned:
        return _tuned(size, Target.REFINEMENT, size.rows[-1], seed)

    def best(policy: Tuned | None, n: int, seed: int) -> Step:
        return BestAnswered(policy, reward(task, size, seed), n, size.held_out, seed)

    return Study(
        name="combined",
        question=(
            f"Do finetuning on refinements and best-of-{size.best_of} by a reward model add up? "
            f"The reward model learns on comparisons of {learnt_on}."
        ),
        arms=_arms(
            size,
            {
                "before any training": lambda seed: best(None, 1, seed),
                "before any training, best of N": lambda seed: best(None, size.best_of, seed),
                "ILF": lambda seed: best(ilf(seed), 1, seed),
                "ILF, best of N": lambda seed: best(ilf(seed), size.best_of, seed),
                "ILF, greedy": lambda seed: Answered(ilf(seed), size.held_out, seed),
            },
        ),
        metrics=[SCORE],
        against={
            "before any training": "ILF",
            "before any training, best of N": "before any training",
            "ILF, best of N": "ILF",
            "ILF, greedy": "ILF",
        },
        paper=paper.COMBINED,
        paper_metric=f"{paper.WIN_OVER_HUMAN}, N = 64",
    )


Builder = Callable[[Task, Size], Study]
STUDIES: dict[str, Builder] = {
    "word-removal": word_removal,
    "rankers": rankers,
    "refinement-quality": refinement_quality,
    "targets": targets,
    "nll-scaling": nll_scaling,
    "rounds": rounds,
    "beta": beta,
    "combined": combined,
}


def _held_out(size: Size, seed: int) -> Refined:
    return Refined("dev", size.pool, size.samples, seed)


def _reward(task: Task, size: Size, seed: int) -> RewardTrained:
    return RewardTrained(size.comparisons, seed, task.reward_hyperparameters)


def _sample_reward(task: Task, size: Size, seed: int) -> SampleRewardTrained:
    return SampleRewardTrained(_training(size, seed), size.comparisons, seed, task.reward_hyperparameters)


def _training(size: Size, seed: int) -> Refined:
    return Refined("train", size.rows[-1], size.samples, seed)


def _tuned(size: Size, target: Target, rows: int, seed: int) -> Tuned:
    return Tuned(_training(size, seed), target, rows, seed)


def _cell(target: Target, rows: int) -> str:
    return f"{target.label}, {rows}"


def _of(step: Callable[..., Step], first: object) -> Callable[[int], Step]:
    return lambda seed: step(first, seed)


def _arms(size: Size, rows: dict[str, Callable[[int], Step]]) -> list[Arm]:
    return [Arm(row, seed, step(seed)) for seed in range(size.seeds) for row, step in rows.items()]


def _known(figures: dict[str, PaperFigure | None]) -> dict[str, PaperFigure]:
    return {row: figure for row, figure in figures.items() if figure is not None}


def _slope(target: Target, size: Size, measured: Measured) -> str:
    """The slope of log NLL over log size by least squares, a point a seed and size."""
    points = list(_points(target, size, measured))
    if len(points) < 3 or len({x for x, _ in points}) < 2:
        return f"{target.label}: too few points for a slope"
    x, y = (np.array(values) for values in zip(*points, strict=True))
    centred = x - x.mean()
    slope = float(centred @ y / (centred @ centred))
    residuals = y - y.mean() - slope * centred
    error = float(np.sqrt(residuals @ residuals / (len(points) - 2) / (centred @ centred)))
    return (
        f"{target.label}: NLL goes as size to the power {slope:.3f} ± {error:.3f} ({len(points)} points; "
        f"residual deviation {float(residuals.std()):.3f} of log NLL)"
    )


def _points(target: Target, size: Size, measured: Measured) -> Iterator[tuple[float, float]]:
    for rows in size.rows:
        for values in measured.get(NLL.name, {}).get(_cell(target, rows), {}).values():
            yield float(np.log(rows)), float(np.log(np.mean(values)))
