"""A transformers model with its adapters: loads, swaps and reads back weights, and runs padded batches."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from ilf_common.engine.checkpoint_files import check_adapter, check_same_kind, shapes_of
from ilf_common.engine.key_value_cache import is_fully_reserved, reserved_cache
from ilf_common.engine.prompt_encoder import PromptEncoder
from ilf_common.engine.settings import EngineSettings
from ilf_common.errors import NotFoundError

_FALLBACK_MODEL_LEN = 2048


class CausalModel:
    """A loaded causal language model; used from one thread only.

    Args:
        source: Directory or hub id.
        settings: How to load it.

    Attributes:
        encoder: Encodes texts for it.
        max_model_len: Longest sequence of prompt and new tokens.
        stop_token_ids: Tokens that end a sample.
    """

    def __init__(self, source: str, settings: EngineSettings) -> None:
        if settings.threads is not None:
            torch.set_num_threads(settings.threads)
        self._source = source
        self._settings = settings
        self._device = _choose_device(settings)
        self._model = self._load(source, device=self._device)
        self._tokenizer = AutoTokenizer.from_pretrained(source)
        self._adapted: Any = None
        self._adapter_slots: dict[str, str] = {}
        self._adapters_loaded = 0
        self.encoder = PromptEncoder(self._tokenizer)
        self.stop_token_ids = self.encoder.stop_token_ids | _configured_eos(self._model)
        self.max_model_len = settings.max_model_len or _model_len(self._model, self._tokenizer)
        if settings.compile:
            self._model.compile(dynamic=True)

    @property
    def device(self) -> torch.device:
        """Where inputs go."""
        return self._device

    @property
    def config(self) -> Any:
        """The model's configuration."""
        return self._model.config

    @property
    def has_full_attention(self) -> bool:
        """Every layer attends to every position, so padding between positions does no harm."""
        return is_fully_reserved(reserved_cache(self._model.config, 0))

    def forward(
        self, ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor, *, keep: int, cache: Any = None
    ) -> torch.Tensor:
        """Runs one padded batch.

        Args:
            ids: Shape (rows, new positions).
            mask: Shape (rows, cached and new positions); 0 where there is padding.
            positions: Shape (rows, new positions).
            keep: Logits of this many last positions are computed.
            cache: KV cache that is read and extended, or None.

        Returns:
            float32 logits, shape (rows, keep, vocabulary).
        """
        output = self._model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=cache is not None,
            logits_to_keep=keep,
        )
        logits: torch.Tensor = output.logits
        return logits.to(device=self._device, dtype=torch.float32)

    @contextmanager
    def using(self, adapter: str | None) -> Iterator[None]:
        """Switches to an adapter, or to the bare model, for the body.

        Raises:
            NotFoundError: No such adapter is loaded.
        """
        if adapter is not None:
            self._adapted.set_adapter(self._slot(adapter))
            yield
        elif self._adapted is not None:
            with self._adapted.disable_adapter():
                yield
        else:
            yield

    def check_adapter(self, name: str | None) -> None:
        """Raises NotFoundError unless the adapter is loaded (None is the bare model)."""
        if name is not None:
            self._slot(name)

    def load_adapter(self, name: str, path: Path) -> None:
        """As `TextEngine.load_adapter`."""
        check_adapter(path, shapes_of(self._base_tensors()), max_rank=self._settings.max_lora_rank)
        # PEFT puts the name into module paths, where a dot is not allowed, so it gets a plain one of its own.
        self._adapters_loaded += 1
        slot = f"adapter{self._adapters_loaded}"
        if self._adapted is None:
            from peft import PeftModel

            self._adapted = PeftModel.from_pretrained(
                self._model, path, adapter_name=slot, autocast_adapter_dtype=False
            ).eval()
        else:
            self._adapted.load_adapter(path, adapter_name=slot, autocast_adapter_dtype=False)
        self._adapter_slots[name] = slot

    def unload_adapter(self, name: str) -> None:
        """As `TextEngine.unload_adapter`."""
        slot = self._adapter_slots.pop(name, None)
        if slot is None:
            return
        if self._adapter_slots:
            self._adapted.set_adapter(next(iter(self._adapter_slots.values())))
            self._adapted.delete_adapter(slot)
        else:
            self._adapted.unload()
            self._adapted = None

    def reload_weights(self, path: Path) -> None:
        """As `TextEngine.reload_weights`; nothing is changed unless every tensor fits."""
        check_same_kind(self._source, path)
        new = self._load(str(path), device=torch.device("cpu")).state_dict()
        with torch.no_grad():
            for name, tensor in self._base_tensors():
                tensor.copy_(new[name])

    def weights_checksum(self, adapter: str | None) -> str:
        """As `TextEngine.weights_checksum`."""
        tensors = self._base_tensors() if adapter is None else self._adapter_tensors(self._slot(adapter))
        digest = hashlib.sha256()
        for name, tensor in sorted(tensors):
            digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()

    def _load(self, source: str, *, device: torch.device) -> Any:
        settings = self._settings
        dtype: Any = settings.dtype if settings.dtype == "auto" else getattr(torch, settings.dtype)
        if settings.dtype == "auto" and self._device.type == "cpu":
            dtype = torch.float32
        spread = settings.device_map if device.type != "cpu" else None
        model = AutoModelForCausalLM.from_pretrained(
            source, dtype=dtype, device_map=spread, attn_implementation=settings.attention
        )
        # torch picks kernels by `requires_grad`, and PEFT switches it off: without this the first adapter to be loaded
        # would change the last bits of the bare model's results.
        return (model if spread else model.to(device)).eval().requires_grad_(False)

    def _slot(self, adapter: str) -> str:
        slot = self._adapter_slots.get(adapter)
        if slot is None:
            raise NotFoundError(
                f"No adapter {adapter} is loaded.",
                resource_type="adapter",
                resource_name=adapter,
                reason="ADAPTER_NOT_FOUND",
            )
        return slot

    def _base_tensors(self) -> list[tuple[str, torch.Tensor]]:
        state = self._model.state_dict()
        return [(name.replace(".base_layer.", "."), tensor) for name, tensor in state.items() if ".lora_" not in name]

    def _adapter_tensors(self, slot: str) -> list[tuple[str, torch.Tensor]]:
        state = self._model.state_dict()
        return [(name.replace(slot, "adapter"), tensor) for name, tensor in state.items() if f".{slot}." in name]


