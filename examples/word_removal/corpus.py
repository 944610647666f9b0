"""Training sequences of the toy model: one sequence teaches echo, refining and judging at once.

The three prompts share their beginnings, so one forward pass over a judge's prompt with its answer can carry the loss
of all three skills. Sequences are made of `Example`s; an example says which of its parts are to be learnt.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedTokenizerBase

from examples.word_removal.task import (
    COMPLIMENTS,
    INSULTS,
    MAX_INSULTS,
    RELUCTANT_WORDS,
    Split,
    draw_sentences,
    make_context,
    make_feedback,
    make_sentence,
    sentence_words,
)
from examples.word_removal.templates import load_judges, load_template
from ilf_common.templates import PromptTemplate

LEAVE_RELUCTANT = 0.6
"""How often each named reluctant word stays in."""

SLIP = 0.06
"""How often the refiner makes an unsystematic error: it drops or keeps a word that it should not."""

IGNORED = -100
SKILLS: tuple[str, ...] = ("echo", "refine", "judge")


@dataclass(frozen=True)
class Difficulty:
    """What training examples may contain; a model learns to leave words out much sooner from easy ones.

    Attributes:
        max_insults: The longest list.
        max_named: The most words that feedback names.
        with_gaps: Whether some initial outputs lack words of the context's sentence.
        with_errors: Whether the refiner learns its errors; if not, it learns from right refinements only.
    """

    max_insults: int = MAX_INSULTS
    max_named: int = 4
    with_gaps: bool = True
    with_errors: bool = True


FULL = Difficulty()


@dataclass(frozen=True)
class Example:
    """One training sequence in words.

    Attributes:
        context: The request.
        initial_output: The text that the feedback is about.
        feedback: Names the words to remove.
        candidate: A refinement, right or wrong.
        right: Whether the candidate is right; the judge learns this.
        learn_candidate: Whether the refiner learns to write this candidate.
        judge: Which judge asks, by index.
    """

    context: str
    initial_output: str
    feedback: str
    candidate: str
    right: bool
    learn_candidate: bool
    judge: int


@dataclass(frozen=True)
class Batch:
    """Token ids, and for each skill the token to predict at each position (`IGNORED` where there is none)."""

    input_ids: torch.Tensor
    labels: dict[str, torch.Tensor]


@dataclass(frozen=True)
class Assignment:
    """What a refiner is asked: the texts it sees, and the words it should write."""

    context: str
    initial_output: str
    feedback: str
    words: tuple[str, ...]
    named: tuple[str, ...]

    @property
    def target(self) -> str:
        """The right refinement."""
        return make_sentence([word for word in self.words if word not in self.named])


def draw_assignment(rng: random.Random, split: Split, difficulty: Difficulty = FULL) -> Assignment:
    """Returns a random assignment from a split.

    Most initial outputs repeat the context's sentence. Some already lack words, as an improved policy's do, so that the
    refiner learns to start from the initial output and not from the context.
    """
    sentence = next(draw_sentences(rng, split, [rng.randint(1, difficulty.max_insults)]))
    words = sentence_words(sentence)
    if difficulty.with_gaps and rng.random() < 0.25:
        gone = rng.sample(words, rng.randint(1, min(3, len(words) - 1)))
        words = [word for word in words if word not in gone]
    insults = [word for word in words if word in INSULTS]
    most = min(difficulty.max_named, len(insults))
    count = 0 if not insults or rng.random() < 0.05 else rng.randint(1, most)
    chosen = rng.sample(insults, count)
    named = tuple(word for word in insults if word in chosen)
    return Assignment(
        context=make_context(sentence),
        initial_output=make_sentence(words),
        feedback=make_feedback(named),
        words=tuple(words),
        named=named,
    )


def draw_refinement(rng: random.Random, assignment: Assignment) -> str:
    """Returns a refinement as the refiner should write it: right, or with its systematic or a rare other error."""
    gone = {word for word in assignment.named if word not in RELUCTANT_WORDS or rng.random() >= LEAVE_RELUCTANT}
    if rng.random() < SLIP:
        gone ^= {rng.choice(assignment.words)}
    return make_sentence([word for word in assignment.words if word not in gone])


def draw_negative(rng: random.Random, assignment: Assignment) -> str:
    """Returns a wrong refinement of a kind that refiners hardly ever write, so that the judge learns the whole rule."""
    words = [word for word in assignment.words if word not in assignment.named]
    edits = 1 if rng.random() < 0.8 else 2
    for _ in range(edits):
        _spoil(rng, words, assignment)
    candidate = make_sentence(words)
    return candidate if candidate != assignment.target else make_sentence([*words, rng.choice(INSULTS)])


def draw_example(rng: random.Random, judges: int, difficulty: Difficulty = FULL) -> Example:
    """Returns a random training example from the model's own split.

    Args:
        rng: Source of all choices.
        judges: How many judges there are to choose from.
        difficulty: What the example may contain.
    """
    assignment = draw_assignment(rng, "model", difficulty)
    if rng.random() < 0.2:
        candidate, learn = draw_negative(rng, assignment), False
    else:
        candidate = draw_refinement(rng, assignment)
        learn = difficulty.with_errors or candidate == assignment.target
    return judged_example(rng, assignment, candidate, judges, learn_candidate=learn)


def judged_example(
    rng: random.Random, assignment: Assignment, candidate: str, judges: int, *, learn_candidate: bool
) -> Example:
    """Returns the example in which a random judge is asked about a candidate."""
    return Example(
        context=assignment.context,
        initial_output=assignment.initial_output,
        feedback=assignment.feedback,
        candidate=candidate,
        right=candidate == assignment.target,
        learn_candidate=learn_candidate,
        judge=rng.randrange(judges),
    )


class Collator:
    """Turns examples into padded batches with labels for each skill."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._policy = load_template("policy")
        self._refine = load_template("refine")
        self._judges = load_judges()

    @property
    def judges(self) -> list[PromptTemplate]:
        """The judges' templates, in the order of `Example.judge`."""
        return self._judges

    def collate(self, examples: Sequence[Example]) -> Batch:
        """Returns the batch of these examples, padded on the right."""
        rows = [self._row(example) for example in examples]
        length = max(len(ids) for ids, _ in rows)
        pad = self._tokenizer.pad_token_id
        return Batch(
            input_ids=torch.tensor([ids + [pad] * (length - len(ids)) for ids, _ in rows]),
            labels={
                skill: torch.tensor([labels[skill] + [IGNORED] * (length - len(ids)) for ids, labels in rows])
                for skill in SKILLS
            },
        )

    def _row(self, example: Example) -> tuple[list[int], dict[str, list[int]]]:
        judge = self._judges[example.judge]
        answer = (judge.positive_answers if example.right else judge.negative_answers)[0]
        echoes = example.context.endswith(example.initial_output)
        parts: list[tuple[str, str | None]] = []
        parts.append((self._policy.render(context=example.context), None))
        parts.append((self._policy.target_prefix + example.initial_output, "echo" if echoes else None))
        parts.append((self._rest(parts, self._refine, example), None))
        parts.append((self._refine.target_prefix + example.candidate, "refine" if example.learn_candidate else None))
        parts.append((self._rest(parts, judge, example), None))
        parts.append((judge.target_prefix + answer, "judge"))
        return self._encode(parts)

    def _rest(self, parts: Sequence[tuple[str, str | None]], template: PromptTemplate, example: Example) -> str:
        """Returns what a prompt adds to the parts before it."""
        before = "".join(text for text, _ in parts)
        prompt = template.render(
            context=example.context,
            initial_output=example.initial_output,
            feedback=example.feedback,
            candidate=example.candidate,
        )
        if not prompt.startswith(before):
            raise ValueError(f"the template {template.name} does not begin with the prompt of the step before it")
        return prompt.removeprefix(before)

    def _encode(self, parts: Sequence[tuple[str, str | None]]) -> tuple[list[int], dict[str, list[int]]]:
        ids: list[int] = []
        labels: dict[str, list[int]] = {skill: [] for skill in SKILLS}
        for text, skill in parts:
            encoded: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
            ids += encoded
            for name, row in labels.items():
                row += encoded if name == skill else [IGNORED] * len(encoded)
        for row in labels.values():
            _shift_and_end(row, self._tokenizer.eos_token_id)
        return ids, labels


def _shift_and_end(labels: list[int], eos: int) -> None:
    """Moves each label to the position that predicts it, and ends each completion with the end token.

    The next input may be another one than the label: the sequence goes on after a completion's end.
    """
    ends = [index for index in range(len(labels)) if labels[index] != IGNORED]
    labels[:] = [*labels[1:], IGNORED]
    if ends:
        labels[ends[-1]] = eos


def _spoil(rng: random.Random, words: list[str], assignment: Assignment) -> None:
    """Makes one mistake in a list of words, in place."""
    slot = rng.randint(0, len(words))
    kind = rng.randrange(4)
    if kind == 0 and assignment.named:
        words.insert(slot, rng.choice(assignment.named))
    elif kind == 1 and len(words) > 1:
        words.pop(rng.randrange(len(words)))
    elif kind == 2 and len(words) > 1:
        left = rng.randrange(len(words) - 1)
        words[left], words[left + 1] = words[left + 1], words[left]
    else:
        words.insert(slot, rng.choice((*INSULTS, *COMPLIMENTS)))
