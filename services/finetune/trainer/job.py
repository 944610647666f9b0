"""The file that tells a trainer what to do, and the rules by which gaps in it are filled."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from services.finetune.models import FinetuneSpec, Hyperparameters, LoraSpec
from services.finetune.trainer.outcome import FailureReason, TrainerError

DEFAULT_MAX_LENGTH = 2048
DEFAULT_BATCH_SIZE = 8
TRACEPARENT = "TRACEPARENT"
"""Environment variable with the trace that a trainer's span belongs to."""


@dataclass(frozen=True)
class Runtime:
    """Where and how a trainer computes; belongs to the machine, not to the job.

    Attributes:
        device: "auto" (a GPU where there is one), "cpu" or "cuda".
        threads: Torch's threads per process on a CPU; 0 leaves torch's choice. The result depends on it bitwise.
        nice: Added to the process's niceness.
        attention: Attention implementation as transformers names it; "" leaves the model's choice.
        compile: Run the model through `torch.compile`.
        fsdp: Shard the model over the processes (torchrun) instead of copying it; only GPUs' processes do so.
        allow_hub: Base models may be hub ids; without it the trainer has no network to the hub.
        otlp_endpoint: Collector of the trainer's span; "" exports nothing.
    """

    device: str = "auto"
    threads: int = 0
    nice: int = 0
    attention: str = ""
    compile: bool = False
    fsdp: bool = False
    allow_hub: bool = False
    otlp_endpoint: str = ""


@dataclass(frozen=True)
class TrainerJob:
    """The content of the job file.

    Attributes:
        job_id: For logs.
        spec: What to train.
        store_root: Root of the artifact store.
        work_dir: Where checkpoints, `progress.json` and `result.json` go.
        runtime: How to compute.
        mirror: Key of the store where the work directory is copied to, where it does not outlive the process.
    """

    job_id: str
    spec: FinetuneSpec
    store_root: str
    work_dir: str
    runtime: Runtime = field(default_factory=Runtime)
    mirror: str = ""

    @property
    def digest(self) -> str:
        """sha256 of what determines the checkpoint: the spec without where it is trained and published."""
        spec = replace(self.spec, output_uri="")
        return hashlib.sha256(TypeAdapter(FinetuneSpec).dump_json(spec, exclude={"placement"})).hexdigest()


_JOB = TypeAdapter(TrainerJob)


def write_job(job: TrainerJob) -> bytes:
    """The job as JSON."""
    return _JOB.dump_json(job, indent=1)


def read_job(path: Path) -> TrainerJob:
    """Reads a job file.

    Raises:
        TrainerError: BAD_CONFIG; the message names the fields.
    """
    try:
        return _JOB.validate_json(path.read_bytes())
    except ValidationError as error:
        fields = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_input=False))
        raise TrainerError(FailureReason.BAD_CONFIG, f"The job file {path.name} is wrong: {fields}") from error


def resolve(wanted: Hyperparameters, *, window: int, processes: int, on_gpu: bool) -> Hyperparameters:
    """Puts the defaults in.

    Args:
        wanted: As the request has them.
        window: Longest sequence that the base model takes, in tokens.
        processes: Processes that train together.
        on_gpu: Decides the default dtype.

    Raises:
        TrainerError: BAD_CONFIG; the batch cannot be divided, or the window is too small.
    """
    batch_size = wanted.batch_size or DEFAULT_BATCH_SIZE
    micro_batch_size = wanted.micro_batch_size or max(1, batch_size // processes)
    if batch_size % (micro_batch_size * processes):
        raise TrainerError(
            FailureReason.BAD_CONFIG,
            f"batch_size {batch_size} is no multiple of micro_batch_size {micro_batch_size} x {processes} processes.",
        )
    if wanted.max_length > window:
        raise TrainerError(
            FailureReason.BAD_CONFIG, f"max_length {wanted.max_length} exceeds the model's window of {window} tokens"
        )
    return replace(
        wanted,
        learning_rate=wanted.learning_rate or (1e-4 if wanted.lora else 1e-5),
        epochs=wanted.epochs or 1.0,
        batch_size=batch_size,
        micro_batch_size=micro_batch_size,
        max_length=wanted.max_length or min(window, DEFAULT_MAX_LENGTH),
        lr_schedule=wanted.lr_schedule or "linear",
        max_grad_norm=1.0 if wanted.max_grad_norm is None else wanted.max_grad_norm,
        lora=_resolve_lora(wanted.lora),
        dtype=wanted.dtype or ("bfloat16" if on_gpu else "float32"),
    )


def _resolve_lora(lora: LoraSpec | None) -> LoraSpec | None:
    return replace(lora, alpha=lora.alpha or 2.0 * lora.rank) if lora else None
