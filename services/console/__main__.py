"""`python -m services.console`: serves the console until SIGTERM."""

from __future__ import annotations

import argparse
import sys

from ilf_common.errors import IlfError
from ilf_common.settings import load_settings
from services.console.settings import ConsoleSettings


def main() -> int:
    """Runs it; answers the exit code, 2 where the settings are wrong."""
    argparse.ArgumentParser(prog="python -m services.console", description=__doc__).parse_args()
    try:
        settings = load_settings(ConsoleSettings, "console")
        from services.console.wiring import run

        run(settings)
    except IlfError as error:
        print(error.message, file=sys.stderr)  # noqa: T201 - settings are wrong, and logging may not be set up
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
