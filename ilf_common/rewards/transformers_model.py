"""Reward models in transformers: a sequence classifier with one output, or a language model that is asked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from ilf_common.engine.prompt_encoder import PromptEncoder
from ilf_common.errors import FailedPreconditionError, InvalidArgumentError
from ilf_common.rewards.card import RewardCard, read_card, vocabulary_digest
from ilf_common.rewards.inputs import RewardInputs

Device = Literal["auto", "cpu", "cuda"]
Dtype = Literal["auto", "float32", "bfloat16"]
_UNBOUNDED = 10**6
_HEAD = "ForSequenceClassification"


class TransformersRewardModel:
    """A loaded reward model; `score` is called by one thread at a time.

    Args:
        model: A sequence classifier or a causal language model, as the card's loss wants it.
        tokenizer: The model's; a classifier's has a padding token of its own.
        card: What the model's directory says.
        max_length: Longest sequence in tokens.
    """

    def __init__(self, model: Any, tokenizer: Any, card: RewardCard, max_length: int) -> None:
        encoder = PromptEncoder(tokenizer, chat=True)
        self._model = model
        self._pad_token_id = encoder.pad_token_id
        self.inputs = RewardInputs(card.loss, encoder, card.question)
        self.card = card
        self.max_length = max_length

    def score(self, sequences: Sequence[Sequence[int]]) -> list[float]:
        """One number for each sequence of one forward pass; padding changes none of them.

        A head's reward, or the difference of the log-probabilities of the two answers.
        """
        import torch

        with torch.inference_mode():
            numbers = self._read_head(sequences) if self.inputs.answers is None else self._ask(sequences)
        scores: list[float] = numbers.double().cpu().tolist()
        return scores

    def close(self) -> None:
        """Gives the model's memory back, a GPU's too."""
        import torch

        self._model = None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _read_head(self, sequences: Sequence[Sequence[int]]) -> Any:
        """Padded on the right: the head reads the last token that is no padding, the end of the sequence."""
        from ilf_common.engine.causal_model import padded

        ids, mask, _ = padded(sequences, self._model.config.pad_token_id, left=False, device=self._model.device)
        return self._model(input_ids=ids, attention_mask=mask, use_cache=False).logits.squeeze(-1)

    def _ask(self, sequences: Sequence[Sequence[int]]) -> Any:
        """Padded on the left: all answers come at the last position, and only its logits are computed."""
        from ilf_common.engine.causal_model import padded

        assert self.inputs.answers is not None
        ids, mask, positions = padded(sequences, self._pad_token_id, left=True, device=self._model.device)
        output = self._model(
            input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False, logits_to_keep=1
        )
        positive, negative = self.inputs.answers
        answers = output.logits[:, -1, [positive, negative]].double()
        return answers[:, 0] - answers[:, 1]


class TransformersRewardLoader:
    """Loads directories as the trainer publishes them.

    Args:
        device: "auto" takes a GPU where there is one.
        dtype: Of the weights; "auto" is float32 on a CPU, bfloat16 on a GPU.
        max_length: Longest sequence; None takes the model's window.
        threads: Threads of one operator on a CPU; None leaves the library's choice.
        attention: Attention implementation; None leaves the library's choice.
    """

    def __init__(
        self,
        device: Device = "auto",
        dtype: Dtype = "auto",
        max_length: int | None = None,
        threads: int | None = None,
        attention: str | None = None,
    ) -> None:
        self._device = device
        self._dtype = dtype
        self._max_length = max_length
        self._threads = threads
        self._attention = attention

    def load(self, folder: Path) -> TransformersRewardModel:
        """Loads a directory and scores a first text with it.

        Raises:
            FailedPreconditionError: reason CHECKPOINT_UNSUPPORTED.
        """
        import torch
        from safetensors import SafetensorError
        from transformers import AutoConfig, AutoTokenizer

        if self._threads is not None:
            torch.set_num_threads(self._threads)
        try:
            card = read_card(folder)
            config = AutoConfig.from_pretrained(folder)
            tokenizer = AutoTokenizer.from_pretrained(folder)
            _check_config(folder, config, card)
            _check_vocabulary(folder, config, tokenizer, card)
            model = self._load_model(folder, card, torch)
            loaded = TransformersRewardModel(model, tokenizer, card, self._window(config, tokenizer))
        except InvalidArgumentError as error:
            raise _unsupported(folder, error.message) from error
        except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
            raise _unsupported(folder, f"transformers cannot load it ({type(error).__name__})") from error
        _probe(folder, loaded)
        return loaded

    def _load_model(self, folder: Path, card: RewardCard, torch: Any) -> Any:
        from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

        kind = AutoModelForCausalLM if card.loss.asks else AutoModelForSequenceClassification
        device = self._device if self._device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
        options: dict[str, Any] = {"dtype": self._torch_dtype(torch, device)}
        if self._attention is not None:
            options["attn_implementation"] = self._attention
        model, loading = kind.from_pretrained(folder, output_loading_info=True, **options)
        if loading["missing_keys"]:
            # transformers would fill them at random, and every reward would be noise.
            raise _unsupported(folder, f"{len(loading['missing_keys'])} weights are missing, such as the scoring head")
        return model.to(device).eval()

    def _torch_dtype(self, torch: Any, device: str) -> Any:
        name = self._dtype if self._dtype != "auto" else "bfloat16" if device == "cuda" else "float32"
        return getattr(torch, name)

    def _window(self, config: Any, tokenizer: Any) -> int:
        text_config = config.get_text_config()
        limits = [
            self._max_length,
            getattr(text_config, "max_position_embeddings", None),
            getattr(tokenizer, "model_max_length", None),
        ]
        return min((int(limit) for limit in limits if limit and limit < _UNBOUNDED), default=_UNBOUNDED)


def _check_config(folder: Path, config: Any, card: RewardCard) -> None:
    has_head = any(name.endswith(_HEAD) for name in config.architectures or ())
    if card.loss.asks:
        if has_head:
            raise _unsupported(folder, f"it is a classifier, but its reward_loss {card.loss.value} asks questions")
        return
    if config.num_labels != 1:
        raise _unsupported(folder, f"it has {config.num_labels} outputs; a reward model has one")
    eos = config.eos_token_id
    if config.pad_token_id is None or config.pad_token_id in (eos if isinstance(eos, list) else [eos]):
        # The head reads the last token that is not padding, so an end of sequence that counts as padding is overlooked.
        raise _unsupported(folder, "its pad_token_id is missing or is its eos_token_id; it needs one of its own")


def _check_vocabulary(folder: Path, config: Any, tokenizer: Any, card: RewardCard) -> None:
    size = config.get_text_config().vocab_size
    if len(tokenizer) > size:
        raise _unsupported(folder, f"its tokenizer has {len(tokenizer):,} tokens, the model {size:,}")
    if card.vocabulary and card.vocabulary != vocabulary_digest(tokenizer):
        raise _unsupported(folder, "its tokenizer is not the one that it was trained with")


def _probe(folder: Path, model: TransformersRewardModel) -> None:
    if not all(math.isfinite(number) for number in model.score(model.inputs.pair("Hello", "Hello", "there"))):
        raise _unsupported(folder, "its rewards are not finite")


def _unsupported(folder: Path, problem: str) -> FailedPreconditionError:
    return FailedPreconditionError(
        f"The checkpoint {folder.name} cannot be served as a reward model: {problem}.", reason="CHECKPOINT_UNSUPPORTED"
    )
