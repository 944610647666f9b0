"""Tasks of people, on both databases."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from ilf.orchestrator.v1 import orchestrator_service_pb2 as pb

from ilf_common.errors import FailedPreconditionError, NotFoundError
from ilf_common.rpc.status import from_rpc_error
from tests.integration.orchestrator.support import Scene, rows, scene, small_spec, write_rows


@asynccontextmanager
async def waiting_run(
    folder: Path, database_url: str | None, *, train: int = 4, fields: dict[str, str] | None = None, **feedback: Any
) -> AsyncIterator[tuple[Scene, pb.Run]]:
    """A run that waits for people's feedback on `train` items."""
    async with scene(folder, database_url=database_url) as here:
        source = {"source": "SOURCE_PEOPLE", **feedback}
        spec = small_spec(here, train=train, feedback=source)
        spec["dataset"]["train_uri"] = write_rows(here.folder, "asked.jsonl", rows("train", train, **(fields or {})))
        run = await here.create(spec, run_id=f"people-{uuid.uuid4().hex[:8]}")
        async with asyncio.timeout(20):
            while (await here.stub.GetRun(pb.GetRunRequest(name=run.name))).waiting.reason != "PEOPLE":
                await asyncio.sleep(0.02)
        yield here, run


async def lease(here: Scene, run: pb.Run, annotator: str, count: int = 1) -> list[pb.FeedbackTask]:
    request = pb.ListFeedbackTasksRequest(parent=run.name, annotator=annotator, page_size=count)
    return list((await here.stub.ListFeedbackTasks(request)).tasks)


async def submit(here: Scene, task: pb.FeedbackTask, annotator: str, text: str = "Shorter.") -> pb.FeedbackTask:
    request = pb.SubmitFeedbackRequest(name=task.name, annotator=annotator, feedback=text)
    done: pb.FeedbackTask = await here.stub.SubmitFeedback(request)
    return done


async def refused(call: Any) -> str:
    with pytest.raises(grpc.RpcError) as caught:
        await call
    error = from_rpc_error(caught.value)
    assert isinstance(error, FailedPreconditionError | NotFoundError)
    return error.reason


async def test_samples_of_a_waiting_run_show_no_feedback_of_the_dataset(tmp_path: Path) -> None:
    feedback_of_another_output = {"initial_output": "old", "feedback": "The old one is too long."}
    async with waiting_run(tmp_path, None, fields=feedback_of_another_output) as (here, run):
        page = await here.stub.ListSamples(pb.ListSamplesRequest(parent=run.name, iteration=1))
        assert [sample.feedback for sample in page.samples] == [""] * 4
        assert all(sample.initial_output not in ("", "old") for sample in page.samples)


async def test_a_run_waits_for_people_and_goes_on_with_their_words(tmp_path: Path, database_url: str | None) -> None:
    async with waiting_run(tmp_path, database_url) as (here, run):
        tasks = await lease(here, run, "ann", 4)
        assert [task.item_id for task in tasks] == [f"train-{n}" for n in range(4)]
        assert all(task.initial_output and task.state == pb.TASK_STATE_LEASED for task in tasks)
        for task in tasks:
            done = await submit(here, task, "ann", f"Shorten {task.item_id}.")
            assert done.state == pb.TASK_STATE_DONE
        ended = await here.end(run)
        assert ended.state == pb.RUN_STATE_SUCCEEDED, ended.error
        page = await here.stub.ListSamples(pb.ListSamplesRequest(parent=run.name, iteration=1))
        assert [sample.feedback for sample in page.samples] == [f"Shorten train-{n}." for n in range(4)]
        assert await refused(submit(here, tasks[0], "ann", "Too late.")) == "TASK_DONE"


async def test_one_task_goes_to_one_annotator_at_a_time(tmp_path: Path, database_url: str | None) -> None:
    async with waiting_run(tmp_path, database_url) as (here, run):
        first = await lease(here, run, "ann", 3)
        second = await lease(here, run, "bob", 3)
        assert len(first) == 3 and len(second) == 1
        assert not {task.name for task in first} & {task.name for task in second}
        assert [task.name for task in await lease(here, run, "ann", 2)] == [task.name for task in first[:2]]
        assert await refused(submit(here, first[0], "bob")) == "LEASE_TAKEN"
        unknown = pb.FeedbackTask(name=f"{run.name}/feedbackTasks/nothing")
        assert await refused(submit(here, unknown, "bob")) == "TASK_NOT_FOUND"


