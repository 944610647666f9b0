"""Feedback that a person types into the console trains the next policy, through the five real services."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from playwright.sync_api import Browser, expect

from tests.e2e.conftest import ROOT, Stack
from tests.integration.console.browsing import open_browser

pytestmark = pytest.mark.engine
FEEDBACK = ("Remove bossy, typed by Ann.", "Remove silly, typed by Ann.")


@pytest.mark.timeout(900)
def test_what_is_typed_in_the_page_ends_in_the_checkpoint_of_a_finished_iteration(stack: Stack, tmp_path: Path) -> None:
    stack.ilf("run", str(write_run(tmp_path)), "--name", "typed", "--detach")
    url = json.loads(stack.ilf("console", "--no-open", "-o", "json"))["url"]
    with open_browser() as browser:
        give_feedback(browser, url)
    stack.ilf("runs", "watch", "typed", timeout=600)
    run = json.loads(stack.ilf("runs", "show", "typed", "-o", "json"))
    assert (run["state"], run["policy"]) == ("succeeded", "typed/it-1")
    assert any(policy["name"] == "typed/it-1" for policy in json.loads(stack.ilf("policies", "list", "-o", "json")))
    shards = stack.folder / ".ilf" / "artifacts" / "runs" / "typed" / "it-1"
    assert (shards / "checkpoint" / "_MANIFEST.json").is_file()
    given = {row["item_id"]: row["feedback"] for row in table(shards / "feedback")}
    assert given == {f"train-{place}": text for place, text in enumerate(FEEDBACK)}
    refined = {row["item_id"] for row in table(shards / "finetune-data")}
    assert refined == set(given)


def table(stage: Path) -> list[dict[str, Any]]:
    """The rows that a stage has written; they fit into one shard."""
    rows: list[dict[str, Any]] = pq.read_table(stage / "part-00000.parquet").to_pylist()
    return rows


def write_run(folder: Path) -> Path:
    """The word-removal run over two contexts, with people instead of the program."""
    contexts = {
        "train": ("Repeat this: You are a bossy kind person.", "Repeat this: You are a silly nice friend."),
        "test": ("Repeat this: You are a kind person.",),
    }
    for split, texts in contexts.items():
        rows = [json.dumps({"id": f"{split}-{place}", "context": text}) for place, text in enumerate(texts)]
        (folder / f"{split}.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    source = ROOT / "examples" / "word_removal"
    spec = yaml.safe_load((source / "run.yaml").read_text(encoding="utf-8"))
    spec |= {"dataset": {"train_uri": "train.jsonl", "test_uri": "test.jsonl"}, "iterations": 1, "policy": "tiny"}
    spec |= {"feedback": {"source": "people"}, "rank": {"ranker": {"name": "random"}}, "evaluate": {"disabled": True}}
    spec["refine"]["refiner"] = "tiny"
    (folder / "templates").symlink_to(source / "templates")
    (folder / "run.yaml").write_text(yaml.safe_dump(spec), encoding="utf-8")
    return folder / "run.yaml"


def give_feedback(browser: Browser, url: str) -> None:
    """Signs in and answers both tasks."""
    page = browser.new_page()
    page.goto(f"{url}&next=/annotate?run=typed")
    page.get_by_label("Your name").fill("Ann")
    page.get_by_role("button", name="Come in").click()
    for place, text in enumerate(FEEDBACK):
        # Until the first outputs are there the page looks for tasks by itself.
        box = page.get_by_label("What is wrong with the output")
        expect(box).to_have_value("", timeout=120_000)
        expect(page.get_by_text(f"item train-{place}")).to_be_visible(timeout=60_000)
        box.fill(text)
        box.press("Control+Enter")
    expect(page.get_by_role("heading", name="Nothing to do here now")).to_be_visible(timeout=60_000)
