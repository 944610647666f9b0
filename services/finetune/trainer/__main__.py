"""`python -m services.finetune.trainer --job JOB.json`, alone or under torchrun."""

from __future__ import annotations

import argparse
import fcntl
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from services.finetune.trainer.exits import recorded
from services.finetune.trainer.job import TRACEPARENT, TrainerJob, read_job
from services.finetune.trainer.outcome import EXIT_FAILED, TrainerError
from services.finetune.trainer.stop import StopFlag

LOCK_FILE = "trainer.lock"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the job of a file; SIGTERM ends it after the next step, with a checkpoint to resume from."""
    parser = argparse.ArgumentParser(prog="python -m services.finetune.trainer", description=__doc__)
    parser.add_argument("--job", type=Path, required=True, help="the job file (services/finetune/trainer/job.py)")
    options = parser.parse_args(arguments)
    with recorded() as code:
        code.value = _run(options.job)
        return code.value


def _run(file: Path) -> int:
    stop = StopFlag()
    signal.signal(signal.SIGTERM, stop.request)
    try:
        job = read_job(file)
    except TrainerError as error:
        print(error.message, file=sys.stderr)  # noqa: T201 - the job's log
        return EXIT_FAILED
    os.nice(job.runtime.nice)
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    if not job.runtime.allow_hub:
        os.environ["HF_HUB_OFFLINE"] = "1"
    # The environment is read when the libraries are imported, and they take seconds.
    from services.finetune.trainer.run import run_job

    try:
        with sole_trainer(Path(job.work_dir)), _span(job):
            return run_job(job, stop)
    except BlockingIOError:
        print("another trainer is at work on this job", file=sys.stderr)  # noqa: T201 - the job's log
        return 1


@contextmanager
def _span(job: TrainerJob) -> Iterator[None]:
    """A span of the main process in the trace of whoever asked for the job."""
    if os.environ.get("RANK", "0") != "0":
        yield
        return
    from opentelemetry import propagate, trace

    from ilf_common.settings import TelemetrySettings
    from ilf_common.telemetry import configure_telemetry, flush_telemetry

    configure_telemetry(
        "trainer", TelemetrySettings(otlp_endpoint=job.runtime.otlp_endpoint or None, log_level="WARNING")
    )
    asked = propagate.extract({"traceparent": os.environ.get(TRACEPARENT, "")})
    attributes = {"ilf.job": job.job_id, "ilf.kind": job.spec.kind.name}
    try:
        with trace.get_tracer("ilf.trainer").start_as_current_span("train", context=asked, attributes=attributes):
            yield
    finally:
        flush_telemetry()


@contextmanager
def sole_trainer(work_dir: Path) -> Iterator[None]:
    """Holds a job for its main process alone; a second trainer of the same job would publish half of each.

    Raises:
        BlockingIOError: Another process holds it.
    """
    if os.environ.get("RANK", "0") != "0":
        yield
        return
    work_dir.mkdir(parents=True, exist_ok=True)
    with (work_dir / LOCK_FILE).open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


if __name__ == "__main__":
    sys.exit(main())
