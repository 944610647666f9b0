"""The shipped model's directory: it loads, its tokenizer keeps texts, its prompts render, it echoes and judges."""

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from examples.word_removal.data import make_contexts
from examples.word_removal.inference import generate, judge_scores
from examples.word_removal.make_model import SHIPPED_MODEL
from examples.word_removal.task import (
    COMPLIMENTS,
    INSULTS,
    MAX_INSULTS,
    context_sentence,
    draw_sentences,
    make_context,
    make_feedback,
    make_table,
)
from examples.word_removal.templates import load_judges, load_template
from examples.word_removal.tokenizer import MAX_POSITIONS, build_tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    loaded: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(SHIPPED_MODEL)
    return loaded


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    loaded: PreTrainedModel = AutoModelForCausalLM.from_pretrained(SHIPPED_MODEL)
    return loaded.eval()


def test_directory_is_small_and_complete() -> None:
    names = {path.name for path in SHIPPED_MODEL.iterdir()}
    assert {
        "README.md",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    } <= names
    assert (SHIPPED_MODEL / "model.safetensors").stat().st_size <= 10_000_000


def test_configuration_suits_serving_engines(tokenizer: PreTrainedTokenizerBase) -> None:
    config = json.loads((SHIPPED_MODEL / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert config["head_dim"] % 8 == 0
    assert config["max_position_embeddings"] == MAX_POSITIONS
    assert config["vocab_size"] == len(tokenizer)
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
    assert tokenizer.chat_template is None


def test_shipped_tokenizer_is_the_one_the_script_builds(tokenizer: PreTrainedTokenizerBase) -> None:
    assert tokenizer.get_vocab() == build_tokenizer().get_vocab()


def test_each_word_of_the_task_is_one_token(tokenizer: PreTrainedTokenizerBase) -> None:
    assert all(len(tokenizer.encode(f" {word}")) == 1 for word in INSULTS + COMPLIMENTS)


@given(seed=st.integers(), insults=st.integers(1, MAX_INSULTS))
@settings(max_examples=50)
def test_sentences_survive_the_tokenizer(seed: int, insults: int, tokenizer: PreTrainedTokenizerBase) -> None:
    sentence = next(draw_sentences(random.Random(seed), "test", [insults]))
    for text in (sentence, make_context(sentence), make_feedback(INSULTS[:insults])):
        assert tokenizer.decode(tokenizer.encode(text), skip_special_tokens=True) == text


@given(text=st.text(st.characters(codec="utf-8")))
@settings(max_examples=50)
def test_any_text_survives_the_tokenizer(text: str, tokenizer: PreTrainedTokenizerBase) -> None:
    ids = tokenizer.encode(f"x{text}")
    assert tokenizer.unk_token_id not in ids
    assert tokenizer.decode(ids) == f"x{text}"


def test_prompts_share_their_beginnings() -> None:
    values = {"context": "C", "initial_output": "X", "feedback": "F", "candidate": "R"}
    policy, refine = load_template("policy"), load_template("refine")
    assert refine.render(**values).startswith(policy.render(**values) + policy.target_prefix + "X")
    for judge in load_judges():
        assert judge.render(**values).startswith(refine.render(**values) + refine.target_prefix + "R")


def test_prompts_and_completions_are_tokenised_as_if_together(tokenizer: PreTrainedTokenizerBase) -> None:
    item = make_table(per_cell=1)[-1]
    values = {"context": item.context, "initial_output": item.initial_output, "feedback": item.feedback}
    values["candidate"] = item.target
    completions = {"policy": item.initial_output, "refine": item.target}
    for name, completion in completions.items():
        template = load_template(name)
        prompt, rest = template.render(**values), template.target_prefix + completion
        assert tokenizer.encode(prompt) + tokenizer.encode(rest, add_special_tokens=False) == tokenizer.encode(
            prompt + rest
        )


def test_judges_answers_are_one_known_token_each(tokenizer: PreTrainedTokenizerBase) -> None:
    judges = load_judges()
    assert len({judge.text for judge in judges}) == 5
    for judge in judges:
        spellings = [*judge.positive_answers, *judge.negative_answers]
        ids = [tokenizer.encode(judge.target_prefix + spelling) for spelling in spellings]
        assert all(len(tokens) == 1 for tokens in ids)
        assert len({tokens[0] for tokens in ids}) == len(spellings)


def test_model_echoes(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    contexts = make_contexts("dev", 32)
    prompts = [load_template("policy").render(context=context) for context in contexts]
    outputs = generate(model, tokenizer, prompts)
    assert sum(output == context_sentence(c) for output, c in zip(outputs, contexts, strict=True)) >= 30


def test_judges_tell_right_from_wrong(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    items = [item for item in make_table(per_cell=2) if item.insults >= 3]
    hits: list[bool] = []
    for judge in load_judges():
        for right in (True, False):
            prompts = [
                judge.render(
                    context=item.context,
                    initial_output=item.initial_output,
                    feedback=item.feedback,
                    candidate=item.target if right else item.initial_output,
                )
                for item in items
            ]
            hits += [(score > 0.5) == right for score in judge_scores(model, tokenizer, judge, prompts)]
    assert sum(hits) / len(hits) >= 0.9


def test_model_is_reproducible_from_its_card() -> None:
    card = (SHIPPED_MODEL / "README.md").read_text(encoding="utf-8")
    assert "examples.word_removal.make_model" in card
    assert "balanced accuracy" in card
