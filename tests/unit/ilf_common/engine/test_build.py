from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

from ilf_common.engine.build import build_engine
from ilf_common.engine.settings import EngineSettings
from ilf_common.engine.transformers_engine import TransformersEngine
from ilf_common.errors import FailedPreconditionError, UnavailableError


def test_without_a_gpu_the_choice_is_transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert isinstance(build_engine("model", EngineSettings()), TransformersEngine)


def test_a_library_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FailedPreconditionError, match="vllm") as caught:
        build_engine("model", EngineSettings(kind="vllm"))
    assert caught.value.reason == "ENGINE_MISSING"


def test_choosing_imports_no_heavy_library() -> None:
    code = "import sys, ilf_common.engine.build; print(sorted({'torch', 'transformers', 'vllm'} & set(sys.modules)))"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.strip() == "[]"


async def test_an_engine_that_was_not_started_is_unavailable() -> None:
    engine = TransformersEngine("model", EngineSettings())
    with pytest.raises(UnavailableError):
        await engine.check_health()
    with pytest.raises(UnavailableError):
        engine.encode("text")
