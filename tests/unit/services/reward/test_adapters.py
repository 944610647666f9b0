from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from ilf_common.artifacts import ArtifactStore
from ilf_common.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError
from services.reward.adapters.artifact_checkpoints import ArtifactCheckpoints
from services.reward.adapters.json_memory import JsonMemory
from services.reward.models import StoredModel


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    memory = JsonMemory(tmp_path / "state" / "models.json")
    assert memory.read() == {}
    models = {name: StoredModel(name, f"rm/{name}", "d", datetime(2026, 1, 2, tzinfo=UTC)) for name in ("a", "ä/2")}
    memory.write(models)
    assert memory.read() == models
    memory.write({})
    assert memory.read() == {}


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": 2, "reward_models": []}', '{"format": 1}'])
def test_a_foreign_state_file_is_refused_with_what_to_do(tmp_path: Path, content: str) -> None:
    file = tmp_path / "models.json"
    file.write_text(content)
    with pytest.raises(FailedPreconditionError, match="Delete it") as caught:
        JsonMemory(file).read()
    assert caught.value.reason == "STATE_BROKEN"


def test_checkpoints_are_verified_against_their_manifest(tmp_path: Path) -> None:
    store = ArtifactStore(str(tmp_path / "store"))
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    manifest = store.publish_directory(folder, "rm/a")
    checkpoints = ArtifactCheckpoints(store)
    assert checkpoints.digest("rm/a") == manifest.digest
    assert (checkpoints.fetch("rm/a") / "config.json").read_text() == "{}"
    (checkpoints.fetch("rm/a") / "config.json").write_text("[]")
    with pytest.raises(FailedPreconditionError) as broken:
        checkpoints.fetch("rm/a")
    assert broken.value.reason == "CHECKPOINT_BROKEN"
    with pytest.raises(NotFoundError):
        checkpoints.digest("rm/none")
    with pytest.raises(InvalidArgumentError) as outside:
        checkpoints.digest("../secret")
    assert outside.value.reason == "URI_OUTSIDE_STORE"