async def test_an_expired_lease_goes_to_somebody_else(tmp_path: Path, database_url: str | None) -> None:
    async with waiting_run(tmp_path, database_url, train=1, lease="0.2s") as (here, run):
        (task,) = await lease(here, run, "ann")
        await asyncio.sleep(0.3)
        assert await refused(submit(here, task, "ann")) == "LEASE_EXPIRED"
        (again,) = await lease(here, run, "bob")
        assert again.name == task.name


async def test_a_skipped_task_comes_back_for_others_only(tmp_path: Path, database_url: str | None) -> None:
    async with waiting_run(tmp_path, database_url, train=1) as (here, run):
        (task,) = await lease(here, run, "ann")
        skip = pb.SubmitFeedbackRequest(name=task.name, annotator="ann", skip=True)
        assert (await here.stub.SubmitFeedback(skip)).state == pb.TASK_STATE_SKIPPED
        assert await lease(here, run, "ann") == []
        assert [other.name for other in await lease(here, run, "bob")] == [task.name]


async def test_an_answer_may_be_changed_until_the_run_has_gone_on(tmp_path: Path, database_url: str | None) -> None:
    async with waiting_run(tmp_path, database_url, train=2) as (here, run):
        first, second = await lease(here, run, "ann", 2)
        await submit(here, first, "ann", "Shorter.")
        await submit(here, first, "ann", "Much shorter.")
        assert await refused(submit(here, first, "bob", "Longer.")) == "TASK_DONE"
        await submit(here, second, "ann")
        assert (await here.end(run)).state == pb.RUN_STATE_SUCCEEDED
        page = await here.stub.ListSamples(pb.ListSamplesRequest(parent=run.name, iteration=1))
        assert page.samples[0].feedback == "Much shorter."


async def test_several_annotators_give_each_item_one_paragraph_each(tmp_path: Path, database_url: str | None) -> None:
    async with waiting_run(tmp_path, database_url, train=2, annotators_per_item=2) as (here, run):
        for annotator in ("bob", "ann"):
            tasks = await lease(here, run, annotator, 10)
            assert sorted(task.item_id for task in tasks) == ["train-0", "train-1"]
            for task in tasks:
                await submit(here, task, annotator, f"{annotator} says: shorter.")
        assert (await here.end(run)).state == pb.RUN_STATE_SUCCEEDED
        page = await here.stub.ListSamples(pb.ListSamplesRequest(parent=run.name, iteration=1))
        assert page.samples[0].feedback == "ann says: shorter.\nbob says: shorter."


async def test_without_an_annotator_all_tasks_are_shown_and_none_is_leased(
    tmp_path: Path, database_url: str | None
) -> None:
    async with waiting_run(tmp_path, database_url, train=5) as (here, run):
        names: list[str] = []
        token = ""
        while True:
            request = pb.ListFeedbackTasksRequest(parent=run.name, page_size=2, page_token=token)
            page = await here.stub.ListFeedbackTasks(request)
            names.extend(task.name for task in page.tasks)
            assert all(task.state == pb.TASK_STATE_OPEN for task in page.tasks)
            assert (page.progress.done, page.progress.total) == (0, 5)
            token = page.next_page_token
            if not token:
                break
        assert len(set(names)) == 5


async def test_pairs_of_samples_are_compared_and_shown(tmp_path: Path, database_url: str | None) -> None:
    async with scene(tmp_path, database_url=database_url) as here:
        run = await here.end(await here.create(small_spec(here, train=12), run_id=f"pairs-{uuid.uuid4().hex[:8]}"))
        request = pb.ListComparisonTasksRequest(parent=run.name, annotator="ann", page_size=10)
        page = await here.stub.ListComparisonTasks(request)
        assert len(page.tasks) == 10
        for task in page.tasks:
            assert task.output_a != task.output_b
            answer = pb.SubmitComparisonRequest(name=task.name, annotator="ann", preference=pb.PREFERENCE_B)
            assert (await here.stub.SubmitComparison(answer)).preference == pb.PREFERENCE_B
        page = await here.stub.ListComparisonTasks(request)
        assert len(page.tasks) == 2 and page.progress.done == 10
        shown = await here.stub.ListComparisonTasks(pb.ListComparisonTasksRequest(parent=run.name, page_size=100))
        assert [task.preference for task in shown.tasks].count(pb.PREFERENCE_B) == 10


