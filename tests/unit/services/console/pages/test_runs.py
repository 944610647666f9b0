"""The list of runs, and a run's page while it goes on."""

from __future__ import annotations

import logging
import re

import pytest

from ilf_client.models.runs import RunState
from ilf_common.errors import UnavailableError
from tests.unit.services.console.pages.conftest import Engineer


def test_the_list_is_filtered_by_state_and_text(engineer: Engineer) -> None:
    assert engineer.text("/runs").count('<th scope="row">') == 4
    found = engineer.text("/runs?state=failed&state=waiting&text=brok")
    assert 'href="/runs/broken"' in found
    assert "words-2" not in found
    assert engineer.client.runs.calls[-1] == ("list", ((RunState.FAILED, RunState.WAITING), "brok"))
    assert "ilf runs list --state failed --state waiting --text brok" in found


def test_a_list_without_runs_says_what_to_do(engineer: Engineer) -> None:
    assert "Take a condition away" in engineer.text("/runs?text=nowhere")
    engineer.client.runs.runs.clear()
    assert 'href="/runs/new"' in engineer.text("/runs")


def test_an_unknown_state_is_refused_with_the_known_ones(engineer: Engineer) -> None:
    assert "known are pending, running" in engineer.text("/runs?state=asleep", 400)


def test_a_run_shows_stages_with_counts_and_rates_what_it_waits_for_and_its_pools(engineer: Engineer) -> None:
    shown = engineer.text("/runs/words-2")
    assert "SERVICE_UNAVAILABLE: ranking does not answer" in shown
    assert "40 of 120" in shown
    assert "0.5/s" in shown and "/min" in shown
    assert "360,000 prompt and 48,000 new tokens" in shown
    assert "240 rows wait" in shown
    assert "ilf runs watch words-2" in shown


def test_points_of_a_metric_lead_to_the_samples_of_their_iteration(engineer: Engineer) -> None:
    shown = engineer.text("/runs/words-1")
    assert '<a href="/runs/words-1/samples?iteration=2"><title>iteration 2: 0.65 ± 0.03 (n = 300)</title>' in shown
    assert '<a href="/runs/words-1#it-0"><title>' in shown, "iteration 0 has no samples"


def test_a_failed_run_leads_to_the_rows_that_failed(engineer: Engineer) -> None:
    shown = engineer.text("/runs/broken")
    assert "41 of 120 rows failed" in shown
    assert 'href="/runs/broken/samples?failed=yes"' in shown
    assert 'href="/runs/broken/resume"' in shown


def test_a_preview_says_what_the_whole_run_would_cost_and_offers_it(engineer: Engineer) -> None:
    shown = engineer.text("/runs/look")
    assert "What the preview cost" in shown
    assert re.search(r"refine</th>.*5,100,000", shown, re.DOTALL), "102,000 tokens for 20 rows, 1,000 rows in all"
    assert "Start the whole run" in shown


def test_the_live_part_tells_when_the_run_has_ended(engineer: Engineer) -> None:
    assert 'data-final="no"' in engineer.text("/runs/words-2/live")
    assert 'data-final="yes"' in engineer.text("/runs/words-1/live")
    assert "<html" not in engineer.text("/runs/words-1/live")


def test_the_live_part_names_the_service_that_is_down_and_goes_on(engineer: Engineer) -> None:
    engineer.client.runs.fault = UnavailableError("no answer")
    answer = engineer.get("/runs/words-2/live", accept="application/json")
    assert answer.status_code == 503
    assert answer.json()["retry"] is True
    assert "orchestrator" in answer.json()["message"].lower()
    engineer.client.runs.fault = None
    assert engineer.get("/runs/words-2/live", accept="application/json").status_code == 200


def test_cancelling_asks_first_and_is_audited(engineer: Engineer, caplog: pytest.LogCaptureFixture) -> None:
    assert "The run stops at once" in engineer.text("/runs/words-2/cancel")
    assert engineer.client.runs.runs["words-2"].state is RunState.WAITING
    with caplog.at_level(logging.INFO, "ilf.console.audit"):
        answer = engineer.post("/runs/words-2/cancel")
    assert (answer.status_code, answer.headers["location"]) == (303, "/runs/words-2")
    assert engineer.client.runs.runs["words-2"].state is RunState.CANCELLED
    assert "cancel runs/words-2" in caplog.messages
    assert "words-2 is cancelled." in engineer.text("/runs/words-2")


def test_what_cannot_be_cancelled_or_resumed_says_why(engineer: Engineer) -> None:
    assert "there is nothing to cancel" in engineer.text("/runs/words-1/cancel")
    assert "only a run that failed or was cancelled" in engineer.text("/runs/words-1/resume")


def test_resuming_asks_first(engineer: Engineer) -> None:
    assert "from its last finished shard" in engineer.text("/runs/broken/resume")
    assert engineer.post("/runs/broken/resume").status_code == 303
    assert engineer.client.runs.runs["broken"].state is RunState.RUNNING


def test_a_run_that_does_not_exist_is_not_found(engineer: Engineer) -> None:
    assert "There is no run &#39;nowhere&#39;" in engineer.text("/runs/nowhere", 404)
