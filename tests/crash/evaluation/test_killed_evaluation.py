"""`ilf eval` as a process that is killed while the real refinement service answers for one of its arms."""

from __future__ import annotations

import pytest

from tests.crash.evaluation.conftest import Services, journaled, write_rows

pytestmark = [pytest.mark.engine, pytest.mark.crash]

ROWS = 120
CONFIG = """
dataset: test.jsonl
sampling: {temperature: 1.0, max_new_tokens: 48}
arms:
  - {name: base, policy: base}
  - {name: people, column: reference}
nll_columns: [reference]
rouge: true
"""


@pytest.mark.timeout(280)
def test_a_killed_evaluation_ends_with_the_result_of_one_that_was_not(services: Services) -> None:
    write_rows(services.folder / "test.jsonl", ROWS)
    config = services.folder / "eval.yaml"
    config.write_text(CONFIG, encoding="utf-8")
    work = config.with_suffix(".work")

    services.run_and_kill("eval", str(config), when=lambda: len(journaled(work, "answers")) >= ROWS // 4)
    kept = journaled(work, "answers")
    assert 0 < len(kept) < ROWS
    assert not (work / "result.json").exists()
    before = services.generated()

    resumed = services.run("eval", str(config))
    assert services.generated() - before == ROWS - len(kept)

    whole = services.run("eval", str(config), "--folder", str(services.folder / "whole"))
    assert resumed["rows"] == whole["rows"] == ROWS and not resumed["dropped"]
    figures, expected = (
        {(one["measure"], one["arm"], one["rival"]): one["estimate"] for one in result["figures"]}
        for result in (resumed, whole)
    )
    assert figures["rouge_l", "base", ""] == expected["rouge_l", "base", ""]
    assert {name: one["value"] for name, one in figures.items()} == pytest.approx(
        {name: one["value"] for name, one in expected.items()}, nan_ok=True
    )
