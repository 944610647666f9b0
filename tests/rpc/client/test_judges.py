"""The calibration of judges against scikit-learn and hand-computed values."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from ilf.ranking.v1 import ranking_service_pb2 as ranking
from sklearn.metrics import accuracy_score, brier_score_loss

from ilf_client import AsyncClient
from ilf_client.cli.main import main
from ilf_common.errors import InvalidArgumentError, NotFoundError
from tests.fakes.evaluated_services import EvaluatedServices

ROWS = 400


class Judges(EvaluatedServices):
    """Two judges: one tells the truth of a row in a sharpened way, the other goes by length."""

    async def BatchRank(self, request: Any, context: Any) -> AsyncIterator[Any]:
        def answer(item: Any) -> ranking.RankResponse:
            truth = float(item.feedback)
            odds = (truth / (1 - truth)) ** 3
            scores = {"sharp": odds / (1 + odds), "long": min(0.99, len(item.candidates[0]) / 100)}
            return ranking.RankResponse(
                scores=[
                    ranking.CandidateScore(
                        score=sum(scores.values()) / 2,
                        judge_scores=[ranking.JudgeScore(judge=name, score=score) for name, score in scores.items()],
                    )
                ]
            )

        async for response in self._stream(
            "BatchRank", request, ranking.BatchRankResponse, ranking.RankOutcome, answer
        ):
            yield response


@pytest.fixture
def services() -> EvaluatedServices:
    return Judges()


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    rows = []
    for k in range(ROWS):
        truth = float(random.uniform(0.02, 0.98))
        rows.append(
            {
                "context": f"context {k // 2}",
                "initial_output": "x",
                "feedback": f"{truth:.6f}",
                "refinement": "w" * int(random.integers(10, 90)),
                "incorporated": "yes" if random.uniform() < truth else "no",
            }
        )
    path = tmp_path / "labelled.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


async def test_every_judge_is_measured_against_people(client: AsyncClient, labelled: Path, tmp_path: Path) -> None:
    report = await client.evaluation.calibrate_judges(labelled, tmp_path / "work")
    rows = [json.loads(line) for line in labelled.open()]
    labels = [row["incorporated"] == "yes" for row in rows]
    truth = np.array([float(row["feedback"]) for row in rows])
    odds = (truth / (1 - truth)) ** 3
    ensemble, sharp, long = report.judges
    assert [ensemble.judge, sharp.judge, long.judge] == ["ensemble", "sharp", "long"]
    assert (report.rows, report.contexts, report.dropped) == (ROWS, ROWS // 2, {})
    assert report.incorporated.n == ROWS // 2
    assert sharp.accuracy.value == pytest.approx(accuracy_score(labels, truth > 0.5))
    assert sharp.uncalibrated.brier == pytest.approx(brier_score_loss(labels, odds / (1 + odds)))
    assert sharp.temperature == pytest.approx(3, rel=0.25)
    assert sharp.calibrated.ece < sharp.uncalibrated.ece
    assert sharp.calibrated.brier == pytest.approx(brier_score_loss(labels, truth), abs=0.01)
    assert long.length_slope is not None and report.length_slope is not None
    assert long.length_slope.value == pytest.approx(0.01)
    assert abs(report.length_slope.value) < 3 * report.length_slope.standard_error
    assert long.accuracy_low < 0.5 < long.accuracy_high


async def test_rows_that_say_nothing_are_left_out_and_counted(
    client: AsyncClient, labelled: Path, tmp_path: Path
) -> None:
    first = labelled.read_text().splitlines()[0]
    bad = [
        "nonsense",
        "[1]",
        '{"context": "c"}',
        json.dumps({**json.loads(first), "context": " "}),
        json.dumps({**json.loads(first), "incorporated": "maybe"}),
        first,
    ]
    with labelled.open("a") as stream:
        stream.write("\n".join(bad) + "\n")
    report = await client.evaluation.calibrate_judges(labelled, tmp_path / "work")
    assert report.rows == ROWS
    assert report.dropped == {
        "context: is empty": 1,
        "incorporated: is neither yes nor no": 1,
        "initial_output: is missing or no text": 1,
        "is not a JSON object": 1,
        "is not valid JSON": 1,
        "repeats an earlier row": 1,
    }


async def test_a_repeat_asks_nothing_again(
    client: AsyncClient, labelled: Path, tmp_path: Path, services: EvaluatedServices
) -> None:
    first = await client.evaluation.calibrate_judges(labelled, tmp_path / "work")
    services.calls.clear()
    assert await client.evaluation.calibrate_judges(labelled, tmp_path / "work") == first
    assert not services.calls["BatchRank"]


async def test_one_kind_of_label_is_refused(client: AsyncClient, labelled: Path, tmp_path: Path) -> None:
    labelled.write_text(labelled.read_text().replace('"no"', '"yes"'))
    with pytest.raises(InvalidArgumentError, match="some with each label"):
        await client.evaluation.calibrate_judges(labelled, tmp_path / "work")
    with pytest.raises(NotFoundError):
        await client.evaluation.calibrate_judges(tmp_path / "nowhere.jsonl", tmp_path / "work")


def test_the_command_writes_report_table_and_plot(
    server_address: str, labelled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ILF_SERVER", server_address)
    found = CliRunner().invoke(main, ["judges", "calibrate", str(labelled)])
    assert found.exit_code == 0, found.output
    assert f"{ROWS} rows of {ROWS // 2} contexts" in found.output
    folder = labelled.with_suffix(".judges")
    assert "| sharp |" in (folder / "judges.md").read_text()
    assert "<svg" in (folder / "reliability.svg").read_text()
    assert json.loads((folder / "judges.json").read_text())["judges"][1]["judge"] == "sharp"
