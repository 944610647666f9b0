"""Builds the toy model's tokenizer: byte-level BPE in which every word of the task is one token."""

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from examples.word_removal.task import (
    COMPLIMENTS,
    INSULTS,
    NOTHING_TO_CHANGE,
    make_context,
    make_feedback,
    make_sentence,
)
from examples.word_removal.templates import load_judges, load_template
from ilf_common.templates import KNOWN_FIELDS

PAD_TOKEN = "<pad>"
EOS_TOKEN = "<eos>"
MAX_POSITIONS = 512
"""The longest sequence, in tokens, that the model made for this tokenizer takes."""

# More merges than the task's words need: training stops by itself once every word is one token.
_MAX_VOCABULARY = 2048


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Returns the tokenizer; it is the same at every call.

    Texts of any language survive encoding and decoding, because bytes that belong to no known word stay single tokens.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=_MAX_VOCABULARY,
        special_tokens=[PAD_TOKEN, EOS_TOKEN],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD_TOKEN,
        eos_token=EOS_TOKEN,
        padding_side="left",
        model_max_length=MAX_POSITIONS,
        clean_up_tokenization_spaces=False,
    )


def _texts() -> list[str]:
    words = [*INSULTS, *COMPLIMENTS]
    blanks = dict.fromkeys(KNOWN_FIELDS, "")
    templates = [load_template("policy"), load_template("refine"), *load_judges()]
    answers = [answer for judge in load_judges() for answer in (*judge.positive_answers, *judge.negative_answers)]
    return [
        make_context(make_sentence(words)),
        # Completions and filled-in fields follow a space, which belongs to their first token.
        f" {make_feedback(words)}",
        f" {NOTHING_TO_CHANGE}",
        f" {make_sentence(words)}",
        *(template.render(**blanks) for template in templates),
        *answers,
    ]
