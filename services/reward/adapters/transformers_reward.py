"""Reward models in transformers: a sequence classifier with one output."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from ilf_common.engine.prompt_encoder import PromptEncoder
from ilf_common.errors import FailedPreconditionError
from services.reward.models import RewardStatistics

Device = Literal["auto", "cpu", "cuda"]
Dtype = Literal["auto", "float32", "bfloat16"]
_UNBOUNDED = 10**6


class TransformersRewardModel:
    """A loaded sequence classifier.

    Args:
        model: Its one output is the reward.
        tokenizer: With a padding token of its own.
        max_length: Longest sequence in tokens.
    """

    def __init__(self, model: Any, tokenizer: Any, max_length: int) -> None:
        self._model = model
        self._encoder = PromptEncoder(tokenizer, chat=True)
        self._pad_token_id: int = model.config.pad_token_id
        self._max_length = max_length
        self._statistics = _statistics(model.config)

    @property
    def max_length(self) -> int:
        """Longest sequence in tokens."""
        return self._max_length

    @property
    def statistics(self) -> RewardStatistics | None:
        """As the trainer wrote them into the model's config."""
        return self._statistics

    def encode(self, context: str, output: str) -> list[int]:
        """Token ids as the trainer encodes a comparison's prompt and one of its texts."""
        return self._encoder.encode_prompt(context) + self._encoder.encode_completion(output, add_eos=True)

    def score(self, sequences: Sequence[Sequence[int]]) -> list[float]:
        """Rewards of one forward pass; the head reads the last token that is no padding, the end of the sequence."""
        import torch

        longest = max(len(ids) for ids in sequences)
        input_ids = torch.full((len(sequences), longest), self._pad_token_id, dtype=torch.long)
        attention_mask = torch.zeros_like(input_ids)
        for row, ids in enumerate(sequences):
            input_ids[row, : len(ids)] = torch.tensor(ids, dtype=torch.long)
            attention_mask[row, : len(ids)] = 1
        device = self._model.device
        with torch.inference_mode():
            logits = self._model(
                input_ids=input_ids.to(device), attention_mask=attention_mask.to(device), use_cache=False
            ).logits
        rewards: list[float] = logits.squeeze(-1).double().cpu().tolist()
        return rewards

    def close(self) -> None:
        """Gives the model's memory back, a GPU's too."""
        import torch

        self._model = None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


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
            config = AutoConfig.from_pretrained(folder)
            tokenizer = AutoTokenizer.from_pretrained(folder)
            _check_config(folder, config)
            model = self._load_model(folder, torch)
        except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
            raise _unsupported(folder, f"transformers cannot load it ({type(error).__name__})") from error
        loaded = TransformersRewardModel(model, tokenizer, self._window(config, tokenizer))
        _probe(folder, loaded)
        return loaded

    def _load_model(self, folder: Path, torch: Any) -> Any:
        from transformers import AutoModelForSequenceClassification

        device = self._device if self._device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
        options: dict[str, Any] = {"dtype": self._torch_dtype(torch, device)}
        if self._attention is not None:
            options["attn_implementation"] = self._attention
        model, loading = AutoModelForSequenceClassification.from_pretrained(folder, output_loading_info=True, **options)
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


def _check_config(folder: Path, config: Any) -> None:
    if config.num_labels != 1:
        raise _unsupported(folder, f"it has {config.num_labels} outputs; a reward model has one")
    eos = config.eos_token_id
    if config.pad_token_id is None or config.pad_token_id in (eos if isinstance(eos, list) else [eos]):
        # The head reads the last token that is not padding, so an end of sequence that counts as padding is overlooked.
        raise _unsupported(folder, "its pad_token_id is missing or is its eos_token_id; it needs one of its own")


def _statistics(config: Any) -> RewardStatistics | None:
    mean, std = getattr(config, "reward_mean", None), getattr(config, "reward_std", None)
    if not isinstance(mean, int | float) or not isinstance(std, int | float):
        return None
    return RewardStatistics(float(mean), float(std)) if math.isfinite(mean) and math.isfinite(std) else None


def _probe(folder: Path, model: TransformersRewardModel) -> None:
    (reward,) = model.score([model.encode("Hello", "Hello")])
    if not math.isfinite(reward):
        raise _unsupported(folder, "its rewards are not finite")


def _unsupported(folder: Path, problem: str) -> FailedPreconditionError:
    return FailedPreconditionError(
        f"The checkpoint {folder.name} cannot be served as a reward model: {problem}.", reason="CHECKPOINT_UNSUPPORTED"
    )
