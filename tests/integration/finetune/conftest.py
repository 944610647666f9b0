"""Tiny models, tiny datasets, and jobs on them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ilf_common.artifacts import ArtifactStore
from ilf_common.templates import PromptTemplate
from services.finetune.models import FinetuneKind, FinetuneSpec, Hyperparameters
from services.finetune.trainer.job import Runtime, TrainerJob
from services.finetune.trainer.outcome import TrainerResult, read_result
from services.finetune.trainer.stop import StopFlag
from tests.tiny_models import build_tiny_model, tiny_sentence

TEMPLATE = PromptTemplate("policy", "text: {context} output:", target_prefix=" ")


@pytest.fixture(scope="session")
def base_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("base"))


@dataclass
class Workshop:
    """A store with datasets, and jobs that train on them in this process."""

    folder: Path
    base_model: Path

    @property
    def store(self) -> ArtifactStore:
        return ArtifactStore(str(self.folder / "store"))

    def write_rows(self, name: str, rows: Sequence[dict[str, Any]]) -> str:
        self.store.write_bytes(f"data/{name}.jsonl", "\n".join(map(json.dumps, rows)).encode())
        return f"data/{name}.jsonl"

    def job(self, name: str, dataset: str, *, work: str | None = None, **changes: Any) -> TrainerJob:
        """A job named `name`; keywords are fields of the spec, or hyperparameters."""
        fields = {key: changes.pop(key) for key in list(changes) if key in FinetuneSpec.__dataclass_fields__}
        defaults: dict[str, Any] = {
            "kind": FinetuneKind.SFT,
            "base_model": str(self.base_model),
            "dataset_uri": dataset,
            "output_uri": f"out/{name}",
            "template": TEMPLATE,
            "hyperparameters": Hyperparameters(**{"learning_rate": 1e-3, **changes}),
        }
        return TrainerJob(
            name,
            FinetuneSpec(**{**defaults, **fields}),
            str(self.folder / "store"),
            str(self.folder / "work" / (work or name)),
            Runtime(device="cpu", threads=1),
        )

    def run(self, job: TrainerJob, stop: StopFlag | None = None) -> TrainerResult:
        from services.finetune.trainer.run import run_job

        run_job(job, stop or StopFlag())
        result = read_result(Path(job.work_dir))
        assert result is not None
        return result

    def weights(self, job: TrainerJob) -> dict[str, Any]:
        """Tensors of a published checkpoint by name."""
        from safetensors.torch import load_file

        return load_file(self.store.local_path(job.spec.output_uri) / "model.safetensors")


@pytest.fixture
def workshop(tmp_path: Path, base_model: Path) -> Workshop:
    return Workshop(tmp_path, base_model)


def reversals(count: int, start: int = 0) -> list[dict[str, Any]]:
    """SFT rows whose completion is the context backwards."""
    contexts = [tiny_sentence(seed, words=4 + seed % 5) for seed in range(start, start + count)]
    return [
        {"item_id": f"item-{start + i}", "context": text, "completion": " ".join(reversed(text.split()))}
        for i, text in enumerate(contexts)
    ]
