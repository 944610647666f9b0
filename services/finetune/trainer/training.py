"""What both kinds of training share: items as batches, weights as denominators, and one way of running."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PrinterCallback

from services.finetune.models import Hyperparameters
from services.finetune.trainer.batching import Batch, EpochSampler
from services.finetune.trainer.checkpoints import CHECKPOINTS, KEPT, Checkpoint, Tally, drop_incomplete, last_complete
from services.finetune.trainer.job import Runtime
from services.finetune.trainer.observing import JobCallback, StepNumbers
from services.finetune.trainer.stop import StopFlag


def training_arguments(wanted: Hyperparameters, runtime: Runtime, work_dir: Path, *, processes: int) -> dict[str, Any]:
    """Arguments of transformers' `TrainingArguments` for resolved hyperparameters."""
    return {
        "output_dir": str(work_dir / CHECKPOINTS),
        "per_device_train_batch_size": wanted.micro_batch_size,
        "gradient_accumulation_steps": wanted.batch_size // (wanted.micro_batch_size * processes),
        "learning_rate": wanted.learning_rate,
        "num_train_epochs": wanted.epochs,
        "lr_scheduler_type": wanted.lr_schedule,
        "warmup_steps": wanted.warmup_ratio,
        "weight_decay": wanted.weight_decay,
        "max_grad_norm": wanted.max_grad_norm,
        "seed": wanted.seed % 2**32,
        "data_seed": wanted.seed % 2**32,
        "bf16": wanted.dtype == "bfloat16",
        "gradient_checkpointing": wanted.gradient_checkpointing,
        "use_cpu": not uses_gpu(runtime),
        "torch_compile": runtime.compile,
        "fsdp": runtime.fsdp or None,
        "save_strategy": "steps",
        "save_total_limit": KEPT,
        "logging_strategy": "no",
        "logging_nan_inf_filter": False,
        "disable_tqdm": True,
        "report_to": "none",
        "ddp_find_unused_parameters": False,
        "remove_unused_columns": False,
        "dataloader_num_workers": 0,
    }


def uses_gpu(runtime: Runtime) -> bool:
    """Whether a trainer with this runtime computes on a GPU."""
    return runtime.device == "cuda" or (runtime.device == "auto" and torch.cuda.is_available())


class ItemTraining:
    """Mixed into a transformers `Trainer`: its dataset's rows are items with a filler last, its losses weighted sums.

    `compute_loss` divides by what `_get_num_items_in_batch` counted over the *whole* optimizer step, so the loss needs
    no scaling for gradient accumulation, and steps do not depend on the micro batch or the number of processes.
    """

    loss_is_scaled_for_ga = True
    args: Any
    accelerator: Any
    train_dataset: Any

    def prepare_items(self) -> None:
        """Sets up what the methods below use; called once the trainer is built."""
        self.numbers = StepNumbers()
        group = self.args.per_device_train_batch_size * self.args.world_size
        self.sampler = EpochSampler(len(self.train_dataset) - 1, group, self.args.data_seed)

    def count_weight(self, batch: Batch) -> torch.Tensor:
        """What a batch adds to the denominator of its step's loss."""
        raise NotImplementedError

    def _get_train_sampler(self, train_dataset: Any = None) -> EpochSampler:
        return self.sampler

    def _get_num_items_in_batch(self, batch_samples: Sequence[Batch], device: torch.device) -> torch.Tensor | None:
        # transformers would floor the count, which is wrong for weights below 1.
        if not batch_samples:
            return None
        total = torch.stack([self.count_weight(batch) for batch in batch_samples]).sum().to(device).reshape(1)
        return self.accelerator.gather(total).sum()  # type: ignore[no-any-return]

    def training_step(self, model: Any, inputs: Batch, num_items_in_batch: torch.Tensor | None = None) -> torch.Tensor:
        """One forward and backward pass, with its numbers kept for the callback."""
        tokens = inputs["attention_mask"].sum()
        loss: torch.Tensor = super().training_step(model, inputs, num_items_in_batch)  # type: ignore[misc]
        self.numbers.add("loss", loss)
        self.numbers.add("tokens", tokens.to(loss.device))
        return loss


@dataclass(frozen=True)
class TrainingEnd:
    """How a training run ended.

    Attributes:
        interrupted: Stopped on request, after a checkpoint.
        metrics: Over the whole run.
    """

    interrupted: bool
    metrics: Mapping[str, float]


def run_training(
    trainer: Any, wanted: Hyperparameters, work_dir: Path, stop: StopFlag, *, own_disks: bool = False
) -> TrainingEnd:
    """Trains to the end, from the last complete checkpoint where there is one.

    Args:
        trainer: As it was built.
        wanted: Resolved hyperparameters.
        work_dir: The job's.
        stop: Ends the run at the next step, after a checkpoint.
        own_disks: Every node has a work directory of its own, with its own part of each checkpoint.

    Raises:
        TrainerError: NAN_LOSS.
    """
    folder = work_dir / CHECKPOINTS
    if trainer.accelerator.is_local_main_process if own_disks else trainer.accelerator.is_main_process:
        drop_incomplete(folder)
    trainer.accelerator.wait_for_everyone()
    checkpoint = last_complete(folder)
    _require_same_step(trainer.accelerator, checkpoint)
    trainer.args.save_steps = wanted.save_steps or max(10, _steps(trainer) // 10)
    callback = JobCallback(
        numbers=trainer.numbers,
        accelerator=trainer.accelerator,
        sampler=trainer.sampler,
        work_dir=work_dir,
        stop=stop,
        own_disks=own_disks,
        tally=checkpoint.tally if checkpoint else Tally(),
    )
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(callback)
    if checkpoint and checkpoint.step >= _steps(trainer):
        trainer._load_from_checkpoint(str(checkpoint.path))
    else:
        trainer.train(resume_from_checkpoint=str(checkpoint.path) if checkpoint else None)
    return TrainingEnd(callback.interrupted, callback.tally.metrics())


def _require_same_step(accelerator: Any, checkpoint: Checkpoint | None) -> None:
    """Refuses to mix checkpoints: a node that saw an older one would train against the others."""
    own = torch.tensor([checkpoint.step if checkpoint else 0], device=accelerator.device)
    steps = set(accelerator.gather(own).tolist())
    if len(steps) > 1:
        raise OSError(f"the processes see checkpoints of different steps: {sorted(steps)}")


def _steps(trainer: Any) -> int:
    """Optimizer steps of the whole run."""
    group: int = trainer.args.per_device_train_batch_size * trainer.args.world_size
    per_epoch = math.ceil(len(trainer.sampler) / (group * int(trainer.args.gradient_accumulation_steps)))
    epochs: float = trainer.args.num_train_epochs
    return math.ceil(epochs * per_epoch)
