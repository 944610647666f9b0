"""`python -m services.ranking`: runs the service until SIGTERM."""

from __future__ import annotations

import asyncio
import os
import sys

from ilf_common.errors import IlfError
from ilf_common.settings import load_settings
from services.ranking.settings import RankingSettings


def main() -> int:
    """Runs the service; answers the exit code."""
    # Ray starts processes while gRPC's threads run; gRPC would report each one, and no child uses its channels.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    try:
        settings = load_settings(RankingSettings, "ranking")
        from services.ranking.wiring import run

        asyncio.run(run(settings))
    except IlfError as error:
        print(error.message, file=sys.stderr)  # noqa: T201 - settings are wrong, and logging may not be set up
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
