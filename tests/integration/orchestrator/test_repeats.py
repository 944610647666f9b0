"""Answers that come again late, on both databases."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

from ilf.orchestrator.v1 import orchestrator_service_pb2 as pb

from tests.integration.orchestrator.support import Scene, scene
from tests.integration.orchestrator.test_people import finished_run, lease, refused, reviews, waiting_run


def said(task: pb.FeedbackTask, text: str, request_id: str, annotator: str = "ann") -> pb.SubmitFeedbackRequest:
    return pb.SubmitFeedbackRequest(name=task.name, annotator=annotator, feedback=text, request_id=request_id)


def skipped(task: pb.FeedbackTask, request_id: str, annotator: str = "ann") -> pb.SubmitFeedbackRequest:
    return pb.SubmitFeedbackRequest(name=task.name, annotator=annotator, skip=True, request_id=request_id)


async def pace_of(here: Scene, run: pb.Run, annotator: str) -> Any:
    return await here.stub.GetAnnotationProgress(pb.GetAnnotationProgressRequest(parent=run.name, annotator=annotator))


async def test_a_late_repeat_of_an_answer_leaves_the_edit_that_came_after_it(
    tmp_path: Path, database_url: str | None
) -> None:
    async with waiting_run(tmp_path, database_url, train=2) as (here, run):
        first, second = await lease(here, run, "ann", 2)
        await here.stub.SubmitFeedback(said(first, "Shorter.", "id-1"))
        edited = await here.stub.SubmitFeedback(said(first, "Much shorter.", "id-2"))
        before = await pace_of(here, run, "ann")
        assert await here.stub.SubmitFeedback(said(first, "Shorter.", "id-1")) == edited
        assert edited.feedback == "Much shorter."
        assert await pace_of(here, run, "ann") == before
        async with here.restarted():
            assert await here.stub.SubmitFeedback(said(first, "Shorter.", "id-1")) == edited
            # The same id is another request where it is of another task.
            await here.stub.SubmitFeedback(said(second, "Kinder.", "id-1"))
            assert (await here.end(run)).state == pb.RUN_STATE_SUCCEEDED
            late = await here.stub.SubmitFeedback(said(first, "Shorter.", "id-1"))
            assert (late.feedback, late.closed) == ("Much shorter.", True)
            assert await refused(here.stub.SubmitFeedback(said(first, "Shorter.", "id-3"))) == "TASK_DONE"


async def test_answers_without_an_id_are_taken_each_time(tmp_path: Path, database_url: str | None) -> None:
    async with waiting_run(tmp_path, database_url, train=2) as (here, run):
        [task] = await lease(here, run, "ann")
        for text in ("Shorter.", "Kinder.", "Shorter."):
            assert (await here.stub.SubmitFeedback(said(task, text, ""))).feedback == text


async def test_a_repeated_skip_and_an_answer_from_before_it_disturb_nobody(
    tmp_path: Path, database_url: str | None
) -> None:
    async with waiting_run(tmp_path, database_url, train=2) as (here, run):
        [task] = await lease(here, run, "ann")
        await here.stub.SubmitFeedback(said(task, "Shorter.", "id-1"))
        assert (await here.stub.SubmitFeedback(skipped(task, "id-2"))).state == pb.TASK_STATE_SKIPPED
        [other] = await lease(here, run, "bob")
        assert other.name == task.name
        done = await here.stub.SubmitFeedback(said(task, "Kinder.", "id-1", "bob"))
        for repeat in (said(task, "Shorter.", "id-1"), skipped(task, "id-2")):
            shown = await here.stub.SubmitFeedback(repeat)
            assert (shown.state, shown.annotator, shown.feedback) == (pb.TASK_STATE_SKIPPED, "ann", "")
            assert not shown.HasField("answer_time")
        listed = await here.stub.ListFeedbackTasks(pb.ListFeedbackTasksRequest(parent=run.name, page_size=10))
        [kept] = [one for one in listed.tasks if one.name == task.name]
        assert (kept.state, kept.annotator, kept.feedback) == (pb.TASK_STATE_DONE, "bob", "Kinder.")
        assert kept.answer_time == done.answer_time and listed.progress.done == 1


async def test_late_repeats_of_verdicts_and_preferences_leave_the_newer_ones(
    tmp_path: Path, database_url: str | None
) -> None:
    async with scene(tmp_path, database_url=database_url) as here:
        run = await finished_run(here)
        somebody = uuid.uuid4().hex
        [review] = await reviews(here, run.name, somebody)
        listing = pb.ListComparisonTasksRequest(parent=run.name, annotator=somebody)
        [pair] = (await here.stub.ListComparisonTasks(listing)).tasks
        verdicts, preferences = [], []
        for number, verdict, preference in (
            ("id-1", pb.VERDICT_YES, pb.PREFERENCE_A),
            ("id-2", pb.VERDICT_NO, pb.PREFERENCE_B),
            ("id-1", pb.VERDICT_YES, pb.PREFERENCE_A),
        ):
            judged = pb.SubmitReviewRequest(name=review.name, annotator=somebody, verdict=verdict, request_id=number)
            verdicts.append((await here.stub.SubmitReview(judged)).verdict)
            compared = pb.SubmitComparisonRequest(
                name=pair.name, annotator=somebody, preference=preference, request_id=number
            )
            preferences.append((await here.stub.SubmitComparison(compared)).preference)
        assert verdicts == [pb.VERDICT_YES, pb.VERDICT_NO, pb.VERDICT_NO]
        assert preferences == [pb.PREFERENCE_A, pb.PREFERENCE_B, pb.PREFERENCE_B]
