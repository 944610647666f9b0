"""The dashboard and the alerts ask for what the services really show, and every alert is explained to people."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster.chart import CHART, CRDS, named, needs_helm, render
from tests.cluster.exposed import exposed

OPERATIONS = CHART.parents[1] / "docs" / "operations"
SUBJECTS = ("state", "stage", "backlog", "tokens", "queued_item_seconds", "pool_have", "judge_choices")
"""What the dashboard has to show, as parts of expressions."""

FROM_PROMETHEUS = {"namespace", "service", "pod", "job", "instance"}
"""Labels that Prometheus gives to what it scrapes."""
FROM_OTHERS = {"certmanager_certificate_expiration_timestamp_seconds": {"name"}, "up": set[str]()}
KNOWN = exposed() | FROM_OTHERS

_SELECTED = re.compile(r"\b((?:ilf|certmanager)_\w+|up)\b(?:\{([^}]*)\})?")
_SHOWN = re.compile(r"\{\{\s*(?:\$labels\.)?(\w+)\s*\}\}")
_GROUPED = re.compile(r"\bby \(([^)]*)\)")


def panels() -> Iterator[tuple[str, str]]:
    """Expression and legend of everything that the dashboard draws."""
    dashboard = json.loads((CHART / "files" / "dashboard.json").read_text(encoding="utf-8"))
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            yield target["expr"], target["legendFormat"]


def alerts() -> list[dict[str, Any]]:
    rules = named(render(apis=CRDS), "PrometheusRule", "ilf")
    return [rule for group in rules["spec"]["groups"] for rule in group["rules"]]


def unknown(expression: str, shown: str) -> list[str]:
    """Metrics that nobody has, and labels that they do not have."""
    selected = _SELECTED.findall(expression)
    wrong = [name for name, _ in selected if name not in KNOWN]
    labels = [KNOWN.get(name, set()) | FROM_PROMETHEUS for name, _ in selected]
    for (name, matchers), own in zip(selected, labels, strict=True):
        wrong += [f"{name}{{{label}}}" for label in re.findall(r"(\w+)\s*[=!]~?", matchers) if label not in own]
    left = set.intersection(*labels) if labels else set()
    groups = [{label.strip() for label in group.split(",")} for group in _GROUPED.findall(expression)]
    wrong += [f"by {label}" for group in groups for label in group - left]
    is_told = left if not groups else left & set.intersection(*groups)
    return wrong + [f"shown {label}" for label in _SHOWN.findall(shown) if label not in is_told]


@pytest.mark.parametrize(("expression", "legend"), list(panels()))
def test_the_dashboard_asks_for_what_there_is(expression: str, legend: str) -> None:
    assert _SELECTED.search(expression)
    assert unknown(expression, legend) == []


def test_the_dashboard_shows_what_operators_ask_for() -> None:
    drawn = " ".join(expression for expression, _ in panels())
    assert [subject for subject in SUBJECTS if subject not in drawn] == []


@needs_helm
def test_the_alerts_ask_for_what_there_is() -> None:
    for rule in alerts():
        assert _SELECTED.search(rule["expr"]), rule["alert"]
        assert unknown(rule["expr"], rule["annotations"]["summary"]) == [], rule["alert"]


@needs_helm
def test_every_alert_has_its_row_in_the_handbook() -> None:
    text = (OPERATIONS / "monitoring.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `(Ilf\w+)` \|", text, re.MULTILINE) == [rule["alert"] for rule in alerts()]


def test_a_wrong_name_or_label_would_be_found() -> None:
    assert unknown("ilf_pool_wants", "") == ["ilf_pool_wants"]
    assert unknown('ilf_pool_want{stage="x"}', "") == ["ilf_pool_want{stage}"]
    assert unknown("sum by (stage) (ilf_pool_want)", "") == ["by stage"]
    assert unknown("ilf_pool_want", "{{stage}}") == unknown("ilf_pool_want", "{{ $labels.stage }}") == ["shown stage"]
