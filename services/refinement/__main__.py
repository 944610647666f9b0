"""`python -m services.refinement`: runs the service, or the front of its workers, until SIGTERM."""

from __future__ import annotations

import asyncio
import sys

from ilf_common.front.roles import run_role
from ilf_common.settings import load_settings
from services.refinement.settings import RefinementSettings


def main() -> int:
    """Runs it; answers the exit code."""
    return run_role("refinement", _run_worker, _run_front)


def _run_worker() -> None:
    settings = load_settings(RefinementSettings, "refinement")
    from services.refinement.wiring import run

    asyncio.run(run(settings))


def _run_front() -> None:
    """Imports nothing that the workers compute with: a front starts at once."""
    from ilf_common.front.run import run
    from services.refinement.front import API, RefinementFrontSettings

    asyncio.run(run(API, load_settings(RefinementFrontSettings, "refinement_front")))


if __name__ == "__main__":
    sys.exit(main())
