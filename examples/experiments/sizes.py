"""How large the experiments are."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Size:
    """A size.

    Attributes:
        name: On the command line.
        seeds: Repetitions of every arm, each with contexts, samples and training of its own.
        rows: Training contexts of the policies that are compared, ascending.
        pool: Development contexts whose refinements are ranked, compared and scored.
        held_out: Test contexts that the policies are measured on.
        samples: Refinements of a context.
        round_rows: New contexts of a round, where rounds and selections are compared.
        rounds: Rounds.
        betas: Sharpness of the softmax selections; 0 weighs all refinements alike.
        best_of: N of best-of-N.
        comparisons: What a reward model is trained on.
        cell_prompts: Prompts in each of the word-removal table's 27 cells.
    """

    name: str
    seeds: int
    rows: tuple[int, ...]
    pool: int
    held_out: int
    samples: int
    round_rows: int
    rounds: int
    betas: tuple[float, ...]
    best_of: int
    comparisons: int
    cell_prompts: int


SIZES: dict[str, Size] = {
    size.name: size
    for size in (
        Size("smoke", 1, (8, 16), 16, 20, 3, 16, 2, (0.0, 8.0), 4, 64, 2),
        Size("small", 3, (30, 100, 300), 300, 300, 5, 100, 2, (0.0, 2.0, 8.0), 16, 1500, 50),
        Size("paper", 3, (100, 1000, 5000), 500, 698, 5, 100, 3, (0.0, 2.0, 8.0, 32.0), 64, 5000, 50),
    )
}
