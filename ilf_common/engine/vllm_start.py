"""Starts vLLM: its environment, its arguments, its processes."""

from __future__ import annotations

import os
from typing import Any, get_args

from ilf_common.engine.checkpoint_files import linear_shapes
from ilf_common.engine.settings import EngineSettings

_GIB = 2**30
# Adapters kept in memory beyond those in use, so that switching between versions does not read files again.
_ADAPTERS_AT_HAND = 16


def start_async_llm(source: str, settings: EngineSettings) -> Any:
    """Loads a model and returns its AsyncLLM; blocks for as long as that takes.

    Args:
        source: Directory or hub id.
        settings: How to load it.
    """
    _prepare_environment(settings)
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.v1.engine.async_llm import AsyncLLM

    return AsyncLLM.from_engine_args(AsyncEngineArgs(**vllm_arguments(source, settings)))


def _prepare_environment(settings: EngineSettings) -> None:
    """Variables that vLLM reads at import or hands to its processes; what the user has set stays."""
    variables = {
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "VLLM_LOGGING_LEVEL": "WARNING",
        # A fork of a process with threads (gRPC, torch) can hang.
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
    }
    if settings.threads is not None:
        variables["OMP_NUM_THREADS"] = str(settings.threads)
    for name, value in variables.items():
        os.environ.setdefault(name, value)


def vllm_arguments(source: str, settings: EngineSettings) -> dict[str, Any]:
    """Arguments of vLLM's engines, offline or not, for a model."""
    import torch

    on_gpu = torch.cuda.is_available() and settings.device != "cpu"
    compiled = on_gpu if settings.compile is None else settings.compile
    kv_cache_gib = settings.kv_cache_gib or (None if on_gpu else 1.0)
    return {
        "model": source,
        "dtype": _dtype(settings, on_gpu),
        "max_model_len": settings.max_model_len,
        "enforce_eager": not compiled,
        "enable_prefix_caching": settings.prefix_caching,
        "block_size": settings.block_size,
        # A seeded request whose prefill is cut in two kills vLLM on a CPU: it rewinds the generator, and only
        # those of GPUs can be rewound.
        "enable_chunked_prefill": None if on_gpu else False,
        "gpu_memory_utilization": settings.gpu_memory_utilization,
        "kv_cache_memory_bytes": None if kv_cache_gib is None else int(kv_cache_gib * _GIB),
        "tensor_parallel_size": settings.tensor_parallel_size,
        "attention_backend": settings.attention,
        "worker_extension_cls": "ilf_common.engine.vllm_worker.WeightReader",
        # The checkpoint's own sampling defaults must not change what a request asks for.
        "generation_config": "vllm",
        "disable_log_stats": True,
        **_adapter_arguments(source, settings),
    }


def _dtype(settings: EngineSettings, on_gpu: bool) -> str:
    return "float32" if settings.dtype == "auto" and not on_gpu else settings.dtype


def _adapter_arguments(source: str, settings: EngineSettings) -> dict[str, Any]:
    if settings.max_loras == 0:
        return {"enable_lora": False}
    from vllm.config.lora import MaxLoRARanks

    names = {name.removesuffix(".weight").rpartition(".")[2] for name in linear_shapes(source)}
    return {
        "enable_lora": True,
        # Without the output head: vLLM dies, or errs, on log-probabilities of a prompt when the head can be adapted.
        "lora_target_modules": sorted(names),
        "max_loras": settings.max_loras,
        "max_cpu_loras": max(settings.max_loras, _ADAPTERS_AT_HAND),
        "max_lora_rank": min(rank for rank in get_args(MaxLoRARanks) if rank >= settings.max_lora_rank),
    }
