"""How often judges put a right refinement above a wrong one, for both shipped sets of templates and the demo's own.

`python -m benchmarks.judge_accuracy` asks one model (the shipped word-removal model, or `--model` with any causal
language model) about word-removal items: the right refinement stands beside the unchanged output, one with a named
word left in, and one with a word too many gone. The judging code is that of the ranking service, without Ray.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import examples.word_removal
from benchmarks.recording import print_table, record
from examples.word_removal.task import TableItem, make_sentence, make_table, sentence_words
from ilf_common.engine.build import build_engine
from ilf_common.engine.port import Outcome
from ilf_common.engine.settings import EngineSettings
from ilf_common.templates import PromptTemplate, load_templates
from services.ranking.ensemble import Ensemble
from services.ranking.judging import JudgeModel
from services.ranking.models import AnswerLogprobs, CandidateScore, Judge, Question, RankItem
from services.ranking.wiring import TEMPLATES

EXAMPLE = Path(examples.word_removal.__file__).parent


class OneModel:
    """A `JudgePool` of one model in this process."""

    def __init__(self, model: JudgeModel) -> None:
        self._model = model

    async def answer(
        self, model: str, questions: Sequence[Question], timeout: float | None
    ) -> Sequence[Outcome[AnswerLogprobs]]:
        """Asks the model."""
        return await self._model.answer(questions)


async def main() -> None:
    """Measures and writes down."""
    arguments = _arguments()
    engine = build_engine(arguments.model, EngineSettings(kind=arguments.engine))
    await engine.start()
    items = [rank_item(number, item) for number, item in enumerate(make_table(per_cell=arguments.per_cell))]
    ensemble = Ensemble(OneModel(JudgeModel(engine)))
    try:
        rows = [
            await measure(ensemble, items, "prefix", load_templates(TEMPLATES / "prefix")),
            await measure(ensemble, items, "paper", load_templates(TEMPLATES / "paper")),
            await measure(ensemble, items, "word removal", demo_judges()),
        ]
    finally:
        await engine.stop()
    print_table(rows)
    if arguments.record:
        record("judge_accuracy", [{"model": arguments.name, **row} for row in rows], packages=("torch", "transformers"))


async def measure(
    ensemble: Ensemble, items: Sequence[RankItem], name: str, templates: Mapping[str, PromptTemplate]
) -> dict[str, Any]:
    """One row: shares of pairs and of items that are right, each with its standard error."""
    judges = [Judge(template.name, "model", template) for template in templates.values()]
    outcomes = await ensemble.rank(items, judges, None)
    scores: list[tuple[CandidateScore, ...]] = []
    for outcome in outcomes:
        if outcome.value is None:
            raise outcome.error or RuntimeError("no answer")
        scores.append(outcome.value)
    # The right candidate stands first, so ties must not count for it.
    pairs = [
        1.0 if right.score > wrong.score else 0.5 if right.score == wrong.score else 0.0
        for right, *others in scores
        for wrong in others
    ]
    chosen = [float(right.score > max(other.score for other in others)) for right, *others in scores]
    missing = sum(one.missing_mass for row in scores for one in row) / sum(map(len, scores))
    return {
        "templates": name,
        "right above wrong": _share(pairs),
        "right one chosen": _share(chosen),
        "chance": f"{100 * sum(1 / len(row) for row in scores) / len(scores):.0f} %",
        "missing mass": round(missing, 3),
    }


def rank_item(number: int, item: TableItem) -> RankItem:
    """The right refinement first, then different wrong ones."""
    generator = random.Random(number)
    words = sentence_words(item.initial_output)
    kept = sentence_words(item.target)
    named = [word for word in words if word not in kept]
    left = generator.choice(named)
    wrong = [item.initial_output, make_sentence([word for word in words if word in kept or word == left])]
    gone = generator.choice(kept)
    wrong.append(make_sentence([word for word in kept if word != gone]))
    return RankItem(
        str(number),
        item.context,
        item.initial_output,
        item.feedback,
        (item.target, *dict.fromkeys(wrong)),
    )


def demo_judges() -> dict[str, PromptTemplate]:
    """The judges that the word-removal model was trained for."""
    templates = load_templates(EXAMPLE / "templates")
    return {name: template for name, template in templates.items() if name.startswith("judge_")}


def _share(values: Sequence[float]) -> str:
    mean = sum(values) / len(values)
    error = (sum((value - mean) ** 2 for value in values) / len(values) / (len(values) - 1)) ** 0.5
    return f"{100 * mean:.1f} ± {100 * error:.1f} %"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(EXAMPLE / "model"), help="directory or hub id")
    parser.add_argument("--name", default="word-removal model", help="what the model is called in the results")
    parser.add_argument("--engine", choices=("auto", "transformers", "vllm"), default="transformers")
    parser.add_argument("--per-cell", type=int, default=5, help="items in each of the 27 cells of the table")
    parser.add_argument("--no-record", dest="record", action="store_false")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
