"""What people and their clients may not send, over a real server with the real interceptor."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from ilf.orchestrator.v1 import orchestrator_service_pb2 as pb

from ilf_common.rpc.pagination import encode_token
from tests.integration.orchestrator.support import Scene, scene, small_spec
from tests.rpc.orchestrator.test_errors import INVALID, refusal

NOT_FOUND = grpc.StatusCode.NOT_FOUND


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Scene]:
    async with scene(tmp_path) as opened:
        yield opened


async def test_texts_of_people_are_refused_with_the_field_and_nothing_is_written(here: Scene) -> None:
    name = "runs/toy/feedbackTasks/001-00000-0000-00"
    for field, request in (
        ("feedback", pb.SubmitFeedbackRequest(name=name, annotator="ann", feedback="a\0b")),
        ("feedback", pb.SubmitFeedbackRequest(name=name, annotator="ann", feedback="x" * 200_001)),
        ("feedback", pb.SubmitFeedbackRequest(name=name, annotator="ann", feedback=" \n ")),
        ("annotator", pb.SubmitFeedbackRequest(name=name, feedback="fine")),
        ("annotator", pb.SubmitFeedbackRequest(name=name, annotator="a\0nn", feedback="fine")),
        ("flags", pb.SubmitFeedbackRequest(name=name, annotator="ann", feedback="fine", flags=["rude"])),
        ("flags", pb.SubmitFeedbackRequest(name=name, annotator="ann", skip=True, flags=["other"])),
        ("name", pb.SubmitFeedbackRequest(name="runs/toy/feedbackTasks/\0", annotator="ann", feedback="fine")),
        ("name", pb.SubmitFeedbackRequest(name=name.replace("feedback", "review"), annotator="a", feedback="b")),
    ):
        code, reason, fields = await refusal(here.stub.SubmitFeedback(request))
        assert (code, reason, fields) == (INVALID, "INVALID_FIELD", {field})


async def test_labels_that_nobody_knows_are_refused(here: Scene) -> None:
    review = pb.SubmitReviewRequest(name="runs/toy/reviewTasks/1", annotator="ann")
    assert await refusal(here.stub.SubmitReview(review)) == (INVALID, "INVALID_FIELD", {"verdict"})
    review.verdict = 17  # type: ignore[assignment]
    assert await refusal(here.stub.SubmitReview(review)) == (INVALID, "INVALID_FIELD", {"verdict"})
    comparison = pb.SubmitComparisonRequest(name="runs/toy/comparisonTasks/1", annotator="ann")
    assert await refusal(here.stub.SubmitComparison(comparison)) == (INVALID, "INVALID_FIELD", {"preference"})


async def test_tasks_and_runs_that_are_not_there_are_named(here: Scene) -> None:
    review = pb.SubmitReviewRequest(name="runs/toy/reviewTasks/1", annotator="ann", verdict=pb.VERDICT_YES)
    assert (await refusal(here.stub.SubmitReview(review)))[:2] == (NOT_FOUND, "TASK_NOT_FOUND")
    for call, request in (
        (here.stub.ListReviewTasks, pb.ListReviewTasksRequest(parent="runs/nothing", annotator="ann")),
        (here.stub.ListAnswers, pb.ListAnswersRequest(parent="runs/nothing", annotator="ann")),
        (here.stub.GetAnnotationProgress, pb.GetAnnotationProgressRequest(parent="runs/nothing")),
    ):
        assert (await refusal(call(request)))[:2] == (NOT_FOUND, "RUN_NOT_FOUND")


async def test_lists_say_which_field_is_wrong(here: Scene) -> None:
    for field, call, request in (
        ("parent", here.stub.ListReviewTasks, pb.ListReviewTasksRequest(parent="runs/'; --", annotator="ann")),
        ("parent", here.stub.ListAnswers, pb.ListAnswersRequest(annotator="ann")),
        ("annotator", here.stub.ListAnswers, pb.ListAnswersRequest(parent="runs/-")),
        ("page_size", here.stub.ListAnswers, pb.ListAnswersRequest(parent="runs/-", annotator="a", page_size=-1)),
        (
            "page_token",
            here.stub.ListAnswers,
            pb.ListAnswersRequest(parent="runs/-", annotator="a", page_token=encode_token("yesterday")),
        ),
        (
            "page_token",
            here.stub.ListReviewTasks,
            pb.ListReviewTasksRequest(parent="runs/-", page_token=encode_token("runs/a/feedbackTasks/1")),
        ),
        ("annotator", here.stub.ListReviewTasks, pb.ListReviewTasksRequest(parent="runs/-", annotator="a" * 129)),
    ):
        code, _, fields = await refusal(call(request))
        assert (code, fields) == (INVALID, {field})


async def test_too_long_guidelines_are_refused_when_the_run_is_created(here: Scene) -> None:
    spec = small_spec(here, people={"guidelines": "x" * 20_001, "reviews_per_item": 101})
    code, _, fields = await refusal(here.create(spec))
    assert (code, fields) == (INVALID, {"spec.people.guidelines", "spec.people.reviews_per_item"})


async def test_what_people_are_told_is_not_part_of_what_a_run_computes(here: Scene) -> None:
    plain = await here.create(small_spec(here), validate_only=True)
    told = await here.create(small_spec(here, people={"guidelines": "Be kind."}), validate_only=True)
    assert plain.spec_digest == told.spec_digest
    assert told.spec.people == pb.PeopleSpec(guidelines="Be kind.", comparisons_per_pair=1, reviews_per_item=1)
