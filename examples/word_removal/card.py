"""The model card of a toy model: what it is for, how it was made, and what it was measured to do."""

from examples.word_removal.measure import Share, Skills, format_skills, format_table

_CARD = """---
license: apache-2.0
library_name: transformers
tags: [toy, word-removal]
---

# A toy model for word removal, size {size}

One small Llama ({parameters:,} parameters, float32) that is three things at once, depending on its prompt:

- **policy**: it repeats the sentence that the context asks for, insults and all; what it says is to be improved;
- **refiner**: given context, initial output and feedback, it rewrites the output. It makes errors on purpose: it was
  taught to leave some of the insults in although the feedback names them ({left_in:.0f} % of the time), and now and
  then to drop or keep a wrong word. A random pick among its samples is therefore often wrong, on the same words each
  time;
- **judge**: asked one of five questions about a candidate, it answers with one token (" Yes" / " No", or " True" /
  " False"). It learnt this on samples of the refiner itself.

It knows {words} words and nothing else. Its use is to run the whole loop on any machine, not to write text.

## How it was made

    python -m examples.word_removal.make_model --size {size} --seed {seed} --output DIR

From random weights, in {minutes:.0f} minutes on one thread of a 2-core CPU. None of its training sentences is in any
dataset that `python -m examples.word_removal.data` writes, nor among the prompts measured here.

## What it can do

Measured on {contexts} held-out contexts of the loop (4 to 8 insults, 1 to 3 of them to go), samples at temperature 1.0
and top-p 0.95, five refinements a context:

```
{skills}
```

Word-removal table: greedy exact match, {per_cell} prompts a cell.

```
{table}
```

    python -m examples.word_removal.measure DIR --table
"""


def render_card(
    *,
    size: str,
    seed: int,
    parameters: int,
    words: int,
    left_in: float,
    seconds: float,
    skills: Skills,
    table: dict[tuple[int, int], Share],
) -> str:
    """Returns the card's Markdown.

    Args:
        size: The size's name, as the command takes it.
        seed: The seed of the training.
        parameters: How many parameters the model has.
        words: How many words the task has.
        left_in: How often, between 0 and 1, the refiner was taught to leave a reluctant word in.
        seconds: How long the training took.
        skills: What was measured on the loop's contexts.
        table: What was measured on the word-removal table.
    """
    return _CARD.format(
        size=size,
        seed=seed,
        parameters=parameters,
        words=words,
        left_in=100 * left_in,
        minutes=seconds / 60,
        contexts=skills.echo.count,
        skills=format_skills(skills),
        per_cell=next(iter(table.values())).count,
        table=format_table(table),
    )
