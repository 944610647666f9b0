"""Writes the loop's contexts as JSONL files: `python -m examples.word_removal.data --output DIR`."""

import argparse
import json
import random
from collections.abc import Sequence
from pathlib import Path

from examples.word_removal.program import HIDDEN_WORDS
from examples.word_removal.task import Split, draw_sentences, make_context, sentence_words

LOOP_INSULTS = range(4, 9)
"""How many insults a context of the loop may list: enough that sentences practically never repeat."""

LOOP_HIDDEN = range(1, 4)
"""How many of them may be on the hidden list; without any there would be nothing to learn from."""

_MAX_DRAWS_PER_CONTEXT = 1000


def make_contexts(split: Split, count: int, seed: int = 0) -> list[str]:
    """Returns different contexts of one split.

    Args:
        split: "train", "dev" or "test"; the splits share no sentence, whatever the seed.
        count: How many contexts; a smaller number gives a prefix of a larger one.
        seed: Seed of all choices. 0 by default.

    Raises:
        ValueError: `count` is negative.
    """
    if count < 0:
        raise ValueError(f"the number of contexts cannot be negative: {count}")
    rng = random.Random(f"{split}-{seed}")
    contexts: dict[str, None] = {}
    while len(contexts) < count:
        wanted = rng.choice(LOOP_HIDDEN)
        contexts[make_context(_draw_with_hidden(rng, split, wanted))] = None
    return list(contexts)


def write_datasets(output: Path, sizes: dict[Split, int], seed: int = 0) -> list[Path]:
    """Writes one JSONL file a split, with the fields `id` and `context`.

    Args:
        output: Folder for `train.jsonl`, `dev.jsonl` and so on; made if missing.
        sizes: Rows of each split.
        seed: Seed of all choices. 0 by default.

    Returns:
        The written files, in the order of `sizes`.
    """
    output.mkdir(parents=True, exist_ok=True)
    paths = []
    for split, count in sizes.items():
        rows = [
            json.dumps({"id": f"{split}-{seed}-{index:05d}", "context": context})
            for index, context in enumerate(make_contexts(split, count, seed))
        ]
        path = output / f"{split}.jsonl"
        path.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
        paths.append(path)
    return paths


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(prog="python -m examples.word_removal.data", description=__doc__)
    parser.add_argument("--output", type=Path, required=True, help="folder to write train, dev and test into")
    parser.add_argument("--seed", type=int, default=0, help="seed of all choices (default: 0)")
    parser.add_argument("--train", type=int, default=1000, help="training contexts (default: 1000)")
    parser.add_argument("--dev", type=int, default=200, help="dev contexts (default: 200)")
    parser.add_argument("--test", type=int, default=300, help="test contexts (default: 300)")
    options = parser.parse_args(arguments)
    sizes: dict[Split, int] = {"train": options.train, "dev": options.dev, "test": options.test}
    for split, count in sizes.items():
        if count < 0:
            parser.error(f"--{split} cannot be negative: {count}")
    for path in write_datasets(options.output, sizes, options.seed):
        print(path)


def _draw_with_hidden(rng: random.Random, split: Split, wanted: int) -> str:
    for _ in range(_MAX_DRAWS_PER_CONTEXT):
        sentence = next(draw_sentences(rng, split, [rng.choice(LOOP_INSULTS)]))
        if sum(word in HIDDEN_WORDS for word in sentence_words(sentence)) == wanted:
            return sentence
    raise RuntimeError(f"no sentence with {wanted} hidden-list words came up in {_MAX_DRAWS_PER_CONTEXT} draws")


if __name__ == "__main__":
    main()
