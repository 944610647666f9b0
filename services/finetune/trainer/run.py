"""One job from its file to its published checkpoint."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers.utils.logging import disable_progress_bar

from ilf_common.artifacts import ArtifactStore
from ilf_common.engine.prompt_encoder import PromptEncoder
from ilf_common.errors import IlfError
from services.finetune.models import FinetuneKind, Hyperparameters, Progress
from services.finetune.trainer import publishing
from services.finetune.trainer.checkpoints import CHECKPOINTS
from services.finetune.trainer.data import read_sft_items
from services.finetune.trainer.encoding import EncodedPair, answer_items, encode_items
from services.finetune.trainer.job import TrainerJob, resolve
from services.finetune.trainer.loading import (
    Base,
    load_language_model,
    load_reward_model,
    load_tokenizer,
    locate_base,
    window_of,
)
from services.finetune.trainer.outcome import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_PEER_LOST,
    FailureReason,
    TrainerError,
    TrainerResult,
    read_progress,
    read_result,
    write_progress,
    write_result,
)
from services.finetune.trainer.stop import StopFlag
from services.finetune.trainer.training import run_training, uses_gpu

_PROCESSES = int(os.environ.get("WORLD_SIZE", "1"))
_IS_MAIN = os.environ.get("RANK", "0") == "0"


def run_job(job: TrainerJob, stop: StopFlag) -> int:
    """Runs a job and writes its result file.

    Returns:
        The exit code: 0, `EXIT_FAILED`, `EXIT_INTERRUPTED` or `EXIT_PEER_LOST`. What is nobody's fault but this
        program's is raised.
    """
    work_dir = Path(job.work_dir)
    work_dir.mkdir(parents=True, exist_ok=True)
    earlier = read_result(work_dir)
    if earlier is not None:
        return EXIT_FAILED if earlier.reason else 0
    disable_progress_bar()
    if job.runtime.threads:
        torch.set_num_threads(job.runtime.threads)
    try:
        return _conclude(job, stop)
    except (ConnectionError, RuntimeError) as error:
        if not _is_lost_peer(error):
            raise
        print(f"another process of the group is gone: {type(error).__name__}", flush=True)  # noqa: T201 - the job's log
        return EXIT_PEER_LOST
    finally:
        _leave_process_group()


def _conclude(job: TrainerJob, stop: StopFlag) -> int:
    try:
        result = _run(job, stop)
    except TrainerError as error:
        result = TrainerResult(reason=error.reason, message=error.message)
    except IlfError as error:
        result = TrainerResult(reason=FailureReason.BAD_CONFIG, message=error.message)
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        result = TrainerResult(
            reason=FailureReason.OUT_OF_MEMORY,
            message="Out of memory. Lower micro_batch_size or max_length, or set gradient_checkpointing or lora.",
        )
    if result is None:
        return EXIT_INTERRUPTED
    if _IS_MAIN or result.reason:
        _finish(Path(job.work_dir), result)
    if result.reason:
        return EXIT_FAILED
    if _in_process_group():
        # Nobody leaves before the result is written: a process that was gone could not help the others to a new start.
        torch.distributed.barrier()
    return 0


def _run(job: TrainerJob, stop: StopFlag) -> TrainerResult | None:
    """The job's result; None when it was asked to stop."""
    store = ArtifactStore(job.store_root)
    published = publishing.already_published(job, store)
    if published is not None:
        return TrainerResult(checkpoint_digest=published, message="Published by an earlier attempt.")
    base = locate_base(store, job.spec.base_model, allow_hub=job.runtime.allow_hub)
    tokenizer = load_tokenizer(base)
    wanted = resolve(
        job.spec.hyperparameters,
        window=window_of(base, tokenizer),
        processes=_PROCESSES,
        on_gpu=uses_gpu(job.runtime),
    )
    if stop.requested:
        return None
    train = _train_policy if job.spec.kind is FinetuneKind.SFT else _train_reward_model
    return train(job, store, base, tokenizer, wanted, stop)


def _train_policy(
    job: TrainerJob, store: ArtifactStore, base: Base, tokenizer: Any, wanted: Hyperparameters, stop: StopFlag
) -> TrainerResult | None:
    from services.finetune.trainer.sft import build_sft_trainer

    template = job.spec.template
    if template is None:
        raise TrainerError(FailureReason.BAD_CONFIG, "SFT needs a template that renders the context.")
    items = read_sft_items(store, store.resolve(job.spec.dataset_uri, field="dataset_uri"))
    encoded = encode_items(
        items,
        PromptEncoder(tokenizer, chat=True),
        template,
        prompt_loss_weight=wanted.prompt_loss_weight,
        max_length=wanted.max_length,
    )
    rows = [row for item in encoded for row in item.rows]
    data = {"items": len(items), "rows": len(rows), "tokens": sum(len(row.input_ids) for row in rows)}
    trainer = build_sft_trainer(
        load_language_model(base, wanted, job.runtime),
        tokenizer,
        encoded,
        wanted,
        job.runtime,
        Path(job.work_dir),
        processes=_PROCESSES,
    )
    prompt = template.render(context=items[0].rows[0].context)

    def test(folder: Path) -> dict[str, float]:
        publishing.test_language_model(folder, base, prompt, job)
        return {}

    return _train_and_publish(trainer, job, store, base, tokenizer, wanted, stop, data, test)


