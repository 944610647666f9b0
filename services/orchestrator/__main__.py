"""`python -m services.orchestrator`: runs the service until SIGTERM."""

from __future__ import annotations

import asyncio
import sys

from ilf_common.errors import IlfError
from ilf_common.settings import load_settings
from services.orchestrator.settings import OrchestratorSettings


def main() -> int:
    """Runs the service; answers the exit code."""
    try:
        settings = load_settings(OrchestratorSettings, "orchestrator")
    except IlfError as error:
        print(error.message, file=sys.stderr)  # noqa: T201 - before logging is set up
        return 2
    from services.orchestrator.wiring import run

    asyncio.run(run(settings))
    return 0


if __name__ == "__main__":
    sys.exit(main())
