"""A trainer without a model: follows orders that lie in its job's folder.

`orders.json` (optional) has `step_seconds`, `steps`, `crash_at` (attempt -> step), `fail` (a reason) and
`interruptible` (SIGTERM ends it as a trainer that has written a checkpoint). Every start adds a line to `starts.txt`.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from pathlib import Path

from services.finetune.models import Progress
from services.finetune.trainer.exits import recorded
from services.finetune.trainer.job import read_job
from services.finetune.trainer.outcome import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    FailureReason,
    TrainerResult,
    read_progress,
    write_progress,
    write_result,
)


def main() -> int:
    with recorded() as code:
        code.value = run()
        return code.value


def run() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--job", type=Path, required=True)
    folder = Path(read_job(parser.parse_args().job).work_dir)
    orders_file = folder.parent / "orders.json"
    orders = json.loads(orders_file.read_text()) if orders_file.exists() else {}
    if orders.get("interruptible"):
        signal.signal(signal.SIGTERM, lambda *_: interrupted())
    with (folder / "starts.txt").open("a") as starts:
        starts.write(f"{os.getpid()}\n")
    attempt = len((folder / "starts.txt").read_text().split())
    steps = orders.get("steps", 3)
    for step in range(read_progress(folder).step + 1, steps + 1):
        time.sleep(orders.get("step_seconds", 0.02))
        if orders.get("crash_at", {}).get(str(attempt)) == step:
            return 1
        write_progress(folder, Progress(step, steps, loss=1 / step, last_step_time=time.time()))
    if "fail" in orders:
        write_result(folder, TrainerResult(reason=FailureReason(orders["fail"]), message="as ordered"))
        return EXIT_FAILED
    write_result(folder, TrainerResult(checkpoint_digest="digest-of-a-fake"))
    return 0


def interrupted() -> None:
    with recorded() as code:
        code.value = EXIT_INTERRUPTED
    os._exit(EXIT_INTERRUPTED)


if __name__ == "__main__":
    sys.exit(main())
