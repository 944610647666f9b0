from pathlib import Path

import pytest

from ilf_common.artifacts import ArtifactStore
from ilf_common.errors import InvalidArgumentError, NotFoundError
from services.finetune.adapters.artifact_sources import ArtifactSources


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    store = ArtifactStore(str(tmp_path / "store"))
    store.write_bytes("data/rows.jsonl", b"{}")
    store.write_bytes("data/rows.csv", b"a,b")
    store.write_bytes("checkpoints/one/model.bin", b"x")
    store.publish_manifest("checkpoints/one")
    return store


def sources(store: ArtifactStore, tmp_path: Path, *, allow_hub: bool = False) -> ArtifactSources:
    for name in ("named", "roots/inside", "outside"):
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
    models = {"base": str(tmp_path / "named"), "hub": "org/model"}
    return ArtifactSources(store, models, [tmp_path / "roots"], allow_hub=allow_hub)


def test_what_the_operator_allows_is_found(store: ArtifactStore, tmp_path: Path) -> None:
    found = sources(store, tmp_path)
    assert found.resolve_base("base") == str(tmp_path / "named")
    assert found.resolve_base(str(tmp_path / "named")) == str(tmp_path / "named")
    assert found.resolve_base(str(tmp_path / "roots/inside")) == str(tmp_path / "roots/inside")
    assert found.resolve_base("hub") == "org/model"
    assert found.resolve_base("checkpoints/one") == store.uri("checkpoints/one")
    assert found.resolve_base(store.uri("checkpoints/one")) == store.uri("checkpoints/one")


def test_a_configured_directory_that_only_the_trainers_have_is_known(tmp_path: Path) -> None:
    found = ArtifactSources(ArtifactStore(str(tmp_path / "store")), {"base": "/in/the/image"}, [], allow_hub=False)
    assert found.resolve_base("base") == found.resolve_base("/in/the/image") == "/in/the/image"
    with pytest.raises(InvalidArgumentError):
        found.resolve_base("/in/the/image/..")


@pytest.mark.parametrize("name", ["outside", "roots/../outside", "/etc"])
def test_other_directories_are_refused(store: ArtifactStore, tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidArgumentError) as raised:
        sources(store, tmp_path).resolve_base(str(tmp_path / name))
    assert raised.value.violations[0].field == "spec.base_model"


def test_hub_ids_need_the_operators_leave(store: ArtifactStore, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError) as raised:
        sources(store, tmp_path).resolve_base("org/other")
    assert raised.value.reason == "CHECKPOINT_NOT_FOUND"
    assert sources(store, tmp_path, allow_hub=True).resolve_base("org/other") == "org/other"


def test_a_uri_outside_the_store_says_so(store: ArtifactStore, tmp_path: Path) -> None:
    found = sources(store, tmp_path)
    for check in (found.resolve_base, found.check_dataset, found.resolve_output):
        with pytest.raises(InvalidArgumentError) as raised:
            check("s3://elsewhere/thing")
        assert raised.value.reason == "URI_OUTSIDE_STORE"
    with pytest.raises(InvalidArgumentError):
        found.check_dataset("../rows.jsonl")


def test_datasets_must_exist_and_be_readable(store: ArtifactStore, tmp_path: Path) -> None:
    found = sources(store, tmp_path)
    found.check_dataset("data/rows.jsonl")
    found.check_dataset("checkpoints/one")
    with pytest.raises(NotFoundError) as raised:
        found.check_dataset("data/none.jsonl")
    assert raised.value.reason == "DATASET_NOT_FOUND"
    with pytest.raises(InvalidArgumentError):
        found.check_dataset("data/rows.csv")


def test_one_output_has_one_name(store: ArtifactStore, tmp_path: Path) -> None:
    found = sources(store, tmp_path)
    assert found.resolve_output("out/a") == found.resolve_output(store.uri("out/a")) == found.resolve_output("out/a/")
