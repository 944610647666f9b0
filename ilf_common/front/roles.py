"""The two roles of a pool's program: a worker, or the front of the workers."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from ilf_common.errors import IlfError


def run_role(service: str, worker: Callable[[], None], front: Callable[[], None]) -> int:
    """Runs what the command line asks for.

    Args:
        service: Name of the package under `services`.
        worker: Runs the service itself; the default.
        front: Runs the front, with `--role front`.

    Returns:
        The exit code; 2 where the settings are wrong.
    """
    parser = argparse.ArgumentParser(prog=f"python -m services.{service}")
    parser.add_argument("--role", choices=("worker", "front"), default="worker", help="front: forwards to workers")
    run = front if parser.parse_args().role == "front" else worker
    try:
        run()
    except IlfError as error:
        print(error.message, file=sys.stderr)  # noqa: T201 - settings are wrong, and logging may not be set up
        return 2
    return 0
