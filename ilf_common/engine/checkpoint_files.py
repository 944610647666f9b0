"""What a checkpoint's or an adapter's directory holds, checked before an engine changes anything."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from ilf_common.errors import FailedPreconditionError

Shapes = Mapping[str, tuple[int, ...]]

_UNSUPPORTED = {
    "use_dora": "DoRA",
    "modules_to_save": "modules_to_save (fully trained modules beside the adapter)",
    "trainable_token_indices": "trained token embeddings",
}
_ROUTERS = frozenset({"gate", "router", "shared_expert_gate"})


def shapes_of(tensors: Iterable[tuple[str, torch.Tensor]]) -> Shapes:
    """Shapes by tensor name."""
    return {name: tuple(tensor.shape) for name, tensor in tensors}


def model_shapes(source: str | Path) -> Shapes:
    """Shapes of a model's tensors, from its configuration alone."""
    return shapes_of(_empty_model(source).state_dict().items())


def linear_shapes(source: str | Path) -> Shapes:
    """Shapes of the weights of a model's linear layers, its output head and routers excepted."""
    model = _empty_model(source)
    return {
        f"{name}.weight": tuple(module.weight.shape)
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear)
        and module is not model.get_output_embeddings()
        and name.rpartition(".")[2] not in _ROUTERS
    }


def check_same_kind(source: str, path: Path) -> None:
    """Refuses a checkpoint whose weights cannot take the place of the model's.

    Args:
        source: Directory or hub id of the model that runs.
        path: Directory of the checkpoint.

    Raises:
        FailedPreconditionError: reason CHECKPOINT_UNSUPPORTED; another architecture, other shapes or another tokenizer.
    """
    from transformers import AutoConfig, AutoTokenizer

    ours, theirs = AutoConfig.from_pretrained(source), AutoConfig.from_pretrained(path)
    if ours.architectures != theirs.architectures:
        raise unsupported(f"The checkpoint is a {theirs.architectures}, the engine runs a {ours.architectures}.")
    if model_shapes(source) != model_shapes(path):
        raise unsupported("The checkpoint's tensors differ in name or shape from the engine's.")
    if AutoTokenizer.from_pretrained(source).get_vocab() != AutoTokenizer.from_pretrained(path).get_vocab():
        raise unsupported("The checkpoint's tokenizer differs from the engine's; load it into an engine of its own.")


def check_adapter(path: Path, base: Shapes, *, max_rank: int) -> None:
    """Refuses a directory that holds no LoRA adapter for this base, or one that cannot be served.

    Args:
        path: Directory of the adapter.
        base: Shapes of the base model's weights that the engine can adapt.
        max_rank: Largest rank that the engine takes.

    Raises:
        FailedPreconditionError: reason CHECKPOINT_UNSUPPORTED.
    """
    config = _read_config(path)
    if config.get("peft_type") != "LORA":
        raise unsupported(f"The adapter's type is {config.get('peft_type')}; only LORA can be served.")
    if config.get("bias", "none") != "none":
        raise unsupported(f"The adapter trains biases (bias={config['bias']}); train it with bias=none.")
    for key, meaning in _UNSUPPORTED.items():
        if config.get(key):
            raise unsupported(f"The adapter uses {meaning}, which cannot be served; merge it into its base instead.")
    rank = max([config["r"], *(config.get("rank_pattern") or {}).values()])
    if rank > max_rank:
        raise unsupported(f"The adapter's rank is {rank}; this engine was started with max_lora_rank={max_rank}.")
    _check_matrices(path, base)


def unsupported(message: str) -> FailedPreconditionError:
    """The error for a checkpoint that an engine cannot take."""
    return FailedPreconditionError(message, reason="CHECKPOINT_UNSUPPORTED")


def _empty_model(source: str | Path) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(source))


def _read_config(path: Path) -> dict[str, Any]:
    if not (path / "adapter_config.json").is_file():
        raise unsupported(f"{path.name} holds no adapter_config.json, so it is no PEFT adapter.")
    if not (path / "adapter_model.safetensors").is_file():
        raise unsupported(f"{path.name} holds no adapter_model.safetensors; save the adapter with safetensors.")
    config: dict[str, Any] = json.loads((path / "adapter_config.json").read_text(encoding="utf-8"))
    return config


def _check_matrices(path: Path, base: Shapes) -> None:
    """A (rank, inputs) and B (outputs, rank) of every adapted module must fit the module's weight (outputs, inputs)."""
    with safe_open(path / "adapter_model.safetensors", framework="pt") as file:
        for key in file.keys():  # noqa: SIM118  # not a mapping
            module, _, matrix = key.removeprefix("base_model.model.").rpartition(".lora_")
            weight = base.get(f"{module}.weight")
            if weight is None:
                raise unsupported(f"The adapter adapts {module or key}, which this engine cannot adapt.")
            rows, columns = file.get_slice(key).get_shape()
            fits = columns == weight[1] if matrix.startswith("A") else rows == weight[0]
            # Embeddings are adapted by transposed matrices without ".weight"; PEFT and vLLM check those themselves.
            if matrix in ("A.weight", "B.weight") and not fits:
                raise unsupported(f"The adapter does not fit {module}: another base model was adapted.")