async def test_a_run_on_either_database_survives_a_restart_of_the_orchestrator(
    tmp_path: Path, database_url: str | None
) -> None:
    async with waiting_run(tmp_path, database_url, train=2) as (here, run), here.restarted():
        for task in await lease(here, run, "ann", 2):
            await submit(here, task, "ann")
        ended = await here.end(run)
        assert ended.state == pb.RUN_STATE_SUCCEEDED, ended.error


async def finished_run(here: Scene, train: int = 12, **changes: Any) -> pb.Run:
    """A run that has come to its end, with samples to compare and review."""
    run = await here.end(
        await here.create(small_spec(here, train=train, **changes), run_id=f"done-{uuid.uuid4().hex[:8]}")
    )
    assert run.state == pb.RUN_STATE_SUCCEEDED, run.error
    return run


async def reviews(here: Scene, parent: str, annotator: str, count: int = 1) -> list[pb.ReviewTask]:
    request = pb.ListReviewTasksRequest(parent=parent, annotator=annotator, page_size=count)
    return list((await here.stub.ListReviewTasks(request)).tasks)


async def judge(here: Scene, task: pb.ReviewTask, annotator: str, verdict: Any = pb.VERDICT_YES) -> pb.ReviewTask:
    request = pb.SubmitReviewRequest(name=task.name, annotator=annotator, verdict=verdict, flags=["unclear"])
    done: pb.ReviewTask = await here.stub.SubmitReview(request)
    return done


async def test_chosen_refinements_are_reviewed_with_what_they_should_incorporate(
    tmp_path: Path, database_url: str | None
) -> None:
    async with scene(tmp_path, database_url=database_url) as here:
        run = await finished_run(here, people={"guidelines": "Be strict.", "reviews_per_item": 2})
        samples = {
            sample.item_id: sample
            for sample in (await here.stub.ListSamples(pb.ListSamplesRequest(parent=run.name, iteration=1))).samples
        }
        tasks = await reviews(here, run.name, "ann", 100)
        assert len(tasks) == 12 and {task.item_id for task in tasks} == set(samples)
        for task in tasks:
            sample = samples[task.item_id]
            assert (task.candidate, task.feedback) == (sample.chosen_index, sample.feedback)
            assert task.refinement == sample.candidates[sample.chosen_index].text
            assert (task.guidelines, task.iteration) == ("Be strict.", 1)
        done = await judge(here, tasks[0], "ann", pb.VERDICT_PARTLY)
        assert (done.verdict, list(done.flags), done.state) == (pb.VERDICT_PARTLY, ["unclear"], pb.TASK_STATE_DONE)
        assert (await judge(here, tasks[0], "ann", pb.VERDICT_NO)).verdict == pb.VERDICT_NO
        # The second slots are for others, and a third person finds none.
        seconds = await reviews(here, run.name, "bob", 100)
        assert {task.item_id for task in seconds} == set(samples)
        assert not {task.name for task in seconds} & {task.name for task in tasks}
        assert await reviews(here, run.name, "cid", 100) == []


async def test_no_two_people_get_the_same_task_at_the_same_time(tmp_path: Path, database_url: str | None) -> None:
    async with scene(tmp_path, database_url=database_url) as here:
        run = await finished_run(here, train=30)
        leased = await asyncio.gather(*(reviews(here, run.name, f"person-{number}", 2) for number in range(15)))
        names = [task.name for tasks in leased for task in tasks]
        assert len(names) == len(set(names)) == 30


async def test_all_runs_offer_their_samples_newest_first(tmp_path: Path, database_url: str | None) -> None:
    somebody = uuid.uuid4().hex
    async with scene(tmp_path, database_url=database_url) as here:
        older, newer = await finished_run(here), await finished_run(here)
        first = await reviews(here, "runs/-", somebody, 12)
        assert {task.name.rsplit("/", 2)[0] for task in first} == {newer.name}
        both = await reviews(here, "runs/-", somebody, 20)
        assert {task.name.rsplit("/", 2)[0] for task in both} == {newer.name, older.name}


