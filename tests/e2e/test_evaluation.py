"""Best-of-N and evaluation through the real services: real samples, judges on Ray Serve, likelihoods, rewards."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from examples.experiments.word_removal import WordRemoval
from tests.e2e.conftest import ROOT, Stack

pytestmark = pytest.mark.engine

ROWS = 6


def write(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.timeout(600)
def test_policies_references_and_pools_are_measured_against_each_other(stack: Stack) -> None:
    rows = [json.loads(line) for line in (ROOT / "examples/summarization/data/test.jsonl").open()][:ROWS]
    data = [
        {
            "id": f"r{k}",
            "context": row.get("context") or row["post"],
            "initial_output": "a summary",
            "feedback": "Say more.",
            "reference": "a short reference",
        }
        for k, row in enumerate(rows)
    ]
    write(stack.folder / "rows.jsonl", "".join(json.dumps(row) + "\n" for row in data))
    write(
        stack.folder / "best.yaml",
        "dataset: rows.jsonl\npolicy: long\nn: 3\nsampling: {max_new_tokens: 8}\n"
        "ranker: {name: instruct_rm, judges: [{name: instruct_rm_1, model: long}]}\n",
    )
    best = json.loads(stack.ilf("best-of-n", "best.yaml", "-o", "json", timeout=400))
    assert (best["items"], best["dropped"], len(best["curve"])) == (ROWS, {}, 3)
    assert best["curve"][2]["estimate"]["value"] >= best["curve"][0]["estimate"]["value"]

    write(
        stack.folder / "eval.yaml",
        """
dataset: rows.jsonl
sampling: {max_new_tokens: 8}
arms:
  - {name: long, policy: long}
  - {name: people, column: reference}
  - {name: best, pool: best.work}
evaluators:
  - name: judges
    judges:
      - name: better
        model: long
        template:
          name: better
          text: "{context}\nfirst: {output_a}\nsecond: {output_b}\nthe first is"
          positive_answers: [" better"]
          negative_answers: [" worse"]
incorporated: {name: instruct_rm, judges: [{name: instruct_rm_1, model: long}]}
nll_columns: [reference]
divergence: {base: long, samples: 2, max_new_tokens: 4}
rouge: true
""",
    )
    result = json.loads(stack.ilf("eval", "eval.yaml", "-o", "json", timeout=400))
    assert result["dropped"] == {}
    figures = {(one["measure"], one["arm"], one["rival"]): one for one in result["figures"]}
    assert figures["win_rate", "long", "people"]["estimate"]["n"] == ROWS
    assert figures["win_rate", "long", "people"]["self_judged"] == ""
    assert "judge long" in figures["win_rate", "long", "best"]["self_judged"]
    assert figures["nll reference", "long", ""]["estimate"]["value"] > 0
    assert figures["kl forward", "long", ""]["estimate"]["value"] == pytest.approx(0, abs=1e-5)
    assert figures["rouge_l", "people", ""]["estimate"]["value"] == 1
    assert 0 <= figures["incorporated_probability", "best", ""]["estimate"]["value"] <= 1
    table = (stack.folder / "eval.work" / "table.md").read_text(encoding="utf-8")
    assert "| win_rate | long | people | judges |" in table
    assert "| win_rate | long | best | judges |" not in table
    again = json.loads(stack.ilf("eval", "eval.yaml", "-o", "json"))
    assert again["figures"] == result["figures"]

    labelled = [
        {**row, "refinement": f"text {k}", "incorporated": "yes" if k % 2 else "no"} for k, row in enumerate(data)
    ]
    write(stack.folder / "labelled.jsonl", "".join(json.dumps(row) + "\n" for row in labelled))
    ranker = write(stack.folder / "ranker.yaml", "name: instruct_rm\njudges: [{name: instruct_rm_1, model: long}]\n")
    report = json.loads(stack.ilf("judges", "calibrate", "labelled.jsonl", "--ranker", ranker, "-o", "json"))
    assert [judge["judge"] for judge in report["judges"]] == ["ensemble", "instruct_rm_1"]
    assert report["rows"] == ROWS


@pytest.mark.timeout(600)
def test_a_reward_model_that_was_trained_here_chooses_and_is_not_believed_about_its_own_choices(stack: Stack) -> None:
    rows = WordRemoval().rows("train", 64, 0)
    pairs = [{"prompt": row.context, "chosen": row.reference, "rejected": row.initial_output} for row in rows]
    write(stack.folder / "pairs.jsonl", "".join(json.dumps(pair) + "\n" for pair in pairs))
    options = ("--learning-rate", "5e-4", "--epochs", "4", "--batch-size", "16", "-o", "json")
    job = json.loads(stack.ilf("reward", "train", "tiny", "pairs.jsonl", "rewards/e2e", *options))["job"]
    stack.ilf("jobs", "watch", job, timeout=400)
    stack.ilf("reward", "load", "rm", "rewards/e2e")
    data = [
        {"id": row.id, "context": row.context, "initial_output": row.initial_output, "reference": row.reference}
        for row in WordRemoval().rows("test", ROWS, 0)
    ]
    write(stack.folder / "rewarded.jsonl", "".join(json.dumps(row) + "\n" for row in data))
    write(
        stack.folder / "chosen.yaml",
        "dataset: rewarded.jsonl\npolicy: tiny\nn: 2\nsampling: {max_new_tokens: 24}\nreward_models: [rm]\n",
    )
    stack.ilf("best-of-n", "chosen.yaml")
    write(
        stack.folder / "rewarded.yaml",
        """
dataset: rewarded.jsonl
arms:
  - {name: people, column: reference}
  - {name: first, column: initial_output}
  - {name: chosen, pool: chosen.work}
evaluators:
  - {name: rewards, reward_models: [rm]}
""",
    )
    result = json.loads(stack.ilf("eval", "rewarded.yaml", "-o", "json"))
    wins = {(one["arm"], one["rival"]): one for one in result["figures"] if one["measure"] == "win_rate"}
    assert result["dropped"] == {} and all(one["estimate"]["n"] == ROWS for one in wins.values())
    assert wins["people", "first"]["estimate"]["value"] > 0.5 and wins["people", "first"]["self_judged"] == ""
    assert "rewards shares" in wins["people", "chosen"]["self_judged"]
    stack.ilf("reward", "unload", "rm")
