"""The program of the ranking service, before it serves."""

from __future__ import annotations

import subprocess
import sys


def test_grpc_is_not_imported_before_its_handling_of_forks_is_switched_off() -> None:
    """gRPC reads GRPC_ENABLE_FORK_SUPPORT once, when it is imported."""
    program = "import sys, services.ranking.__main__; sys.exit('grpc' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