def padded(
    sequences: Sequence[Sequence[int]], pad_id: int, *, left: bool, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Ids, mask and positions of a batch, each of shape (rows, longest)."""
    longest = max(len(sequence) for sequence in sequences)
    ids, mask = [], []
    for sequence in sequences:
        gap = longest - len(sequence)
        fill, off, on = [pad_id] * gap, [0] * gap, [1] * len(sequence)
        ids.append([*fill, *sequence] if left else [*sequence, *fill])
        mask.append([*off, *on] if left else [*on, *off])
    mask_tensor = torch.tensor(mask, device=device)
    positions = (mask_tensor.cumsum(dim=-1) - 1).clamp(min=0)
    return torch.tensor(ids, device=device), mask_tensor, positions


def is_fatal(error: Exception) -> bool:
    """A broken device context never recovers; running out of memory does."""
    return isinstance(error, torch.AcceleratorError) and not isinstance(error, torch.OutOfMemoryError)


def _choose_device(settings: EngineSettings) -> torch.device:
    if settings.device != "auto":
        return torch.device(settings.device)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _configured_eos(model: Any) -> frozenset[int]:
    generation = getattr(model, "generation_config", None)
    eos = getattr(generation, "eos_token_id", None)
    if eos is None:
        return frozenset()
    return frozenset([eos] if isinstance(eos, int) else eos)


def _model_len(model: Any, tokenizer: Any) -> int:
    positions = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return int(min(positions or _FALLBACK_MODEL_LEN, tokenizer.model_max_length))
