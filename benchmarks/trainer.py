"""Tokens/s of the finetune trainer beside TRL's own `SFTTrainer`: same weights, tokens and settings, in turns.

`python -m benchmarks.trainer` compares them on a small random model on a CPU; for about a billion parameters on a GPU:
`python -m benchmarks.trainer --device cuda --dtype bfloat16 --layers 16 --hidden 2048 --tokens 1024 --batch 16
--micro-batch 8 --steps 20`. Both run in this process and take turns, each as often first as the other; a ratio is taken
from each pair. The first steps of a run are not timed. Fair: both compute the same loss, TRL's with the metrics that it
always computes, ours with the progress file that it always writes. MFU counts 6 floating-point operations per parameter
and token, and 12 per layer, hidden unit and attended position, against the device's dense bfloat16 peak.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback, TrainerCallback
from transformers.utils.logging import disable_progress_bar
from trl import SFTConfig, SFTTrainer

from benchmarks.random_model import Shape, build_random_model
from benchmarks.recording import print_table, record
from services.finetune.models import Hyperparameters
from services.finetune.trainer.encoding import IGNORED, EncodedItem, EncodedRow
from services.finetune.trainer.job import Runtime
from services.finetune.trainer.sft import build_sft_trainer
from services.finetune.trainer.stop import StopFlag
from services.finetune.trainer.training import run_training, training_arguments

WARM_UP_STEPS = 3
PEAK_FLOPS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L4": 121e12}


class StepClock(TrainerCallback):  # type: ignore[misc]
    """Notes when each step ended."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """One more."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.ends.append(time.perf_counter())

    def seconds_per_step(self) -> float:
        """Median over the steps after the warm-up."""
        pairs = zip(self.ends[WARM_UP_STEPS - 1 :], self.ends[WARM_UP_STEPS:], strict=False)
        return statistics.median(end - start for start, end in pairs)


@dataclass(frozen=True)
class Setup:
    """What both trainers get."""

    folder: Path
    shape: Shape
    parameters: int
    rows: list[EncodedRow]
    wanted: Hyperparameters
    runtime: Runtime

    def model(self) -> Any:
        """The same random weights every time, in float32 as both trainers hold them."""
        return AutoModelForCausalLM.from_pretrained(self.folder, dtype=torch.float32)

    def tokenizer(self) -> Any:
        """Of the random model."""
        return AutoTokenizer.from_pretrained(self.folder)

    @property
    def step_tokens(self) -> int:
        """Tokens of one optimizer step."""
        return self.wanted.batch_size * len(self.rows[0].input_ids)


def run_ours(setup: Setup, folder: Path) -> float:
    """Seconds per step of the finetune trainer, progress file and all."""
    items = [EncodedItem((row,)) for row in setup.rows]
    trainer = build_sft_trainer(
        setup.model(), setup.tokenizer(), items, setup.wanted, setup.runtime, folder, processes=1
    )
    trainer.args.save_strategy = "no"
    clock = StepClock()
    trainer.add_callback(clock)
    run_training(trainer, setup.wanted, folder, StopFlag())
    return clock.seconds_per_step()


def run_trl(setup: Setup, folder: Path) -> float:
    """Seconds per step of TRL's trainer on the same tokens."""
    columns = {
        "input_ids": [row.input_ids for row in setup.rows],
        "labels": [row.labels for row in setup.rows],
    }
    arguments = training_arguments(setup.wanted, setup.runtime, folder, processes=1)
    trainer = SFTTrainer(
        model=setup.model(),
        args=SFTConfig(**{**arguments, "save_strategy": "no"}, max_length=None),
        train_dataset=Dataset.from_dict(columns),
        processing_class=setup.tokenizer(),
    )
    trainer.remove_callback(PrinterCallback)
    clock = StepClock()
    trainer.add_callback(clock)
    trainer.train()
    return clock.seconds_per_step()


