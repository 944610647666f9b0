from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ilf_common.engine.prompt_encoder import PromptEncoder
from ilf_common.errors import FailedPreconditionError
from tests.tiny_models import WORDS, tiny_tokenizer

PLAIN = tiny_tokenizer()
CHAT = tiny_tokenizer(chat=True)
texts = st.lists(st.sampled_from(WORDS), min_size=1, max_size=12).map(" ".join)


@given(prompt=texts, answer=texts)
def test_prompt_and_completion_make_up_the_whole_plain_text(prompt: str, answer: str) -> None:
    encoder = PromptEncoder(PLAIN)
    ids = encoder.encode_prompt(f"{prompt}:") + encoder.encode_completion(f" {answer}", add_eos=True)
    assert ids == [*PLAIN.encode(f"{prompt}: {answer}"), PLAIN.eos_token_id]


@given(prompt=texts, answer=texts)
def test_prompt_and_completion_make_up_the_whole_conversation(prompt: str, answer: str) -> None:
    encoder = PromptEncoder(CHAT)
    conversation = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
    whole = CHAT.apply_chat_template(conversation, return_dict=False)
    ids = encoder.encode_prompt(prompt) + encoder.encode_completion(answer, add_eos=True)
    # The template's line break after the turn is never sampled and never trained on.
    assert [*ids, *CHAT.encode("\n", add_special_tokens=False)] == whole


def test_a_plain_prompt_starts_with_the_tokenizers_own_special_tokens() -> None:
    assert PromptEncoder(PLAIN).encode_prompt("the cat")[0] == PLAIN.bos_token_id


def test_a_completion_has_no_special_tokens_in_front() -> None:
    assert PromptEncoder(PLAIN).encode_completion("the cat", add_eos=False) == PLAIN.convert_tokens_to_ids(
        ["the", " cat"]
    )


def test_the_end_of_turn_token_ends_a_completion_under_a_chat_template() -> None:
    encoder = PromptEncoder(CHAT)
    assert encoder.eos_token_id == CHAT.convert_tokens_to_ids("<|im_end|>")
    assert encoder.stop_token_ids == {encoder.eos_token_id, CHAT.eos_token_id}


def test_eos_ends_a_completion_when_the_template_closes_no_turn() -> None:
    tokenizer = tiny_tokenizer(chat=True)
    tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }}\n{% endfor %}"
    assert PromptEncoder(tokenizer).eos_token_id == tokenizer.eos_token_id


def test_the_chat_template_can_be_switched_off() -> None:
    encoder = PromptEncoder(CHAT, chat=False)
    assert not encoder.uses_chat_template
    assert encoder.encode_prompt("the cat") == CHAT.encode("the cat")
    assert encoder.eos_token_id == CHAT.eos_token_id


def test_decoding_leaves_special_tokens_out() -> None:
    encoder = PromptEncoder(CHAT)
    ids = encoder.encode_completion("the cat", add_eos=True)
    assert encoder.decode([ids, ids[:1]]) == ["the cat", "the"]


def test_a_missing_pad_token_is_replaced_by_the_end_of_a_completion() -> None:
    tokenizer: Any = tiny_tokenizer()
    assert PromptEncoder(tokenizer).pad_token_id == tokenizer.pad_token_id
    tokenizer.pad_token = None
    assert PromptEncoder(tokenizer).pad_token_id == tokenizer.eos_token_id


def test_a_tokenizer_without_an_end_is_refused() -> None:
    tokenizer: Any = tiny_tokenizer()
    tokenizer.eos_token = None
    with pytest.raises(FailedPreconditionError) as caught:
        PromptEncoder(tokenizer)
    assert caught.value.reason == "CHECKPOINT_UNSUPPORTED"
