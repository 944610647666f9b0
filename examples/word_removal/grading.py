"""The paper's word-removal table for any model: it is how a refiner is chosen (Scheurer et al. 2023, section 4.1).

A sentence lists 1 to 10 insults and a compliment; feedback asks for 1 to 3 of them to go. 27 cells of 50 prompts,
greedy, exact match.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import click

from examples.word_removal.measure import Share, format_table, share
from examples.word_removal.task import is_exact, make_table
from examples.word_removal.templates import load_template
from ilf_common.engine.build import build_engine
from ilf_common.engine.port import GenerateRequest, Sampling
from ilf_common.engine.settings import EngineSettings

_MAX_NEW_TOKENS = 64
"""Enough for the longest sentence in any tokenizer; the answer ends at a newline or the end of the sequence."""


def grade_refiners(models: Sequence[str], *, seed: int = 0, per_cell: int = 50) -> None:
    """Prints the table of each model, a directory or hub id, and a line each at the end."""
    totals = []
    for model in models:
        click.echo(f"{model}:")
        cells = asyncio.run(grade(model, seed=seed, per_cell=per_cell))
        click.echo(format_table(cells) + "\n")
        totals.append((model, _total(list(cells.values()))))
    for model, total in totals:
        click.echo(f"{total}  {model}")


async def grade(model: str, *, seed: int = 0, per_cell: int = 50) -> dict[tuple[int, int], Share]:
    """Greedy exact match of one model in each cell (insults, words to remove).

    Args:
        model: Directory or hub id.
        seed: Seed of the sentences.
        per_cell: Prompts of a cell.
    """
    items = make_table(seed, per_cell)
    template = load_template("refine")
    sampling = Sampling(n=1, temperature=0.0, top_p=1.0, max_new_tokens=_MAX_NEW_TOKENS, stop=("\n",))
    requests = [
        GenerateRequest(
            template.render(context=item.context, initial_output=item.initial_output, feedback=item.feedback),
            sampling,
            seed=seed,
        )
        for item in items
    ]
    engine = build_engine(model, EngineSettings())
    await engine.start()
    cells: dict[tuple[int, int], list[bool]] = {}
    try:
        async for outcome in engine.generate(requests):
            item = items[outcome.index]
            # A model that cannot take the prompt cannot do the task.
            text = outcome.value.samples[0].text if outcome.value else ""
            cells.setdefault((item.insults, item.named), []).append(is_exact(text, item.target))
    finally:
        await engine.stop()
    return {cell: share(outcomes) for cell, outcomes in sorted(cells.items())}


def _total(cells: Sequence[Share]) -> Share:
    count = sum(cell.count for cell in cells)
    value = sum(cell.value * cell.count for cell in cells) / count
    return Share(value, (value * (1 - value) / count) ** 0.5, count)