def _train_reward_model(
    job: TrainerJob, store: ArtifactStore, base: Base, tokenizer: Any, wanted: Hyperparameters, stop: StopFlag
) -> TrainerResult | None:
    from services.finetune.trainer.preferences import finish_reward_model, read_preferences, reward_inputs

    inputs = reward_inputs(job, PromptEncoder(tokenizer, chat=True))
    data = read_preferences(store, job, inputs, wanted)
    trainer = _build_reward_trainer(job, base, tokenizer, wanted, data.train, inputs.answers)

    def test(folder: Path) -> dict[str, float]:
        return finish_reward_model(folder, job, tokenizer, wanted, inputs, data)

    return _train_and_publish(trainer, job, store, base, tokenizer, wanted, stop, data.counts, test)


def _build_reward_trainer(
    job: TrainerJob,
    base: Base,
    tokenizer: Any,
    wanted: Hyperparameters,
    pairs: Sequence[EncodedPair],
    answers: tuple[int, int] | None,
) -> Any:
    """A head learns from pairs, a language model from its answers."""
    from transformers import set_seed

    from services.finetune.trainer.reward import build_reward_trainer
    from services.finetune.trainer.sft import build_sft_trainer

    work_dir = Path(job.work_dir)
    if answers is None:
        # The new head is drawn at random.
        set_seed(wanted.seed % 2**32)
        model = load_reward_model(base, tokenizer, wanted, job.runtime)
        return build_reward_trainer(model, tokenizer, pairs, wanted, job.runtime, work_dir, processes=_PROCESSES)
    items = answer_items(pairs, answers, prompt_loss_weight=wanted.prompt_loss_weight)
    model = load_language_model(base, wanted, job.runtime)
    return build_sft_trainer(model, tokenizer, items, wanted, job.runtime, work_dir, processes=_PROCESSES)


def _train_and_publish(
    trainer: Any,
    job: TrainerJob,
    store: ArtifactStore,
    base: Base,
    tokenizer: Any,
    wanted: Hyperparameters,
    stop: StopFlag,
    data: dict[str, int],
    test: Callable[[Path], dict[str, float]],
) -> TrainerResult | None:
    end = run_training(trainer, wanted, Path(job.work_dir), stop, own_disks=bool(job.mirror))
    if end.interrupted:
        return None
    folder = publishing.stage(trainer, job, base, tokenizer, wanted, {"data": data, "metrics": dict(end.metrics)})
    if folder is None:
        # Not the main process: its part is done.
        return TrainerResult()
    publishing.free_memory()
    metrics = {**end.metrics, **test(folder)}
    return TrainerResult(checkpoint_digest=publishing.publish(folder, job, store), metrics=metrics)


def _finish(work_dir: Path, result: TrainerResult) -> None:
    """Writes the result, then drops the checkpoints that nobody will resume from."""
    write_progress(work_dir, _last_progress(work_dir, result))
    write_result(work_dir, result)
    shutil.rmtree(work_dir / CHECKPOINTS, ignore_errors=True)
    line = f"failed: {result.reason.value}: {result.message}" if result.reason else f"done: {result.checkpoint_digest}"
    print(line, flush=True)  # noqa: T201 - the job's log


def _leave_process_group() -> None:
    # A process that ends with the group's threads still at work may be aborted by the C++ runtime, after all was done.
    if _in_process_group():
        torch.distributed.destroy_process_group()


def _in_process_group() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def _is_lost_peer(error: Exception) -> bool:
    """Gloo tells of it in words alone."""
    if not _in_process_group() or _is_out_of_memory(error):
        return False
    text = str(error)
    return (
        isinstance(error, ConnectionError | torch.distributed.DistError)
        or "gloo/transport" in text
        or "by peer" in text
    )


def _last_progress(work_dir: Path, result: TrainerResult) -> Progress:
    return replace(read_progress(work_dir), remaining=0.0, metrics=result.metrics)


def _is_out_of_memory(error: Exception) -> bool:
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error)
    return "out of memory" in text or "not enough memory" in text
