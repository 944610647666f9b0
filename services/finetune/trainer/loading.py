"""Finds base models and loads them for training."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ilf_common.artifacts import ArtifactStore
from ilf_common.errors import IlfError, InvalidArgumentError
from services.finetune.models import Hyperparameters, LoraSpec
from services.finetune.trainer.job import Runtime
from services.finetune.trainer.outcome import FailureReason, TrainerError

ADAPTER_CONFIG = "adapter_config.json"
PAD_TOKEN = "<|pad|>"
_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
_UNBOUNDED = 10**6


@dataclass(frozen=True)
class Base:
    """A base model as `from_pretrained` takes it.

    Attributes:
        source: Local directory or hub id of the whole model.
        adapter: Directory of a LoRA adapter that lies on top, when the base is a finetuned adapter itself.
        source_name: The whole model as requests name it; goes into the adapters trained on it.
    """

    source: str
    adapter: Path | None
    source_name: str


def locate_base(store: ArtifactStore, name: str, *, allow_hub: bool) -> Base:
    """Finds the base model that a request names; an adapter brings the model that it was trained on.

    Raises:
        TrainerError: BAD_CONFIG; there is no such model, or its directory is broken.
    """
    source = _locate(store, name, allow_hub=allow_hub)
    config = Path(source) / ADAPTER_CONFIG
    if not config.is_file():
        return Base(source, None, name)
    below = str(json.loads(config.read_text(encoding="utf-8")).get("base_model_name_or_path") or "")
    return Base(_locate(store, below, allow_hub=allow_hub), Path(source), below)


def _locate(store: ArtifactStore, name: str, *, allow_hub: bool) -> str:
    try:
        key = store.resolve(name, field="base_model")
        if store.has_manifest(key):
            return str(store.fetch_directory(key))
    except InvalidArgumentError:
        # Not an address of the store.
        pass
    except IlfError as error:
        raise TrainerError(FailureReason.BAD_CONFIG, error.message) from error
    if Path(name).is_dir():
        return str(Path(name).resolve())
    if allow_hub and _HUB_ID.fullmatch(name):
        return name
    raise TrainerError(FailureReason.BAD_CONFIG, f"There is no base model {name!r} in the store or on this machine.")


def load_tokenizer(base: Base) -> Any:
    """The tokenizer of a base model; an adapter's own wins, as it was trained with it."""
    from transformers import AutoTokenizer

    own = base.adapter is not None and (base.adapter / "tokenizer_config.json").is_file()
    return _load(AutoTokenizer, str(base.adapter) if own else base.source)


def window_of(base: Base, tokenizer: Any) -> int:
    """Longest sequence that the model takes, in tokens."""
    from transformers import AutoConfig

    config = _load(AutoConfig, base.source).get_text_config()
    limits = [getattr(config, "max_position_embeddings", None), getattr(tokenizer, "model_max_length", None)]
    return min((int(limit) for limit in limits if limit and limit < _UNBOUNDED), default=_UNBOUNDED)


def load_language_model(base: Base, wanted: Hyperparameters, runtime: Runtime) -> Any:
    """The model to finetune, with a base adapter either kept trainable (LoRA again) or merged into it.

    Full finetuning keeps its weights in float32 and computes in `dtype`; under LoRA the frozen base is held in `dtype`.
    """
    from transformers import AutoModelForCausalLM

    model = _load(AutoModelForCausalLM, base.source, **_options(wanted, runtime))
    if base.adapter is None:
        return model
    from peft import PeftModel

    adapted = PeftModel.from_pretrained(model, base.adapter, is_trainable=wanted.lora is not None)
    if wanted.lora is None:
        return adapted.merge_and_unload().requires_grad_(True)
    if adapted.peft_config["default"].r != wanted.lora.rank:
        raise TrainerError(
            FailureReason.BAD_CONFIG,
            f"the base is an adapter of rank {adapted.peft_config['default'].r}; lora.rank {wanted.lora.rank} cannot "
            "continue it",
        )
    return adapted


def load_reward_model(base: Base, tokenizer: Any, wanted: Hyperparameters, runtime: Runtime) -> Any:
    """The base with a new scoring head of one output, and a padding token of its own."""
    from transformers import AutoModelForSequenceClassification

    options = {**_options(wanted, runtime), "num_labels": 1}
    model = _load(AutoModelForSequenceClassification, base.source, **options)
    if base.adapter is not None:
        raise TrainerError(FailureReason.BAD_CONFIG, "a reward model cannot start from an adapter; merge it first")
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id == tokenizer.eos_token_id:
        tokenizer.add_special_tokens({"pad_token": PAD_TOKEN})
    if len(tokenizer) > model.get_input_embeddings().num_embeddings:
        model.resize_token_embeddings(len(tokenizer))
    model.config.pad_token_id = tokenizer.pad_token_id
    # The score itself, not its sigmoid, for servers that would apply one.
    model.config.problem_type = "regression"
    return model


def lora_config(lora: LoraSpec, *, task: str) -> Any:
    """PEFT's settings for a new adapter; `task` is CAUSAL_LM or SEQ_CLS."""
    from peft import LoraConfig

    return LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=list(lora.target_modules) or "all-linear",
        task_type=task,
    )


def _options(wanted: Hyperparameters, runtime: Runtime) -> dict[str, Any]:
    import torch

    held_in = wanted.dtype if wanted.lora else "float32"
    options: dict[str, Any] = {"dtype": getattr(torch, held_in)}
    if runtime.attention:
        options["attn_implementation"] = runtime.attention
    return options


def _load(kind: Any, source: str, **options: Any) -> Any:
    try:
        return kind.from_pretrained(source, **options)
    except (OSError, ValueError, KeyError) as error:
        raise TrainerError(
            FailureReason.BAD_CONFIG, f"The base model cannot be loaded as {kind.__name__}: {type(error).__name__}"
        ) from error
