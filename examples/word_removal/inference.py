"""Samples, greedy outputs and verdicts of a model of the toy task, in batches."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ilf_common.templates import PromptTemplate

MAX_NEW_TOKENS = 24
"""Enough for the longest sentence of the task and its end token."""


@dataclass(frozen=True)
class Sampling:
    """How to choose tokens; a temperature of 0 means greedy. The defaults are the loop's."""

    temperature: float = 1.0
    top_p: float = 0.95
    seed: int = 0


GREEDY = Sampling(temperature=0.0)


def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    sampling: Sampling = GREEDY,
    batch_size: int = 256,
) -> list[str]:
    """Returns one continuation of each prompt, white space at the ends stripped."""
    outputs: list[str] = []
    torch.manual_seed(sampling.seed)
    options = (
        {"do_sample": True, "temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": 0}
        if sampling.temperature > 0
        else {"do_sample": False}
    )
    for batch in _batches(prompts, batch_size):
        encoded = tokenizer(batch, return_tensors="pt", padding=True)
        with torch.inference_mode():
            ids = model.generate(**encoded, max_new_tokens=MAX_NEW_TOKENS, **options)
        texts = tokenizer.batch_decode(ids[:, encoded["input_ids"].shape[1] :], skip_special_tokens=True)
        outputs += [text.strip() for text in texts]
    return outputs


def judge_scores(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    judge: PromptTemplate,
    prompts: Sequence[str],
    batch_size: int = 256,
) -> list[float]:
    """Returns p(positive) / (p(positive) + p(negative)) of one judge's rendered prompts.

    Only the first token of each answer counts; the shipped templates' answers are one token each.
    """
    sides = [
        [tokenizer.encode(judge.target_prefix + spelling, add_special_tokens=False)[0] for spelling in spellings]
        for spellings in (judge.positive_answers, judge.negative_answers)
    ]
    scores: list[float] = []
    for batch in _batches(prompts, batch_size):
        encoded = tokenizer(batch, return_tensors="pt", padding=True)
        with torch.inference_mode():
            probabilities = model(**encoded, logits_to_keep=1).logits[:, -1].float().softmax(dim=-1)
        positive, negative = (probabilities[:, ids].sum(dim=-1) for ids in sides)
        scores += (positive / (positive + negative)).tolist()
    return scores


def _batches(prompts: Sequence[str], size: int) -> Iterator[list[str]]:
    for start in range(0, len(prompts), size):
        yield list(prompts[start : start + size])
