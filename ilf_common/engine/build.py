"""Chooses the engine; the heavy libraries are imported only when theirs is chosen."""

from __future__ import annotations

import importlib.util

from ilf_common.engine.port import TextEngine
from ilf_common.engine.settings import EngineSettings
from ilf_common.errors import FailedPreconditionError


def build_engine(source: str, settings: EngineSettings) -> TextEngine:
    """Returns the engine for a model, not yet started.

    Args:
        source: Directory or hub id of the model.
        settings: `kind` decides; "auto" is vLLM where it is installed and a GPU is there, else transformers.

    Raises:
        FailedPreconditionError: reason ENGINE_MISSING; the library asked for is not installed.
    """
    kind = _preferred(settings) if settings.kind == "auto" else settings.kind
    if importlib.util.find_spec(kind) is None:
        raise FailedPreconditionError(
            f"The engine {kind} is not installed; install it, or set the engine's kind to another one.",
            reason="ENGINE_MISSING",
        )
    if kind == "vllm":
        from ilf_common.engine.vllm_engine import VllmEngine

        return VllmEngine(source, settings)
    from ilf_common.engine.transformers_engine import TransformersEngine

    return TransformersEngine(source, settings)


def _preferred(settings: EngineSettings) -> str:
    if settings.device == "cpu" or importlib.util.find_spec("vllm") is None:
        return "transformers"
    import torch

    return "vllm" if torch.cuda.is_available() else "transformers"
