"""The word-removal table measures all prompts, and apart those whose feedback names no word that models leave in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, cast

from examples.experiments.word_removal import WordRemoval
from examples.experiments.word_table import EXACT, UNPLANTED, Graded
from examples.word_removal.task import RELUCTANT_WORDS, is_exact, remove_words, words_of
from ilf_client import AsyncClient
from ilf_client.experiments.lab import Lab, Shelf
from ilf_client.models.inference import Outcome, RefineItem, RefineResult, Sample, Usage


class Refiner:
    """Removes what the feedback names, but never a reluctant word."""

    async def batch_refine(
        self, model: str, items: Sequence[RefineItem], **options: Any
    ) -> AsyncIterator[Outcome[RefineResult]]:
        assert model == "word-removal-s"
        for item in reversed(items):
            text = remove_words(item.initial_output, set(words_of(item.feedback)) - RELUCTANT_WORDS)
            yield Outcome(item.item_id, RefineResult([Sample(text)], Usage(), "s@1"))


async def test_the_planted_error_counts_in_all_cells_and_not_where_it_is_not_due(tmp_path: Path) -> None:
    lab = Lab(cast(AsyncClient, Refiner()), Shelf(WordRemoval(), {}, tmp_path), say=print)
    step = Graded("s", "weights", 4, 0)
    values = (await lab.get(step))["values"]
    unplanted = [item for item in step.prompts() if not any(word in item.feedback for word in RELUCTANT_WORDS)]
    assert values[UNPLANTED.name] == [1.0] * len(unplanted)
    assert sum(values[EXACT.name]) == len(unplanted) < len(values[EXACT.name]) == 27 * 4
    assert all(is_exact(item.target, remove_words(item.initial_output, words_of(item.feedback))) for item in unplanted)
