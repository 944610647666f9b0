"""How an engine loads and runs its model."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ilf_common.settings import SettingsBase


class EngineSettings(SettingsBase):
    """Settings of one `TextEngine`; each engine reads the fields that it has a use for.

    Attributes:
        kind: Library that runs the model; "auto" takes vLLM where it and a GPU are there, else transformers.
        dtype: Type of the weights; "auto" takes the checkpoint's own on a GPU and float32 on a CPU.
        device: "auto" takes a GPU where there is one.
        device_map: Transformers: spread of the weights over devices ("auto" over all GPUs), None for one device.
        attention: Transformers: attention implementation ("sdpa", "flash_attention_2", "eager"); vLLM: name of the
            attention backend. None leaves the choice to the library.
        compile: Compile the model's forward pass (slow start, quick steps); None compiles where vLLM runs on a GPU.
        max_model_len: Longest sequence of prompt and new tokens; None takes the model's own.
        batch_size: Transformers: sequences that run together. It decides the composition of batches, and therefore the
            last bits of the results: the same for two runs that are to be identical.
        score_logits_mib: Transformers: most memory for one batch's logits in scoring.
        threads: Threads of one operator on a CPU; None leaves the library's choice.
        max_queue: Most requests that wait or run; a call beyond it is refused with RESOURCE_EXHAUSTED.
        max_loras: vLLM: adapters that run in one batch; 0 switches adapters off, which is a little quicker.
        max_lora_rank: Largest rank of an adapter.
        gpu_memory_utilization: vLLM: share of the GPU's memory for weights and KV cache.
        tensor_parallel_size: vLLM: GPUs that share one model.
        kv_cache_gib: vLLM: memory for the KV cache, in GiB; None takes 1 on a CPU, and on a GPU what
            `gpu_memory_utilization` leaves.
        max_in_flight: vLLM: requests of one call that are handed to the engine at once; further ones wait here.
        prefix_caching: vLLM: keep the KV cache of shared prefixes.
        block_size: vLLM: tokens of one block of the KV cache; prefixes are shared in whole blocks. None leaves the
            choice to the library (128 on a CPU).
    """

    kind: Literal["auto", "transformers", "vllm"] = "auto"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    device_map: str | None = None
    attention: str | None = None
    compile: bool | None = None
    max_model_len: int | None = Field(default=None, gt=1)
    batch_size: int = Field(default=128, gt=0)
    score_logits_mib: int = Field(default=512, gt=0)
    threads: int | None = Field(default=None, gt=0)
    max_queue: int = Field(default=16384, gt=0)
    max_loras: int = Field(default=2, ge=0)
    max_lora_rank: int = Field(default=64, gt=0, le=512)
    gpu_memory_utilization: float = Field(default=0.9, gt=0, le=1)
    tensor_parallel_size: int = Field(default=1, gt=0)
    kv_cache_gib: float | None = Field(default=None, gt=0)
    max_in_flight: int = Field(default=512, gt=0)
    prefix_caching: bool = True
    block_size: int | None = Field(default=None, gt=0)
