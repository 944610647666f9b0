"""Whole runs through the five real services: real generation, judges on Ray Serve, training, rollout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.e2e.conftest import ROOT, Stack

pytestmark = pytest.mark.engine


@pytest.mark.timeout(600)
def test_a_users_own_jsonl_goes_through_the_whole_loop(stack: Stack) -> None:
    models = ["--set", "policy=long", "--set", "refine.refiner=long", "--set", "rank.ranker.name=length"]
    top_two = ["--set", "select.method=top_k", "--set", "select.k=2"]
    stack.ilf("run", "examples/summarization/run.yaml", *models, *top_two, "--name", "summaries", timeout=400)
    run = json.loads(stack.ilf("runs", "show", "summaries", "-o", "json"))
    assert run["state"] == "succeeded"
    assert [iteration["index"] for iteration in run["iterations"]] == [0, 1]
    assert {stage["stage"] for stage in run["iterations"][1]["stages"]} >= {"generate", "refine", "rank", "finetune"}
    assert run["policy"] == "summaries/it-1"
    policies = json.loads(stack.ilf("policies", "list", "-o", "json"))
    assert any(policy["name"] == "summaries/it-1" for policy in policies)
    stack.ilf("runs", "report", "summaries", "-o", "summaries.html")
    assert "<svg" in (stack.folder / "summaries.html").read_text(encoding="utf-8")
    exported = [json.loads(line) for line in stack.ilf("runs", "export", "summaries").splitlines()]
    assert {"prompt", "completion"} <= exported[0].keys()
    assert {row["weight"] for row in exported} == {0.5}
    assert set(Counter(row["prompt"] for row in exported).values()) == {2}


@pytest.mark.timeout(600)
def test_the_policy_learns_from_feedback_and_the_demo_ends_with_its_pages(tmp_path: Path) -> None:
    sizes = ["--no-controls", "--contexts", "60", "--test", "60"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ILF_")}
    done = subprocess.run(
        [sys.executable, "-m", "ilf_client.cli.main", "demo", *sizes, "--state-dir", str(tmp_path / "demo")],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    (row,) = [
        line for line in done.stdout.splitlines() if "(ILF)  " in line and "%" in line and "iteration" not in line
    ]
    before, *_, after = [float(cell.split("±")[0]) for cell in row.split(")")[1].split("%") if "±" in cell]
    assert before <= 5
    assert after >= 20, done.stdout
    pages = sorted(path.name for path in (tmp_path / "demo" / "report").iterdir())
    assert "index.html" in pages and len(pages) == 2
