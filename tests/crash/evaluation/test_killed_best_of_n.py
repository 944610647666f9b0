"""`ilf best-of-n` as a process that is killed while the real refinement service generates for it."""

from __future__ import annotations

import pytest

from tests.crash.evaluation.conftest import Services, journaled, write_rows

pytestmark = [pytest.mark.engine, pytest.mark.crash]

ROWS = 60


@pytest.mark.timeout(280)
def test_after_a_kill_nothing_that_was_answered_is_generated_again(services: Services) -> None:
    write_rows(services.folder / "test.jsonl", ROWS)
    config = services.folder / "best.yaml"
    config.write_text(
        "dataset: test.jsonl\npolicy: base\nn: 8\nranker: length\nsampling: {max_new_tokens: 48}\n", encoding="utf-8"
    )
    work = config.with_suffix(".work")

    services.run_and_kill("best-of-n", str(config), when=lambda: len(journaled(work, "samples")) >= ROWS // 4)
    kept = journaled(work, "samples")
    assert 0 < len(kept) < ROWS
    before = services.generated()

    assert services.run("best-of-n", str(config))["items"] == ROWS
    assert services.generated() - before == ROWS - len(kept)
    assert sorted(journaled(work, "samples")) == sorted(f"r{k}" for k in range(ROWS))

    services.run("best-of-n", str(config))
    assert services.generated() - before == ROWS - len(kept)
