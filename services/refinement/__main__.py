"""`python -m services.refinement`: runs the service, or the front of its workers, until SIGTERM."""

from __future__ import annotations

import argparse
import asyncio
import sys

from ilf_common.errors import IlfError
from ilf_common.settings import load_settings
from services.refinement.settings import RefinementFrontSettings, RefinementSettings


def main() -> int:
    """Runs it; answers the exit code."""
    parser = argparse.ArgumentParser(prog="python -m services.refinement")
    parser.add_argument("--role", choices=("worker", "front"), default="worker", help="front: forwards to workers")
    run = _run_front if parser.parse_args().role == "front" else _run_worker
    try:
        run()
    except IlfError as error:
        print(error.message, file=sys.stderr)  # noqa: T201 - settings are wrong, and logging may not be set up
        return 2
    return 0


def _run_worker() -> None:
    settings = load_settings(RefinementSettings, "refinement")
    from services.refinement.wiring import run

    asyncio.run(run(settings))


def _run_front() -> None:
    """Imports nothing that the workers compute with: a front starts at once."""
    settings = load_settings(RefinementFrontSettings, "refinement_front")
    from ilf_common.front.run import run
    from services.refinement.front import API

    asyncio.run(run(API, settings))


if __name__ == "__main__":
    sys.exit(main())
