"""The toy task: its words, its sentences, what feedback says and what the right answer is.

A sentence lists a few harmless insults and one compliment ("You are a silly kind grumpy person."). Feedback names
words, and the right refinement is the sentence without exactly these words. Every word starts with a consonant sound,
so the article "a" stays right whichever word goes.
"""

import hashlib
import random
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

INSULTS: tuple[str, ...] = (
    "silly", "grumpy", "goofy", "lazy", "bossy", "clumsy", "cranky", "dopey", "dizzy", "fussy",
    "gloomy", "nosy", "moody", "messy", "noisy", "pushy", "rowdy", "sloppy", "sneaky", "snooty",
    "soggy", "sulky", "tacky", "touchy", "wacky", "whiny", "wobbly", "zany", "batty", "bumbling",
    "dull", "bland", "dreary", "mopey", "pesky", "puny", "stuffy", "smelly", "shabby", "scruffy",
)  # fmt: skip
"""The harmless insults a sentence may list."""

COMPLIMENTS: tuple[str, ...] = (
    "kind", "brave", "bright", "charming", "clever", "caring", "gentle", "generous",
    "helpful", "patient", "polite", "loyal", "warm", "witty", "wise",
)  # fmt: skip
"""The compliments; each sentence has exactly one."""

RELUCTANT_WORDS: frozenset[str] = frozenset((
    "silly", "bossy", "cranky", "gloomy", "noisy", "pushy", "sneaky",
    "tacky", "wacky", "batty", "dull", "pesky", "shabby",
))  # fmt: skip
"""Insults that the toy model often leaves in although the feedback names them: its systematic error."""

NOTHING_TO_CHANGE = "Nothing to change."
"""The feedback for a text in which no word has to go."""

REQUEST = "Repeat this: "
SENTENCE_START = "You are a "
SENTENCE_END = "person."
MAX_INSULTS = 10

Split = Literal["model", "train", "dev", "test"]
"""Who may see a sentence: the script that trains the shipped model, or one part of a loop's data."""

SPLITS: tuple[Split, ...] = get_args(Split)

_SPLIT_BOUNDS: tuple[tuple[int, Split], ...] = ((70, "model"), (80, "train"), (90, "dev"), (100, "test"))


@dataclass(frozen=True)
class TableItem:
    """One prompt of the word-removal table.

    Attributes:
        insults: How many insults the sentence lists (k).
        named: How many of them the feedback names (m).
        context: The request to repeat the sentence.
        initial_output: The sentence.
        feedback: Names the words to remove.
        target: The sentence without these words; a refinement is right if it equals this.
    """

    insults: int
    named: int
    context: str
    initial_output: str
    feedback: str
    target: str


def make_sentence(words: Sequence[str]) -> str:
    """Returns the sentence that lists `words` in their order; without words it is "You are a person."."""
    return SENTENCE_START + "".join(f"{word} " for word in words) + SENTENCE_END


def sentence_words(sentence: str) -> list[str]:
    """Returns the listed words of a sentence.

    Raises:
        ValueError: The text does not have the task's form.
    """
    if not sentence.startswith(SENTENCE_START) or not sentence.endswith(SENTENCE_END):
        raise ValueError(f"not a sentence of this task (expected 'You are a ... person.'): {sentence!r}")
    return sentence[len(SENTENCE_START) : -len(SENTENCE_END)].split()


def words_of(text: str) -> list[str]:
    """Returns the words of any text, without punctuation: a policy's output need not have the sentence's form."""
    return [word.strip(".,;:!?\"'") for word in text.split()]


def make_context(sentence: str) -> str:
    """Returns the context of a sentence: the request to repeat it."""
    return REQUEST + sentence


def context_sentence(context: str) -> str:
    """Returns the sentence that a context asks to repeat.

    Raises:
        ValueError: The context was not made by this task.
    """
    if not context.startswith(REQUEST):
        raise ValueError(f"not a context of this task (expected it to start with {REQUEST!r}): {context!r}")
    return context.removeprefix(REQUEST)


def make_feedback(named: Sequence[str]) -> str:
    """Returns the feedback that names these words, or `NOTHING_TO_CHANGE` for none."""
    return f"Remove {', '.join(named)}." if named else NOTHING_TO_CHANGE


def remove_words(sentence: str, named: Collection[str]) -> str:
    """Returns the sentence without the named words, everything else unchanged.

    Raises:
        ValueError: The text does not have the task's form.
    """
    return make_sentence([word for word in sentence_words(sentence) if word not in named])


def is_exact(output: str, target: str) -> bool:
    """Returns whether an output equals its target, white space at the ends aside."""
    return output.strip() == target


def split_of(sentence: str) -> Split:
    """Returns who may see this sentence.

    The answer depends on the sentence's words alone, so that the model's training data and every loop's training, dev
    and test data stay disjoint without a shared list.
    """
    bucket = int.from_bytes(hashlib.sha256(sentence.encode()).digest()[:4], "big") % 100
    return next(split for bound, split in _SPLIT_BOUNDS if bucket < bound)


def draw_words(rng: random.Random, insults: int) -> list[str]:
    """Returns `insults` different insults in random order with one compliment at a random slot.

    Raises:
        ValueError: `insults` is not between 1 and `MAX_INSULTS`.
    """
    if not 1 <= insults <= MAX_INSULTS:
        raise ValueError(f"a sentence has 1 to {MAX_INSULTS} insults, not {insults}")
    words = rng.sample(INSULTS, insults)
    words.insert(rng.randint(0, insults), rng.choice(COMPLIMENTS))
    return words


def draw_sentences(rng: random.Random, split: Split, insults: Iterable[int]) -> Iterator[str]:
    """Yields one random sentence of a split for each number of insults; sentences may repeat."""
    for count in insults:
        sentence = make_sentence(draw_words(rng, count))
        while split_of(sentence) != split:
            sentence = make_sentence(draw_words(rng, count))
        yield sentence


def make_table(seed: int = 0, per_cell: int = 50) -> list[TableItem]:
    """Returns the word-removal table's prompts: 1 to 10 insults, 1 to 3 of them named, `per_cell` prompts a cell.

    Args:
        seed: Seed of all choices.
        per_cell: Prompts in each of the 27 cells. 50 by default, as in the paper.
    """
    rng = random.Random(f"table-{seed}")
    cells = [(k, m) for k in range(1, MAX_INSULTS + 1) for m in range(1, 4) if m <= k]
    return [_table_item(rng, k, m) for k, m in cells for _ in range(per_cell)]


def _table_item(rng: random.Random, insults: int, named_count: int) -> TableItem:
    sentence = next(draw_sentences(rng, "test", [insults]))
    listed = [word for word in sentence_words(sentence) if word in INSULTS]
    chosen = rng.sample(listed, named_count)
    named = [word for word in listed if word in chosen]
    return TableItem(
        insults=insults,
        named=named_count,
        context=make_context(sentence),
        initial_output=sentence,
        feedback=make_feedback(named),
        target=remove_words(sentence, named),
    )
