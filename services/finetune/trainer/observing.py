"""What happens around every optimizer step: numbers, progress, stopping, the mark of a complete checkpoint."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from services.finetune.models import Progress
from services.finetune.trainer.checkpoints import Tally, mark_complete
from services.finetune.trainer.outcome import FailureReason, TrainerError, write_progress
from services.finetune.trainer.stop import StopFlag

_PROGRESS_INTERVAL = 0.2
_LINE_INTERVAL = 1.0


@dataclass
class StepNumbers:
    """What one optimizer step adds up over its forward passes, as tensors on the device.

    Attributes:
        loss: Contributions to the step's loss.
        tokens: Real tokens of the sequences.
        hits: Comparisons that the model got right, and all comparisons; stays 0 for SFT.
    """

    loss: torch.Tensor | None = None
    tokens: torch.Tensor | None = None
    hits: torch.Tensor | None = None

    def add(self, name: str, value: torch.Tensor) -> None:
        """Adds to one of the sums."""
        before = getattr(self, name)
        setattr(self, name, value.detach() if before is None else before + value.detach())

    def clear(self) -> None:
        """Starts the next step."""
        self.loss = self.tokens = self.hits = None


@dataclass
class JobCallback(TrainerCallback):  # type: ignore[misc]
    """Follows a training run.

    Args:
        numbers: Filled by the trainer's steps.
        accelerator: Adds up over processes.
        sampler: Gets the epoch.
        work_dir: Gets the progress file.
        stop: Ends the run at the next step, after a checkpoint.
        own_disks: Every node has a work directory of its own.
        tally: Sums over the whole run; restored from a checkpoint by whoever resumes.
    """

    numbers: StepNumbers
    accelerator: Any
    sampler: Any
    work_dir: Path
    stop: StopFlag
    own_disks: bool
    tally: Tally
    max_steps: int = 0
    interrupted: bool = False
    _started: float = field(default_factory=time.monotonic)
    _first_step: int = 0
    _tokens: float = 0.0
    _progress_due: float = 0.0
    _line_due: float = 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Starts the clock."""
        self.max_steps = state.max_steps
        self._first_step = state.global_step
        self._started = time.monotonic()
        self._report(state, loss=self.tally.last_loss, force=True)

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Tells the sampler, which accelerate's wrappers do not do after a resume with several processes."""
        self.sampler.set_epoch(int(state.epoch or 0))

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Adds the step up over all processes, checks its loss, and stops where asked.

        Raises:
            TrainerError: NAN_LOSS.
        """
        loss, tokens, right, compared, stop = self._reduce()
        self.numbers.clear()
        if not math.isfinite(loss):
            raise TrainerError(
                FailureReason.NAN_LOSS,
                f"The loss of step {state.global_step} is {loss}. Lower the learning rate, or use float32.",
            )
        self.tally.add(loss, right, compared)
        self._tokens += tokens
        done = state.global_step >= state.max_steps
        self._report(state, loss=loss, force=done or stop)
        if stop and not done:
            self.interrupted = True
            control.should_save = True
            control.should_training_stop = True

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Marks the checkpoint complete once every process has written its part."""
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_local_main_process if self.own_disks else self.accelerator.is_main_process:
            mark_complete(Path(args.output_dir), state.global_step, self.tally)

    def _reduce(self) -> tuple[float, float, float, float, bool]:
        numbers = self.numbers
        zero = torch.zeros((), device=self.accelerator.device)
        loss = (zero if numbers.loss is None else numbers.loss).reshape(1).double()
        tokens = (zero if numbers.tokens is None else numbers.tokens).reshape(1).double()
        hits = torch.zeros(2, device=zero.device).double() if numbers.hits is None else numbers.hits.double()
        stop = torch.tensor([float(self.stop.requested)], device=zero.device).double()
        summed = self.accelerator.reduce(torch.cat([loss, tokens, hits, stop]), reduction="sum").tolist()
        # Each process scales its loss by their number, because DDP averages gradients.
        return summed[0] / self.accelerator.num_processes, summed[1], summed[2], summed[3], summed[4] > 0

    def _report(self, state: Any, *, loss: float, force: bool) -> None:
        now = time.monotonic()
        if not self.accelerator.is_main_process or (now < self._progress_due and not force):
            return
        steps = state.global_step - self._first_step
        elapsed = max(now - self._started, 1e-9)
        left = max(state.max_steps - state.global_step, 0)
        progress = Progress(
            step=state.global_step,
            max_steps=state.max_steps,
            loss=loss,
            tokens_per_second=self._tokens / elapsed,
            remaining=elapsed / steps * left if steps else 0.0,
            last_step_time=time.time() if steps else None,
            losses=tuple((step, value) for step, value in self.tally.losses),
        )
        write_progress(self.work_dir, progress)
        self._progress_due = now + _PROGRESS_INTERVAL
        if force or now >= self._line_due:
            self._line_due = now + _LINE_INTERVAL
            print(  # noqa: T201 - the job's log
                f"step {progress.step}/{progress.max_steps} loss {loss:.4f} {progress.tokens_per_second:.0f} tokens/s "
                f"{progress.remaining:.0f} s left",
                flush=True,
            )
