"""The loop's programmed feedback and its exact metric, as pure functions of texts.

The program knows a hidden list of insults. In each initial output it names exactly the listed words that occur there,
so the right answer is a function of the context alone: the sentence without hidden-list words. Serve it as a plugin or
import it in-process.
"""

from examples.word_removal.task import context_sentence, is_exact, make_feedback, remove_words, words_of

HIDDEN_WORDS: frozenset[str] = frozenset(
    ("grumpy", "bossy", "dopey", "gloomy", "messy", "rowdy", "snooty", "tacky", "whiny", "batty", "dreary", "smelly")
)
"""The insults that have to go; neither the policy nor the refiner is ever shown this list."""


def feedback(context: str, initial_output: str) -> str:
    """Returns feedback that names exactly the hidden-list words of an initial output, in their order.

    Args:
        context: The context that the output was written for; it does not matter here.
        initial_output: Any text, well-formed or not.

    Returns:
        "Remove w1, w2." or, where no hidden-list word occurs, "Nothing to change.".
    """
    del context  # a feedback program is called with both
    named = [word for word in words_of(initial_output) if word in HIDDEN_WORDS]
    return make_feedback(list(dict.fromkeys(named)))


def target(context: str) -> str:
    """Returns the right answer to a context: its sentence without hidden-list words.

    Raises:
        ValueError: The context is none of this task's.
    """
    return remove_words(context_sentence(context), HIDDEN_WORDS)


def exact_match(context: str, output: str) -> float:
    """Returns 1.0 if an output is the right answer to its context, white space at the ends aside, and 0.0 otherwise.

    Raises:
        ValueError: The context is none of this task's.
    """
    return float(is_exact(output, target(context)))
