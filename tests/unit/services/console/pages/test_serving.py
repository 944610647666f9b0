"""Jobs, policies and pools."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest

from ilf_client.models.jobs import JobProgress, JobState
from ilf_common.errors import UnavailableError
from tests.unit.services.console.pages.conftest import Engineer


def test_jobs_are_listed_with_their_steps(engineer: Engineer) -> None:
    shown = engineer.text("/jobs")
    assert "40 of 200" in shown and "1.2340" in shown
    engineer.client.jobs.jobs.clear()
    assert "No jobs yet" in engineer.text("/jobs")


def test_the_loss_is_drawn_from_its_first_step_to_the_newest(engineer: Engineer) -> None:
    for address in ("/jobs/train-1", "/jobs/train-1/live"):
        shown = engineer.text(address)
        assert "step 10: loss 2.5" in shown and "step 40: loss 1.234" in shown
    engineer.client.jobs.jobs["train-1"] = replace(engineer.client.jobs.jobs["train-1"], progress=JobProgress(1, 200))
    assert "The loss is drawn here from the second step on" in engineer.text("/jobs/train-1")


def test_a_job_is_cancelled_after_asking(engineer: Engineer) -> None:
    assert "Training stops" in engineer.text("/jobs/train-1/cancel")
    assert engineer.post("/jobs/train-1/cancel").headers["location"] == "/jobs/train-1"
    assert engineer.client.jobs.jobs["train-1"].state is JobState.CANCELLED
    assert "there is nothing to cancel" in engineer.text("/jobs/train-0/cancel")


def test_versions_say_where_they_come_from(engineer: Engineer) -> None:
    shown = " ".join(engineer.text("/policies").split())
    assert '<a href="/runs/words-1#it-2">words-1, iteration 2</a>' in shown
    assert "<code>words-1/it-1</code> <span" in shown
    assert "the checkpoint is gone" in shown
    assert 'href="/jobs/train-1"' in shown


def test_versions_are_shown_while_the_orchestrator_is_down(engineer: Engineer) -> None:
    engineer.client.runs.fault = UnavailableError("no answer")
    shown = engineer.text("/policies")
    assert "words-1/it-2" in shown
    assert "where versions come from is not known at the moment" in shown


def test_promoting_asks_first_and_says_what_it_does(engineer: Engineer, caplog: pytest.LogCaptureFixture) -> None:
    asked = engineer.text("/policies/promote?alias=production&name=words-1/it-2")
    assert "production points at words-1/it-1 now." in asked
    assert "A rollback points it back at words-1/it-1" in asked
    assert "ilf policies promote production words-1/it-2" in asked
    assert "production" in engineer.client.policies.policies["words-1/it-1"].aliases, "nothing has happened yet"
    with caplog.at_level(logging.INFO, "ilf.console.audit"):
        engineer.post("/policies/promote", alias="production", name="words-1/it-2")
    assert "promote words-1/it-2" in caplog.messages
    assert "production is now words-1/it-2; before it was words-1/it-1." in engineer.text("/policies")


def test_rolling_back_asks_first_too(engineer: Engineer) -> None:
    engineer.post("/policies/promote", alias="production", name="words-1/it-2")
    asked = engineer.text("/policies/rollback?alias=production")
    assert "production points at words-1/it-2 now. It goes back to words-1/it-1" in asked
    engineer.post("/policies/rollback", alias="production", target="words-1/it-1")
    assert "production is words-1/it-1 again." in engineer.text("/policies")


def test_a_rollback_that_would_lead_elsewhere_than_was_said_does_nothing(engineer: Engineer) -> None:
    engineer.post("/policies/promote", alias="production", name="words-1/it-2")
    engineer.post("/policies/rollback", alias="production", target="tiny")
    assert "production was moved meanwhile and would not go back to tiny" in engineer.text("/policies")
    assert "production" in engineer.client.policies.policies["words-1/it-2"].aliases


@pytest.mark.parametrize(
    ("address", "status", "said"),
    [
        ("/policies/promote?alias=production&name=nowhere", 404, "No version &#39;nowhere&#39; is loaded"),
        ("/policies/promote?alias=production&name=words-1/it-1", 200, "points at words-1/it-1 already"),
        ("/policies/promote?alias=production&name=gone/it-3", 200, "only a version that serves can be promoted"),
        ("/policies/promote?alias=&name=tiny", 400, "is missing"),
        ("/policies/rollback?alias=nobody", 200, "There is no alias nobody"),
        ("/policies/rollback?alias=production", 200, "has no version before this one that is still loaded"),
    ],
)
def test_what_cannot_be_done_is_said_before(engineer: Engineer, address: str, status: int, said: str) -> None:
    assert said in engineer.text(address, status)


def test_pools_say_what_is_wanted_there_and_why(engineer: Engineer) -> None:
    shown = engineer.text("/pools")
    assert "240 rows wait" in shown and "Its front does not answer." in shown and "(guess)" in shown
    assert 'data-final="no"' in engineer.text("/pools/live")
    engineer.client.pool_list.clear()
    assert "Nothing is scaled here" in engineer.text("/pools")
