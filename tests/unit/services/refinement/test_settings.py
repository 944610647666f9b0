from __future__ import annotations

import pytest

from ilf_common.errors import InvalidArgumentError
from ilf_common.settings import load_settings
from services.refinement.settings import RefinementSettings


def test_defaults_need_no_file() -> None:
    settings = load_settings(RefinementSettings, "refinement", {})

    assert (settings.server.port, settings.server.metrics_port) == (50051, 9101)
    assert settings.models == {}


def test_models_come_as_json() -> None:
    settings = load_settings(RefinementSettings, "refinement", {"ILF_REFINEMENT__MODELS": '{"policy": "/models/one"}'})

    assert settings.models == {"policy": "/models/one"}


@pytest.mark.parametrize("models", ['{"": "/a"}', '{"a b": "/a"}', '{"a": ""}'])
def test_models_need_a_name_that_requests_can_use_and_a_source(models: str) -> None:
    with pytest.raises(InvalidArgumentError, match="ILF_REFINEMENT__MODELS"):
        load_settings(RefinementSettings, "refinement", {"ILF_REFINEMENT__MODELS": models})
