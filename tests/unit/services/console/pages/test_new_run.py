"""A run from the form or from YAML, which are one schema."""

from __future__ import annotations

import logging
import re

import pytest

from ilf_client.models.specs import Schedule
from tests.unit.services.console.pages.conftest import Engineer

FORM = {"policy": "tiny", "iterations": "3", "schedule": "union", "refine.refiner": "tiny", "rows": "5", "name": "mine"}


def test_the_form_becomes_yaml_and_yaml_the_form(engineer: Engineer) -> None:
    shown = engineer.post("/runs/new", action="as_yaml", **FORM).text
    assert "iterations: 3\nschedule: union\npolicy: tiny\nrefine:\n  refiner: tiny\n</textarea>" in shown
    back = engineer.post("/runs/new", action="as_form", yaml="policy: tiny\nrefine: {sampling: {n: 4}}\n").text
    assert re.search(r'name="refine.sampling.n"[^>]* value="4"', back)


def test_a_preview_is_started_with_its_rows_and_audited(engineer: Engineer, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "ilf.console.audit"):
        answer = engineer.post("/runs/new", action="preview", **FORM)
    assert (answer.status_code, answer.headers["location"]) == (303, "/runs/mine")
    (run,) = engineer.client.runs.created.values()
    assert (run.spec.preview_rows, run.spec.iterations, run.spec.schedule) == (5, 3, Schedule.UNION)
    assert "start runs/mine" in caplog.messages


def test_the_same_draft_sent_twice_starts_one_run(engineer: Engineer) -> None:
    for _ in range(2):
        assert engineer.post("/runs/new", action="start", draft="d1", **FORM).status_code == 303
    assert len(engineer.client.runs.created) == 1
    engineer.post("/runs/new", action="start", draft="d1", **{**FORM, "iterations": "4"})
    assert len(engineer.client.runs.created) == 2


def test_checking_shows_the_resolved_spec_and_starts_nothing(engineer: Engineer) -> None:
    shown = engineer.post("/runs/new", action="check", **FORM).text
    assert "It can run like this" in shown and "shard_rows: 256" in shown
    assert not engineer.client.runs.created


@pytest.mark.parametrize(
    ("fields", "field", "said"),
    [
        ({"iterations": "many"}, "iterations", "is &#39;many&#39;, a whole number is wanted"),
        ({"policy": ""}, "policy", "is missing; name a served model"),
        ({"evaluate.judges": "[{model: m}]"}, "evaluate-judges", "needs name"),
        ({"evaluate.judges": "[{"}, "evaluate-judges", "is no YAML"),
        ({"refine.template": "/etc/passwd.yaml"}, "refine-template", "is a file; give the template itself"),
        ({"rows": "0"}, "rows", "1 to 10,000 rows can be previewed"),
        ({"schedule": "sideways"}, "schedule", "is &#39;sideways&#39;"),
    ],
)
def test_what_is_wrong_stands_beside_its_field(
    engineer: Engineer, fields: dict[str, str], field: str, said: str
) -> None:
    answer = engineer.post("/runs/new", action="preview", **{**FORM, **fields})
    assert answer.status_code == 400
    assert said in answer.text
    assert f'aria-describedby="{field}-wrong"' in answer.text
    assert 'name="refine.refiner" aria-describedby' in answer.text or 'value="tiny"' in answer.text
    assert not engineer.client.runs.created


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("policy: [", "is no YAML in line"),
        ("- 1", "is a list; `key: value` lines are wanted"),
        ("a: &a [1]\nb: *a", "has aliases"),
        ("policy: !!python/object/apply:os.system [ls]", "is no YAML"),
        ("polcy: tiny", "did you mean &#39;policy&#39;?"),
        ("policy: \x00", "is no YAML"),
        ("x" * 200_001, "200,000 are the most"),
    ],
)
def test_yaml_that_cannot_be_is_kept_and_told(engineer: Engineer, text: str, said: str) -> None:
    answer = engineer.post("/runs/new", action="start", yaml=text)
    assert answer.status_code == 400
    assert said in answer.text
    assert '<textarea id="yaml"' in answer.text
    assert not engineer.client.runs.created


def test_another_run_is_the_pattern_without_its_preview(engineer: Engineer) -> None:
    shown = engineer.text("/runs/new?from=look&as=yaml")
    assert "contexts_per_iteration: 500" in shown and "preview_rows" not in shown
    assert 'value="continue" selected' in engineer.text("/runs/new?from=words-1")
