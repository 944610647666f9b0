"""The toy model's training: a supervised phase, then rounds in which the judge meets the refiner's own samples."""

import random
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from statistics import fmean

import torch
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from examples.word_removal.corpus import (
    FULL,
    IGNORED,
    SKILLS,
    Batch,
    Collator,
    Difficulty,
    Example,
    draw_assignment,
    draw_example,
    judged_example,
)
from examples.word_removal.inference import Sampling, generate
from examples.word_removal.templates import load_template

Progress = Callable[[str], None]

_LEVELS: tuple[Difficulty, ...] = (
    Difficulty(max_insults=3, max_named=1, with_gaps=False, with_errors=False),
    Difficulty(max_insults=5, max_named=2, with_gaps=False, with_errors=False),
    Difficulty(max_insults=8, max_named=3, with_gaps=False, with_errors=False),
    Difficulty(max_insults=10, max_named=4, with_gaps=True, with_errors=False),
    FULL,
)
_LEVEL_WINDOW = 20
_LEVEL_LOSS = 0.12
# By which shares of the supervised steps a level ends though it is not learnt: a small model, too, has to meet what it
# is measured on while the learning rate is high. The first level has the longest, for without it nothing is learnt. The
# shipped model learns each in time (steps 167, 424, 715, 844).
_LATEST_ENDS = (0.3, 0.45, 0.55, 0.6)
_REPORT_EVERY = 50


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to train.

    Attributes:
        steps: Optimiser steps of the supervised phase.
        rounds: Rounds on the refiner's own samples.
        round_steps: Optimiser steps of each round.
        round_samples: Refinements drawn at the start of each round.
        batch_size: Sequences a step.
        learning_rate: Peak rate of the supervised phase; it falls to a tenth, at which the rounds go on.
        judge_weight: Weight of the judge's mean loss beside the other two skills'.
    """

    steps: int = 1500
    rounds: int = 2
    round_steps: int = 150
    round_samples: int = 2000
    batch_size: int = 32
    learning_rate: float = 2e-3
    judge_weight: float = 2.0


class Curriculum:
    """The levels of difficulty: the next one begins once the last is learnt, or when its time is over.

    Args:
        steps: Of the supervised phase.
    """

    def __init__(self, steps: int) -> None:
        self._latest = [round(share * steps) for share in _LATEST_ENDS]
        self._level, self._begun = 0, 0

    @property
    def difficulty(self) -> Difficulty:
        """Of the current level."""
        return _LEVELS[self._level]

    @property
    def title(self) -> str:
        """For people."""
        return f"difficulty {self._level + 1} of {len(_LEVELS)}"

    def advance(self, step: int, learnt: Callable[[], bool]) -> bool:
        """Begins the next level if its time has come; answers whether it has.

        Args:
            step: Of the supervised phase, from 0; never smaller than the last one.
            learnt: Whether the level is learnt; asked only after it has lasted for a while.
        """
        if self._level == len(_LEVELS) - 1:
            return False
        over = step >= self._latest[self._level]
        if not over and (step - self._begun < _LEVEL_WINDOW or not learnt()):
            return False
        self._level, self._begun = self._level + 1, step
        return True


def train(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    schedule: Schedule,
    seed: int,
    progress: Progress,
) -> None:
    """Trains a model in place on all three skills.

    Args:
        model: A causal language model, usually with random weights.
        tokenizer: Its tokenizer.
        schedule: How long and how fast.
        seed: Seed of all data.
        progress: Called with a line of text now and then.
    """
    rng = random.Random(seed)
    trainer = _Trainer(model, Collator(tokenizer), schedule, progress)
    trainer.run(_supervised(rng, trainer, schedule), schedule.steps)
    for number in range(schedule.rounds):
        samples = _own_samples(model, tokenizer, rng, schedule.round_samples, seed + number)
        right = sum(example.right for example in samples) / len(samples)
        progress(f"round {number + 1}: {len(samples)} samples of the refiner, {right:.3f} right")
        trainer.run(_mixed(rng, trainer, samples, schedule), schedule.round_steps)
    model.eval()


class _Trainer:
    def __init__(self, model: PreTrainedModel, collator: Collator, schedule: Schedule, progress: Progress) -> None:
        self._model = model
        self._collator = collator
        self._schedule = schedule
        self._progress = progress
        self._step = 0
        self._refine_losses: deque[float] = deque(maxlen=_LEVEL_WINDOW)
        self._optimizer = torch.optim.AdamW(
            model.parameters(), lr=schedule.learning_rate, betas=(0.9, 0.98), weight_decay=0.05
        )

    @property
    def judges(self) -> int:
        return len(self._collator.judges)

    def has_learnt_to_refine(self) -> bool:
        return fmean(self._refine_losses) < _LEVEL_LOSS

    def report(self, text: str) -> None:
        self._progress(f"step {self._step}: {text}")

    def run(self, batches: Iterator[Sequence[Example]], steps: int) -> None:
        self._model.train()
        start = time.monotonic()
        sums = dict.fromkeys(SKILLS, 0.0)
        for done in range(1, steps + 1):
            losses = self._one_step(self._collator.collate(next(batches)))
            for skill, loss in losses.items():
                sums[skill] += loss
            if done % _REPORT_EVERY == 0 or done == steps:
                count = done % _REPORT_EVERY or _REPORT_EVERY
                means = " ".join(f"{skill} {total / count:.3f}" for skill, total in sums.items())
                self._progress(f"step {self._step} ({(time.monotonic() - start) / done:.2f} s each): {means}")
                sums = dict.fromkeys(SKILLS, 0.0)
        self._model.eval()

    def _one_step(self, batch: Batch) -> dict[str, float]:
        for group in self._optimizer.param_groups:
            group["lr"] = _rate(self._step, self._schedule)
        logits = self._model(input_ids=batch.input_ids).logits
        losses = {skill: _loss(logits, labels) for skill, labels in batch.labels.items()}
        total = losses["echo"] + losses["refine"] + self._schedule.judge_weight * losses["judge"]
        torch.autograd.backward(total)
        torch.nn.utils.clip_grad_norm_(self._model.parameters(), 1.0)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self._step += 1
        values = {skill: loss.item() for skill, loss in losses.items()}
        self._refine_losses.append(values["refine"])
        return values


def _loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    chosen = labels != IGNORED
    if not chosen.any():
        return logits.new_zeros(())
    return cross_entropy(logits[chosen], labels[chosen])


def _rate(step: int, schedule: Schedule) -> float:
    """Linear warm-up over 100 steps, then linear decay to a tenth at the end of the supervised phase."""
    warm = min(1.0, (step + 1) / 100)
    left = max(0.0, 1 - step / schedule.steps)
    return schedule.learning_rate * warm * (0.1 + 0.9 * left)


def _supervised(rng: random.Random, trainer: _Trainer, schedule: Schedule) -> Iterator[list[Example]]:
    """Yields batches that get harder each time the refiner has learnt to refine the easier ones, or had its time."""
    curriculum = Curriculum(schedule.steps)
    for step in count():
        if curriculum.advance(step, trainer.has_learnt_to_refine):
            trainer.report(curriculum.title)
        yield [draw_example(rng, trainer.judges, curriculum.difficulty) for _ in range(schedule.batch_size)]


def _mixed(
    rng: random.Random, trainer: _Trainer, samples: Sequence[Example], schedule: Schedule
) -> Iterator[list[Example]]:
    """Yields batches of half the refiner's own samples and half fresh supervised examples."""
    half = schedule.batch_size // 2
    while True:
        yield [*rng.sample(samples, half), *(draw_example(rng, trainer.judges) for _ in range(half))]


def _own_samples(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, rng: random.Random, count: int, seed: int
) -> list[Example]:
    """Returns the refiner's own samples as examples for the judge; the refiner does not learn from them."""
    refine = load_template("refine")
    judges = len(Collator(tokenizer).judges)
    assignments = [draw_assignment(rng, "model") for _ in range(count)]
    prompts = [
        refine.render(context=item.context, initial_output=item.initial_output, feedback=item.feedback)
        for item in assignments
    ]
    texts = generate(model, tokenizer, prompts, Sampling(seed=seed))
    return [
        judged_example(rng, item, text, judges, learn_candidate=False)
        for item, text in zip(assignments, texts, strict=True)
    ]
