"""`python -m services.ranking`: runs the service, or the front of its workers, until SIGTERM."""

from __future__ import annotations

import asyncio
import os
import sys

from ilf_common.front.roles import run_role
from ilf_common.settings import load_settings
from services.ranking.settings import RankingSettings


def main() -> int:
    """Runs it; answers the exit code."""
    return run_role("ranking", _run_worker, _run_front)


def _run_worker() -> None:
    # Ray starts processes while gRPC's threads run; gRPC would report each one, and no child uses its channels. gRPC
    # reads this when it is imported, so nothing above may import it.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    settings = load_settings(RankingSettings, "ranking")
    from services.ranking.wiring import run

    asyncio.run(run(settings))


def _run_front() -> None:
    """Imports nothing that the workers compute with: a front starts at once."""
    from ilf_common.front.run import run
    from services.ranking.front import API, RankingFrontSettings

    asyncio.run(run(API, load_settings(RankingFrontSettings, "ranking_front")))


if __name__ == "__main__":
    sys.exit(main())
