"""Measures what a model of the toy task can do: `python -m examples.word_removal.measure MODEL`.

Everything is measured on sentences that occur in no training: the dev split for the skills, the test split for the
table.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import sqrt
from pathlib import Path
from statistics import fmean

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from examples.word_removal.data import make_contexts
from examples.word_removal.inference import Sampling, generate, judge_scores
from examples.word_removal.program import feedback, target
from examples.word_removal.task import context_sentence, is_exact, make_table
from examples.word_removal.templates import load_judges, load_template


@dataclass(frozen=True)
class Share:
    """A share with its standard error.

    Attributes:
        value: The share, between 0 and 1.
        error: Its standard error.
        count: How many cases it was measured on.
    """

    value: float
    error: float
    count: int

    def __str__(self) -> str:
        return f"{100 * self.value:.1f} ± {100 * self.error:.1f} % (n = {self.count})"


@dataclass(frozen=True)
class Skills:
    """What a model can do on held-out contexts of the loop.

    Attributes:
        echo: Sampled answers to the context alone that repeat the sentence.
        refine: Sampled refinements that are right.
        refine_greedy: Greedy refinements that are right.
        judge: Balanced accuracy of the ensemble of judges on the sampled refinements, at a threshold of one half.
        judges: The same for each judge alone.
        random_pick: Right refinements if one of each context's is picked at random.
        best_pick: Right refinements if the ensemble picks.
        any_right: Contexts that have a right refinement to pick.
    """

    echo: Share
    refine: Share
    refine_greedy: Share
    judge: Share
    judges: tuple[Share, ...]
    random_pick: Share
    best_pick: Share
    any_right: Share


def share(outcomes: Sequence[bool | float]) -> Share:
    """Returns the mean of outcomes between 0 and 1; without any it is 0 with an error of 0."""
    if not outcomes:
        return Share(0.0, 0.0, 0)
    mean = fmean(outcomes)
    variance = fmean((outcome - mean) ** 2 for outcome in outcomes)
    return Share(mean, sqrt(variance / len(outcomes)), len(outcomes))


def balanced_accuracy(verdicts: Sequence[bool], truths: Sequence[bool]) -> Share:
    """Returns the mean of the accuracies on right and on wrong cases.

    Raises:
        ValueError: All cases are right, or all are wrong.
    """
    sides = [share([v == t for v, t in zip(verdicts, truths, strict=True) if t == side]) for side in (True, False)]
    if not all(side.count for side in sides):
        raise ValueError("balanced accuracy needs right and wrong cases")
    error = sqrt(sum(side.error**2 for side in sides)) / 2
    return Share(fmean(side.value for side in sides), error, len(truths))


def measure_skills(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, contexts: Sequence[str], samples: int = 5, seed: int = 0
) -> Skills:
    """Measures echo, refining and judging on contexts of the loop, as the loop uses the model.

    Args:
        model: The model, in evaluation mode.
        tokenizer: Its tokenizer.
        contexts: Held-out contexts.
        samples: Refinements a context.
        seed: Seed of the samples.
    """
    policy, refine = load_template("policy"), load_template("refine")
    echoes = generate(model, tokenizer, [policy.render(context=c) for c in contexts], Sampling(seed=seed))
    items = [
        {"context": c, "initial_output": context_sentence(c), "feedback": feedback(c, context_sentence(c))}
        for c in contexts
    ]
    prompts = [refine.render(**item) for item in items]
    greedy = generate(model, tokenizer, prompts)
    repeated = [prompt for prompt in prompts for _ in range(samples)]
    candidates = generate(model, tokenizer, repeated, Sampling(seed=seed + 1))
    truths = [is_exact(text, target(contexts[index // samples])) for index, text in enumerate(candidates)]
    rows = [{**items[index // samples], "candidate": text} for index, text in enumerate(candidates)]
    scores = [judge_scores(model, tokenizer, judge, [judge.render(**row) for row in rows]) for judge in load_judges()]
    means = [fmean(row) for row in zip(*scores, strict=True)]
    groups = [range(start, start + samples) for start in range(0, len(candidates), samples)]
    return Skills(
        echo=share([is_exact(text, context_sentence(c)) for text, c in zip(echoes, contexts, strict=True)]),
        refine=share(truths),
        refine_greedy=share([is_exact(text, target(c)) for text, c in zip(greedy, contexts, strict=True)]),
        judge=balanced_accuracy([mean > 0.5 for mean in means], truths),
        judges=tuple(balanced_accuracy([score > 0.5 for score in row], truths) for row in scores),
        random_pick=share([fmean(truths[index] for index in group) for group in groups]),
        best_pick=share([truths[max(group, key=means.__getitem__)] for group in groups]),
        any_right=share([any(truths[index] for index in group) for group in groups]),
    )


def measure_table(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, seed: int = 0, per_cell: int = 50
) -> dict[tuple[int, int], Share]:
    """Returns the greedy exact match of each cell (k insults, m named) of the word-removal table."""
    refine = load_template("refine")
    items = make_table(seed, per_cell)
    prompts = [
        refine.render(context=item.context, initial_output=item.initial_output, feedback=item.feedback)
        for item in items
    ]
    cells: dict[tuple[int, int], list[bool]] = {}
    for item, text in zip(items, generate(model, tokenizer, prompts), strict=True):
        cells.setdefault((item.insults, item.named), []).append(is_exact(text, item.target))
    return {cell: share(outcomes) for cell, outcomes in cells.items()}


def format_skills(skills: Skills) -> str:
    """Returns the skills as lines of text."""
    lines = [
        f"echo, sampled                      {skills.echo}",
        f"refinement, sampled                {skills.refine}",
        f"refinement, greedy                 {skills.refine_greedy}",
        f"judges together, balanced accuracy {skills.judge}",
        *(f"judge {number}, balanced accuracy         {one}" for number, one in enumerate(skills.judges, start=1)),
        f"picked at random, right            {skills.random_pick}",
        f"picked by the judges, right        {skills.best_pick}",
        f"any sample right                   {skills.any_right}",
    ]
    return "\n".join(lines)


def format_table(cells: dict[tuple[int, int], Share]) -> str:
    """Returns the table as lines of text: a row for each number of insults, a column for each number of named words."""
    columns = sorted({named for _, named in cells})
    lines = ["insults  " + "  ".join(f"remove {named}" for named in columns)]
    for insults in sorted({insults for insults, _ in cells}):
        shown = [cells.get((insults, named)) for named in columns]
        lines.append(
            f"{insults:7}  " + "  ".join(f"{100 * cell.value:7.0f} %"[-8:] if cell else " " * 8 for cell in shown)
        )
    outcomes = sum(cell.value * cell.count for cell in cells.values()) / sum(cell.count for cell in cells.values())
    return "\n".join([*lines, f"all cells: {100 * outcomes:.1f} %"])


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(prog="python -m examples.word_removal.measure", description=__doc__)
    parser.add_argument("model", type=Path, help="the model's directory")
    parser.add_argument("--contexts", type=int, default=400, help="held-out contexts (default: 400)")
    parser.add_argument("--seed", type=int, default=0, help="seed of contexts and samples (default: 0)")
    parser.add_argument("--table", action="store_true", help="measure the word-removal table too (1,350 prompts)")
    parser.add_argument("--json", type=Path, help="write the figures into this file too")
    parser.add_argument("--threads", type=int, default=1, help="threads that torch may use (default: 1)")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    tokenizer = AutoTokenizer.from_pretrained(options.model, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32).eval()
    skills = measure_skills(model, tokenizer, make_contexts("dev", options.contexts, options.seed), seed=options.seed)
    print(format_skills(skills))
    figures: dict[str, object] = {"skills": asdict(skills)}
    if options.table:
        cells = measure_table(model, tokenizer, options.seed)
        print(format_table(cells))
        figures["table"] = [{"insults": k, "named": m, **asdict(cell)} for (k, m), cell in cells.items()]
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
