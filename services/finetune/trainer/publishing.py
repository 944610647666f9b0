"""From a trained model to a published checkpoint: saved, loaded once as the server will load it, then published."""

from __future__ import annotations

import asyncio
import gc
import importlib.metadata
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from ilf_common.artifacts import ArtifactStore
from ilf_common.errors import IlfError
from services.finetune.models import FinetuneKind, Hyperparameters
from services.finetune.trainer.job import TrainerJob
from services.finetune.trainer.loading import ADAPTER_CONFIG, Base
from services.finetune.trainer.outcome import FailureReason, TrainerError

INFO_FILE = "training_info.json"
_STAGING = "staging"
_LIBRARIES = ("torch", "transformers", "trl", "peft", "accelerate")


def already_published(job: TrainerJob, store: ArtifactStore) -> str | None:
    """The digest of what this very job published before it died, or None.

    Raises:
        TrainerError: BAD_CONFIG; something else is published there.
    """
    key = store.resolve(job.spec.output_uri, field="output_uri")
    if not store.has_manifest(key):
        return None
    info = json.loads(store.read_bytes(f"{key}/{INFO_FILE}")) if store.exists(f"{key}/{INFO_FILE}") else {}
    if info.get("job_digest") != job.digest:
        raise TrainerError(
            FailureReason.BAD_CONFIG,
            f"Something else is published at {job.spec.output_uri}; choose another output_uri.",
        )
    return store.read_manifest(key).digest


def stage(
    trainer: Any, job: TrainerJob, base: Base, tokenizer: Any, wanted: Hyperparameters, info: Mapping[str, Any]
) -> Path | None:
    """Saves the trained model as it will be published; every process takes part, only the main one gets the folder.

    Raises:
        TrainerError: NAN_LOSS; the last step broke the weights.
    """
    import torch

    folder = Path(job.work_dir) / _STAGING
    merge = job.spec.merge_adapter or wanted.lora is None or job.spec.kind is FinetuneKind.REWARD_MODEL
    dtype = getattr(torch, wanted.dtype)
    state = trainer.accelerator.get_state_dict(trainer.model) if trainer.is_fsdp_enabled else None
    if not trainer.accelerator.is_main_process:
        return None
    shutil.rmtree(folder, ignore_errors=True)
    model = trainer.accelerator.unwrap_model(trainer.model, keep_torch_compile=False)
    if state is not None:
        _make_whole(model, state)
    if merge and hasattr(model, "merge_and_unload"):
        model = model.merge_and_unload()
    _require_finite(model)
    if merge:
        model = model.to(dtype)
        model.config.use_cache = True
        model.save_pretrained(folder)
    else:
        model.save_pretrained(folder, save_embedding_layers=False)
        _tidy_adapter(folder, base)
    tokenizer.save_pretrained(folder)
    _write_info(folder, job, wanted, info)
    return folder


def _make_whole(model: Any, state: Mapping[str, Any]) -> None:
    """Undoes `fully_shard` on this process, with gathered weights in the places of its shards.

    A sharded module is an instance of (FSDPModule, its class), which refuses every tensor that is no shard.
    """
    from torch.distributed.fsdp import FSDPModule
    from torch.nn import Parameter

    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.__class__ = type(module).__bases__[1]
    for name in [name for name, _ in model.named_parameters(remove_duplicate=False)]:
        path, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(path), leaf, Parameter(state[name], requires_grad=False))
    model.tie_weights()


def _require_finite(model: Any) -> None:
    import torch

    broken = [name for name, value in model.named_parameters() if not torch.isfinite(value).all()]
    if broken:
        raise TrainerError(FailureReason.NAN_LOSS, f"{len(broken)} weights are not finite, the first is {broken[0]}.")


def _tidy_adapter(folder: Path, base: Base) -> None:
    """Makes an adapter's files the same for the same job anywhere: PEFT writes local paths and unordered sets."""
    (folder / "README.md").unlink(missing_ok=True)
    path = folder / ADAPTER_CONFIG
    config = json.loads(path.read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = base.source_name
    for name, value in config.items():
        if isinstance(value, list) and all(isinstance(entry, str) for entry in value):
            config[name] = sorted(value)
    path.write_text(json.dumps(config, indent=2, sort_keys=True), encoding="utf-8")


def _write_info(folder: Path, job: TrainerJob, wanted: Hyperparameters, info: Mapping[str, Any]) -> None:
    """What was trained on what, with every default filled in; nothing of it depends on when or where."""
    template = job.spec.template
    content = {
        "job_digest": job.digest,
        "kind": job.spec.kind.name,
        "base_model": job.spec.base_model,
        "dataset_uri": job.spec.dataset_uri,
        "template_digest": template.digest if template else None,
        "hyperparameters": TypeAdapter(Hyperparameters).dump_python(wanted, mode="json"),
        "merge_adapter": job.spec.merge_adapter,
        **info,
        "versions": {name: importlib.metadata.version(name) for name in _LIBRARIES},
    }
    (folder / INFO_FILE).write_text(json.dumps(content, indent=1, sort_keys=True), encoding="utf-8")


def free_memory() -> None:
    """Gives back what the caller has dropped, the GPU's cache included."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def test_language_model(folder: Path, base: Base, prompt: str, job: TrainerJob) -> None:
    """Loads a staged policy as the refinement service will, and has it write.

    Raises:
        TrainerError: LOAD_TEST_FAILED.
    """
    from ilf_common.engine.build import build_engine
    from ilf_common.engine.port import GenerateRequest, Sampling
    from ilf_common.engine.settings import EngineSettings

    adapter = (folder / ADAPTER_CONFIG).is_file()
    settings = EngineSettings(kind="transformers", device=job.runtime.device, threads=job.runtime.threads or None)

    async def write() -> None:
        engine = build_engine(base.source if adapter else str(folder), settings)
        await engine.start()
        try:
            if adapter:
                await engine.load_adapter("staged", folder)
            sampling = Sampling(n=1, temperature=0.0, max_new_tokens=4)
            request = GenerateRequest(prompt, sampling, seed=0, adapter="staged" if adapter else None)
            async for outcome in engine.generate([request]):
                if outcome.error is not None:
                    raise outcome.error
        finally:
            await engine.stop()

    try:
        asyncio.run(write())
    except IlfError as error:
        raise TrainerError(FailureReason.LOAD_TEST_FAILED, f"The checkpoint does not serve: {error.message}") from error
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise TrainerError(
            FailureReason.LOAD_TEST_FAILED, f"The checkpoint does not load: {type(error).__name__}"
        ) from error


def publish(folder: Path, job: TrainerJob, store: ArtifactStore) -> str:
    """Publishes the staged directory, its manifest last; answers the manifest's digest."""
    key = store.resolve(job.spec.output_uri, field="output_uri")
    digest = store.publish_directory(folder, key).digest
    shutil.rmtree(folder)
    return digest
