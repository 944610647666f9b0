"""A real study through the five real services: killed in the middle, gone on with, and reported."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from ilf_client.stack.state import read_state

ROOT = Path(__file__).parents[3]
STUDY = ("combined", "--size", "smoke")


def ilf(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("ILF_")},
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "protos" / "gen")]),
        "PYTHONUNBUFFERED": "1",
    }
    return subprocess.Popen(
        [sys.executable, "-m", "ilf_client.cli.main", "experiment", *arguments, "--folder", "experiments"],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    state = read_state(tmp_path / "experiments" / "stack")
    for process in state.processes.values() if state else ():
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def records(folder: Path) -> dict[str, float]:
    """When each finished step was written down."""
    found = (folder / "experiments" / "word-removal" / "steps").glob("*/RECORD.json")
    return {path.parent.name: path.stat().st_mtime for path in found}


@pytest.mark.engine
@pytest.mark.crash
@pytest.mark.timeout(900)
def test_a_killed_study_goes_on_and_ends_in_a_table(folder: Path) -> None:
    first = ilf(folder, "run", *STUDY)
    assert first.stderr is not None
    said = next((line for line in first.stderr if line.startswith("finetune on 16 refinements (ILF)")), None)
    assert said is not None, first.communicate()
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    before = records(folder)
    assert any(name.startswith("Refined-") for name in before)

    out, err = ilf(folder, "run", *STUDY, "-o", "json").communicate()
    data: Any = json.loads(out)
    assert {name: time for name, time in records(folder).items() if name in before} == before
    assert not any(line.startswith("refine and rank 16 train") for line in err.splitlines())

    (study,) = data
    (table,) = study["tables"]
    assert [row["row"] for row in table["rows"]] == [
        "before any training",
        "before any training, best of N",
        "ILF",
        "ILF, best of N",
        "ILF, greedy",
    ]
    assert all(row["estimate"]["n"] == 20 and row["seeds"] == 1 for row in table["rows"])
    assert study["missing"] == []
    # The model repeats the sentence before any training, whatever is sampled.
    assert [row["estimate"]["value"] for row in table["rows"][:2]] == [0.0, 0.0]
    reports = folder / "experiments" / "word-removal" / "smoke"
    assert {path.name for path in reports.iterdir()} == {
        "combined.md",
        "combined.json",
        "combined.svg",
        "experiments.md",
    }
    shown, _ = ilf(folder, "report", *STUDY).communicate()
    assert "too few seeds to tell (1)" in shown
