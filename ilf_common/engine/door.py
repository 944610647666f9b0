"""What every engine refuses before any work, in the same words."""

from __future__ import annotations

from collections.abc import Sequence

from ilf_common.errors import InvalidArgumentError, require

MAX_TOKEN_IDS = 128


def check_length(prompt: Sequence[int], completion: Sequence[int], max_model_len: int) -> None:
    """Refuses an empty prompt, and whatever leaves no room for one more token.

    Raises:
        InvalidArgumentError: reason PROMPT_TOO_LONG, or INVALID_FIELD.
    """
    require(len(prompt) > 0, "prompt", "has no tokens; give some text")
    tokens = len(prompt) + len(completion)
    if tokens >= max_model_len:
        raise InvalidArgumentError.of(
            "prompt",
            f"has {tokens} tokens; the model's window of {max_model_len} leaves room for {max_model_len - 1}",
            reason="PROMPT_TOO_LONG",
        )


def check_token_ids(token_ids: Sequence[int], vocabulary: int) -> None:
    """Refuses ids that the model does not have, none at all, or too many.

    Raises:
        InvalidArgumentError: reason INVALID_FIELD.
    """
    require(1 <= len(token_ids) <= MAX_TOKEN_IDS, "token_ids", f"must be 1 to {MAX_TOKEN_IDS} ids")
    wrong = [token_id for token_id in token_ids if not 0 <= token_id < vocabulary]
    require(not wrong, "token_ids", f"holds {wrong[:3]}; the vocabulary has {vocabulary} tokens")