async def test_feedback_of_a_run_that_was_cancelled_is_asked_of_nobody(tmp_path: Path) -> None:
    async with waiting_run(tmp_path, None) as (here, run):
        await here.stub.CancelRun(pb.CancelRunRequest(name=run.name))
        listing = pb.ListFeedbackTasksRequest(parent="runs/-", annotator="ann", page_size=10)
        assert list((await here.stub.ListFeedbackTasks(listing)).tasks) == []


async def test_own_answers_come_newest_first_with_progress_and_pace(tmp_path: Path, database_url: str | None) -> None:
    somebody = uuid.uuid4().hex
    async with waiting_run(tmp_path, database_url, train=4, nothing_to_change=["ok"]) as (here, run):
        tasks = await lease(here, run, somebody, 3)
        assert {task.nothing_to_change for task in tasks} == {"ok"}
        for task in tasks:
            await submit(here, task, somebody, f"Shorten {task.item_id}.")
        await submit(here, tasks[0], somebody, "Shorten it much more.")
        await submit(here, (await lease(here, run, "bob"))[0], "bob")

        first = await here.stub.ListAnswers(pb.ListAnswersRequest(parent=run.name, annotator=somebody, page_size=2))
        rest = await here.stub.ListAnswers(
            pb.ListAnswersRequest(parent="runs/-", annotator=somebody, page_size=2, page_token=first.next_page_token)
        )
        texts = [answer.feedback.feedback for answer in (*first.answers, *rest.answers)]
        assert texts == ["Shorten it much more.", "Shorten train-2.", "Shorten train-1."]
        assert not rest.next_page_token and first.answers[0].feedback.answer_time.seconds > 0

        request = pb.GetAnnotationProgressRequest(parent=run.name, annotator=somebody)
        progress = await here.stub.GetAnnotationProgress(request)
        assert (progress.feedback.done, progress.feedback.total) == (4, 4)
        assert (progress.answered, progress.answered_last_day, progress.answered_last_hour) == (3, 3, 3)
        assert (await here.stub.GetAnnotationProgress(pb.GetAnnotationProgressRequest(parent="runs/-"))).answered == 0


async def test_a_repeated_answer_or_skip_changes_nothing(tmp_path: Path, database_url: str | None) -> None:
    async with waiting_run(tmp_path, database_url, train=2) as (here, run):
        first, second = await lease(here, run, "ann", 2)
        assert await submit(here, first, "ann") == await submit(here, first, "ann")
        skip = pb.SubmitFeedbackRequest(name=second.name, annotator="ann", skip=True)
        for _ in range(2):
            assert (await here.stub.SubmitFeedback(skip)).state == pb.TASK_STATE_SKIPPED
        [other] = await lease(here, run, "bob")
        assert other.name == second.name
        assert (await here.stub.SubmitFeedback(skip)).state == pb.TASK_STATE_SKIPPED
        assert (await submit(here, other, "bob")).annotator == "bob"


async def test_a_lease_lasts_as_long_as_the_run_says_whichever_way_it_is_asked_for(tmp_path: Path) -> None:
    async with waiting_run(tmp_path, None, train=1, lease="3600s") as (here, run):
        listing = pb.ListFeedbackTasksRequest(parent="runs/-", annotator="ann")
        [task] = (await here.stub.ListFeedbackTasks(listing)).tasks
        left = task.lease_expire_time.seconds - time.time()
        assert 3500 < left <= 3601 and task.name.startswith(run.name)


async def test_nothing_to_change_keeps_the_initial_output(tmp_path: Path) -> None:
    async with waiting_run(tmp_path, None, train=2) as (here, run):
        first, second = await lease(here, run, "ann", 2)
        await submit(here, first, "ann", first.nothing_to_change)
        await submit(here, second, "ann")
        assert (await here.end(run)).state == pb.RUN_STATE_SUCCEEDED
        page = await here.stub.ListSamples(pb.ListSamplesRequest(parent=run.name, iteration=1))
        assert [candidate.text for candidate in page.samples[0].candidates] == [first.initial_output]
