from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from ilf_client.stack.config import SERVICES
from ilf_client.stack.state import read_state
from tests.support import free_ports


def ilf(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    root = Path(__file__).parents[3]
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("ILF_")},
        "PYTHONPATH": os.pathsep.join([str(root), str(root / "protos" / "gen")]),
    }
    return subprocess.run(
        [sys.executable, "-m", "ilf_client.cli.main", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_a_service_that_does_not_start_ends_all_and_its_reason_is_shown(tmp_path: Path) -> None:
    ports = iter(free_ports(2 * len(SERVICES)))
    settings = [f"--set={service}.server={{port: {next(ports)}, metrics_port: {next(ports)}}}" for service in SERVICES]
    result = ilf(tmp_path, "up", *settings, "--set", "refinement.nonsense=3")
    assert result.returncode == 5, result.stderr
    assert "refinement did not start: it ended with exit code 2" in result.stderr
    assert "refinement.nonsense: Extra inputs are not permitted" in result.stderr
    assert "START_FAILED" in result.stderr and "Traceback" not in result.stderr
    assert read_state(tmp_path / ".ilf") is None
    assert (tmp_path / ".ilf" / "logs" / "refinement.log").is_file()
    assert "nothing runs here" in ilf(tmp_path, "down").stdout