def prepare(options: argparse.Namespace, folder: Path) -> Setup:
    """Model, tokens and settings from the command line."""
    shape = Shape(
        hidden=options.hidden,
        layers=options.layers,
        intermediate=4 * options.hidden,
        vocabulary=options.vocabulary,
        positions=options.tokens,
    )
    parameters = build_random_model(folder, shape)
    generator = torch.Generator().manual_seed(0)
    count = options.batch * options.steps
    tokens = torch.randint(2, options.vocabulary, (count, options.tokens), generator=generator).tolist()
    wanted = Hyperparameters(
        learning_rate=1e-5,
        epochs=1.0,
        batch_size=options.batch,
        micro_batch_size=options.micro_batch or options.batch,
        lr_schedule="constant",
        max_grad_norm=1.0,
        dtype=options.dtype,
        gradient_checkpointing=options.gradient_checkpointing,
    )
    runtime = Runtime(device=options.device, threads=options.threads)
    return Setup(folder, shape, parameters, [_half_prompt(ids) for ids in tokens], wanted, runtime)


def _half_prompt(ids: list[int]) -> EncodedRow:
    prompt, completion = len(ids) // 2, len(ids) - len(ids) // 2
    return EncodedRow(ids, [IGNORED] * prompt + ids[prompt:], [0.0] * prompt + [1.0] * completion)


def mfu(setup: Setup, tokens_per_second: float) -> str:
    """Model FLOPs utilisation on a known GPU."""
    if setup.runtime.device != "cuda":
        return "-"
    peak = next((flops for part, flops in PEAK_FLOPS.items() if part in torch.cuda.get_device_name()), None)
    attended = len(setup.rows[0].input_ids) / 2
    operations = 6 * setup.parameters + 12 * setup.shape.layers * setup.shape.hidden * attended
    return f"{operations * tokens_per_second / peak:.1%}" if peak else "-"


def compare(setup: Setup, repeats: int) -> list[dict[str, Any]]:
    """A row per pair of runs, then their medians."""
    rows: list[dict[str, Any]] = []
    for repeat in range(repeats):
        speeds = {}
        for run in (run_ours, run_trl) if repeat % 2 else (run_trl, run_ours):
            with tempfile.TemporaryDirectory() as folder:
                speeds[run] = setup.step_tokens / run(setup, Path(folder))
        ours, trl = speeds[run_ours], speeds[run_trl]
        rows.append(_row(setup, str(repeat + 1), ours, trl, ours / trl))
    medians = (statistics.median(row[name] for row in rows) for name in ("ours tokens/s", "TRL tokens/s", "ours / TRL"))
    return [*rows, _row(setup, "median", *medians)]


def _row(setup: Setup, pair: str, ours: float, trl: float, ratio: float) -> dict[str, Any]:
    return {
        "pair": pair,
        "ours tokens/s": round(ours),
        "TRL tokens/s": round(trl),
        "ours / TRL": round(ratio, 3),
        "ours MFU": mfu(setup, ours),
        "TRL MFU": mfu(setup, trl),
        "million parameters": round(setup.parameters / 1e6, 1),
        "dtype": setup.wanted.dtype,
        "tokens/step": setup.step_tokens,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.trainer", description=__doc__)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--vocabulary", type=int, default=4096)
    parser.add_argument("--tokens", type=int, default=128, help="per sequence, half of them prompt (default: 128)")
    parser.add_argument("--batch", type=int, default=8, help="sequences per optimizer step (default: 8)")
    parser.add_argument("--micro-batch", type=int, default=0, help="sequences per forward pass (default: the batch)")
    parser.add_argument("--steps", type=int, default=14)
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--threads", type=int, default=1, help="torch's threads on a CPU (default: 1)")
    parser.add_argument("--gradient-checkpointing", action="store_true")
    parser.add_argument("--no-record", action="store_true", help="only print")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    disable_progress_bar()
    with tempfile.TemporaryDirectory() as folder:
        rows = compare(prepare(options, Path(folder)), options.repeats)
    print_table(rows)
    if not options.no_record:
        gpu = torch.cuda.get_device_name() if options.device == "cuda" else None
        name = f"trainer_{gpu.split()[-1].lower()}" if gpu else "trainer"
        record(name, rows, device=gpu, packages=("torch", "transformers", "trl"))


if __name__ == "__main__":
    main()
