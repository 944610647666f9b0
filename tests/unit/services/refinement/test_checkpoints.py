from __future__ import annotations

import json
from pathlib import Path

import pytest

from ilf_common.artifacts import ArtifactStore
from ilf_common.errors import FailedPreconditionError
from services.refinement.adapters.checkpoints import ArtifactCheckpoints, ModelSources


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(str(tmp_path / "artifacts"))


def publish(store: ArtifactStore, folder: Path, files: dict[str, str]) -> None:
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_text(content)
    store.publish_directory(folder, "c")


async def test_adapter_says_its_base_and_its_largest_rank(store: ArtifactStore, tmp_path: Path) -> None:
    config = {"peft_type": "LORA", "r": 8, "rank_pattern": {"q_proj": 32}, "base_model_name_or_path": "org/base"}
    publish(store, tmp_path / "draft", {"adapter_config.json": json.dumps(config), "adapter_model.safetensors": "w"})

    checkpoint = await ArtifactCheckpoints(store).open("c")

    assert checkpoint.adapter is not None
    assert (checkpoint.adapter.peft_type, checkpoint.adapter.rank, checkpoint.adapter.base) == ("LORA", 32, "org/base")
    assert checkpoint.digest == store.read_manifest("c").digest


@pytest.mark.parametrize("config", ["", "[]", "{}", '{"peft_type": "LORA", "r": "x"}'])
async def test_adapter_with_a_damaged_config_is_unsupported(store: ArtifactStore, tmp_path: Path, config: str) -> None:
    publish(store, tmp_path / "draft", {"adapter_config.json": config})

    with pytest.raises(FailedPreconditionError) as caught:
        await ArtifactCheckpoints(store).open("c")
    assert caught.value.reason == "CHECKPOINT_UNSUPPORTED"


async def test_digest_of_a_local_source_follows_its_files_and_that_of_a_hub_id_its_name(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    sources = ModelSources()
    before = await sources.digest(str(tmp_path))
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "lock").write_text("hidden")
    unchanged = await sources.digest(str(tmp_path))
    (tmp_path / "model.safetensors").write_text("w")

    assert before == unchanged != await sources.digest(str(tmp_path))
    assert await sources.digest("org/one") != await sources.digest("org/two")


async def test_models_are_told_apart_by_name_or_by_shape(tmp_path: Path) -> None:
    for name, size in (("one", 8), ("copy", 8), ("other", 16)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps({"hidden_size": size, "version": name}))
    one, copy, other = (str(tmp_path / name) for name in ("one", "copy", "other"))
    sources = ModelSources()

    assert await sources.same_model(one, copy)
    assert not await sources.same_model(one, other)
    assert await sources.same_model("org/one", "org/one")
    assert not await sources.same_model("org/one", "org/two")
    assert await sources.same_model("/not/on/this/machine", one)
