"""Texts to token ids, the same for serving, training and judging."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from ilf_common.errors import FailedPreconditionError

_CONTENT_MARK = "content-of-the-turn"


class PromptEncoder:
    """Encodes prompts and completions so that prompt + completion is what the model is trained on and served.

    Safe to use from several threads.

    Args:
        tokenizer: A transformers tokenizer.
        chat: Use the tokenizer's chat template where it has one: a prompt is then one user message and the opening of
            the assistant's turn, and a completion ends with the end-of-turn token.

    Attributes:
        eos_token_id: Ends a completion: the end-of-turn token of the chat template, or else the tokenizer's EOS.
        stop_token_ids: Tokens that end a sample: `eos_token_id` and the tokenizer's EOS.

    Raises:
        FailedPreconditionError: reason CHECKPOINT_UNSUPPORTED; the tokenizer has no end-of-sequence token.
    """

    def __init__(self, tokenizer: Any, chat: bool = True) -> None:
        self._tokenizer = tokenizer
        self._chat = chat and bool(tokenizer.chat_template)
        # The Rust tokenizers refuse concurrent use ("Already borrowed").
        self._lock = threading.Lock()
        if tokenizer.eos_token_id is None:
            raise FailedPreconditionError(
                "The tokenizer has no end-of-sequence token; set eos_token in its tokenizer_config.json.",
                reason="CHECKPOINT_UNSUPPORTED",
            )
        self.eos_token_id: int = self._end_of_turn() if self._chat else tokenizer.eos_token_id
        self.stop_token_ids: frozenset[int] = frozenset({self.eos_token_id, tokenizer.eos_token_id})

    @property
    def uses_chat_template(self) -> bool:
        """Prompts are rendered as a user's turn."""
        return self._chat

    @property
    def pad_token_id(self) -> int:
        """Fills masked positions."""
        pad: int | None = self._tokenizer.pad_token_id
        return self.eos_token_id if pad is None else pad

    def encode_prompt(self, text: str) -> list[int]:
        """Ids of a prompt, special tokens and chat template included."""
        with self._lock:
            if self._chat:
                text = self._render([{"role": "user", "content": text}], add_generation_prompt=True)
            return list(self._tokenizer.encode(text, add_special_tokens=not self._chat))

    def encode_completion(self, text: str, add_eos: bool) -> list[int]:
        """Ids of what follows a prompt: no special tokens in front, `eos_token_id` at the end if asked for."""
        with self._lock:
            ids = list(self._tokenizer.encode(text, add_special_tokens=False))
        return [*ids, self.eos_token_id] if add_eos else ids

    def decode(self, sequences: Sequence[Sequence[int]]) -> list[str]:
        """Texts of sampled ids, without special tokens."""
        with self._lock:
            decoded: list[str] = self._tokenizer.batch_decode(sequences, skip_special_tokens=True)
        return decoded

    def _render(self, messages: list[dict[str, str]], *, add_generation_prompt: bool) -> str:
        # `enable_thinking` is read by templates of models that otherwise open with a chain of thought.
        rendered: str = self._tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=add_generation_prompt, enable_thinking=False
        )
        return rendered

    def _end_of_turn(self) -> int:
        conversation = [{"role": "user", "content": "?"}, {"role": "assistant", "content": _CONTENT_MARK}]
        _, found, tail = self._render(conversation, add_generation_prompt=False).rpartition(_CONTENT_MARK)
        tail_ids = self._tokenizer.encode(tail, add_special_tokens=False) if found else []
        special = {token_id for token_id, token in self._tokenizer.added_tokens_decoder.items() if token.special}
        eos: int = self._tokenizer.eos_token_id
        return next((token_id for token_id in tail_ids if token_id in special), eos)
