"""What people answer on the command line, and what comes out of it as files."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from ilf.orchestrator.v1 import orchestrator_service_pb2 as orchestrator

from ilf_client import AsyncClient, Preference
from ilf_client.argilla import user_id
from ilf_common.errors import InvalidArgumentError
from tests.fakes.ilf_server import FakeServices
from tests.rpc.client.test_cli import Ilf, ilf, succeeded

__all__ = ["ilf"]

DONE = orchestrator.TASK_STATE_DONE


def feedback_task(item: str, **fields: object) -> orchestrator.FeedbackTask:
    task = orchestrator.FeedbackTask(
        name=f"runs/toy/feedbackTasks/{item}", item_id=item, context=f"c{item}", initial_output=f"x{item}", iteration=1
    )
    task.MergeFrom(orchestrator.FeedbackTask(**fields))  # type: ignore[arg-type]
    return task


def review(item: str, annotator: str, verdict: orchestrator.Verdict.ValueType) -> orchestrator.ReviewTask:
    return orchestrator.ReviewTask(
        name=f"runs/toy/reviewTasks/{item}-{annotator}",
        item_id=item,
        context="c",
        initial_output="x0",
        feedback="Shorter.",
        refinement="x1",
        annotator=annotator,
        verdict=verdict,
        state=DONE,
        flags=["unclear", "other"],
        iteration=1,
    )


def pair(item: str, preference: orchestrator.Preference.ValueType) -> orchestrator.ComparisonTask:
    return orchestrator.ComparisonTask(
        name=f"runs/toy/comparisonTasks/{item}",
        item_id=item,
        context="c",
        output_a="one",
        output_b="=two",
        annotator="ann",
        preference=preference,
        reason="It is, so to say,\nshorter.",
        state=DONE,
    )


def test_people_review(ilf: Ilf, services: FakeServices) -> None:
    services.reviews = [orchestrator.ReviewTask(name=f"runs/toy/reviewTasks/{k}", refinement=f"r{k}") for k in range(3)]
    result = ilf("feedback", "toy", "--review", text="what?\ny\nP\n/skip\n")
    assert "2 answered" in result.stdout and "r2" in result.stdout
    assert [(request.verdict, request.skip) for request in services.calls["SubmitReview"]][:2] == [
        (1, False),
        (2, False),
    ]
    assert services.calls["SubmitReview"][2].skip
    assert ilf("feedback", "toy", "--review", "--compare").exit_code == 2


def test_reviews_are_exported_as_judges_are_calibrated_with(ilf: Ilf, services: FakeServices) -> None:
    services.run = succeeded()
    services.reviews = [
        review("a", "ann", orchestrator.VERDICT_YES),
        orchestrator.ReviewTask(name="runs/toy/reviewTasks/b"),
    ]
    [row] = [json.loads(line) for line in ilf("runs", "export", "toy", "--kind", "reviews").stdout.splitlines()]
    assert row == {
        "context": "c",
        "initial_output": "x0",
        "feedback": "Shorter.",
        "refinement": "x1",
        "incorporated": "yes",
        "item_id": "a",
        "iteration": 1,
        "annotator": "ann",
        "flags": "unclear other",
    }


def test_comparisons_are_exported_as_preferences(ilf: Ilf, services: FakeServices, tmp_path: Path) -> None:
    services.run = succeeded()
    services.run.spec.generate.template.text = "Q: {context}"
    services.pairs = [
        pair("1", orchestrator.PREFERENCE_A),
        pair("2", orchestrator.PREFERENCE_B),
        pair("3", orchestrator.PREFERENCE_TIE),
    ]
    target = tmp_path / "pairs.csv"
    assert "wrote 2 rows" in ilf("runs", "export", "toy", "--kind", "comparisons", "-o", str(target)).stdout
    with target.open(encoding="utf-8", newline="") as stream:
        first, second = csv.DictReader(stream)
    assert (first["prompt"], first["chosen"], first["rejected"]) == ("Q: c", "one", "=two")
    assert (second["chosen"], second["rejected"]) == ("=two", "one")
    assert second["reason"] == "It is, so to say,\nshorter."


def test_agreement_is_shown(ilf: Ilf, services: FakeServices) -> None:
    services.reviews = [review("a", name, orchestrator.VERDICT_YES) for name in ("ann", "bob")]
    services.reviews += [review("b", name, orchestrator.VERDICT_NO) for name in ("ann", "bob")]
    result = ilf("feedback", "agreement", "toy")
    assert "reviews: alpha 1.000, 2 items, 2 annotators" in result.stdout
    assert "bob: agrees with 100% of 2 labels of others" in result.stdout
    assert "comparisons: nothing was labelled by two people" in result.stdout
    assert json.loads(ilf("feedback", "agreement", "toy", "-o", "json").stdout)["review"]["alpha"] == 1.0


def test_feedback_goes_to_argilla_and_back(ilf: Ilf, services: FakeServices, tmp_path: Path) -> None:
    services.run = succeeded()
    services.tasks = [feedback_task("a", state=DONE, annotator="ann", feedback="Shorter."), feedback_task("b")]
    target = tmp_path / "records.json"
    assert ilf("runs", "export", "toy", "--kind", "argilla", "-o", str(target)).exit_code == 0
    done, open_record = records = json.loads(target.read_text(encoding="utf-8"))
    assert done["fields"] == {"context": "ca", "initial_output": "xa"}
    assert done["responses"] == {"feedback": [{"value": "Shorter.", "user_id": user_id("ann")}]}
    assert (done["status"], open_record["status"], open_record["responses"]) == ("completed", "pending", {})

    open_record["responses"] = {"feedback": [{"value": "<b>Kinder</b>", "user_id": user_id("ann")}]}
    target.write_text(json.dumps(records), encoding="utf-8")
    assert "1 answered, 1 without an open task" in ilf("feedback", "import", str(target), "toy").stdout
    [sent] = services.calls["SubmitFeedback"]
    assert (sent.name, sent.annotator, sent.feedback) == ("runs/toy/feedbackTasks/b", "ann", "<b>Kinder</b>")


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_open_tasks_are_taken_out_filled_in_and_brought_back(
    ilf: Ilf, services: FakeServices, tmp_path: Path, ending: str
) -> None:
    services.run = succeeded()
    services.tasks = [feedback_task("a", state=DONE, annotator="ann", feedback="Shorter."), feedback_task("b")]
    target = tmp_path / f"open.{ending}"
    assert ilf("runs", "export", "toy", "--kind", "open", "-o", str(target)).exit_code == 0
    text = target.read_text(encoding="utf-8")
    filled = text.replace('"annotator": "", "feedback": ""', '"annotator": "ann", "feedback": "Kinder"')
    if ending == "csv":
        heading, row = text.splitlines()
        assert heading == "item_id,iteration,context,initial_output,guidelines,annotator,feedback"
        filled = f"{heading}\n{row.removesuffix(',,')},ann,Kinder\n"
    target.write_text(filled, encoding="utf-8")
    assert "1 answered, 0 without an open task" in ilf("feedback", "import", str(target), "toy").stdout
    [sent] = services.calls["SubmitFeedback"]
    assert (sent.name, sent.annotator, sent.feedback) == ("runs/toy/feedbackTasks/b", "ann", "Kinder")


@pytest.mark.parametrize(
    "content", ["{", "{}", '[{"fields": {}}]', '[{"metadata": {"iteration": "x", "item_id": 1}}]', "[1]"]
)
def test_files_that_are_no_records_are_refused(ilf: Ilf, tmp_path: Path, content: str) -> None:
    target = tmp_path / "records.json"
    target.write_text(content, encoding="utf-8")
    result = ilf("feedback", "import", str(target), "toy")
    assert result.exit_code == 2 and "records" in result.stderr and "Traceback" not in result.stderr


async def test_half_characters_are_refused_before_they_are_sent(client: AsyncClient, services: FakeServices) -> None:
    for call in (
        client.feedback.submit("runs/toy/feedbackTasks/a", "ann", "ab\ud800"),
        client.comparisons.submit("runs/toy/comparisonTasks/a", "ann", Preference.A, reason="ab\udc80"),
    ):
        with pytest.raises(InvalidArgumentError) as caught:
            await call
        assert "position 3" in caught.value.violations[0].description
    assert not services.calls["SubmitFeedback"] and not services.calls["SubmitComparison"]
