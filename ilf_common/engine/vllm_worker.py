"""Runs inside vLLM's worker processes, which load it by name (`worker_extension_cls`)."""

from __future__ import annotations

import hashlib
from typing import Any


class WeightReader:
    """Added to vLLM's worker class: reads back what the worker holds."""

    model_runner: Any

    def ilf_adapter_digests(self, adapter_id: int) -> dict[str, str]:
        """Digest of each matrix of a loaded LoRA adapter, by module name; empty when it is not loaded."""
        import torch

        adapter = self.model_runner.lora_manager._adapter_manager.get_adapter(adapter_id)
        if adapter is None:
            return {}
        digests: dict[str, str] = {}
        for name, weights in adapter.loras.items():
            digest = hashlib.sha256()
            for matrix in _matrices(weights):
                digest.update(matrix.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
            digests[name] = digest.hexdigest()
        return digests


def _matrices(weights: Any) -> list[Any]:
    """The matrices of one module; modules that vLLM fuses (q, k and v) hold lists with gaps."""
    found: list[Any] = []
    for part in (weights.lora_a, weights.lora_b):
        found += [one for one in (part if isinstance(part, list) else [part]) if one is not None]
    return found
