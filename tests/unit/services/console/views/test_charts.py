from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree

import pytest

from ilf_client import Candidate, CandidateScore, RunSample
from ilf_client.models.runs import Iteration, Metric, StageStatus
from ilf_common.statistics.values import ReliabilityBin
from services.console.views.charts import (
    Chart,
    draw,
    loss_chart,
    metric_chart,
    metrics_by_name,
    reliability_chart,
    sample_chart,
    stage_bars,
)

START = datetime(2026, 1, 1, tzinfo=UTC)
NASTY = '"><script>alert(1)</script> & <b>'


def metrics() -> Chart:
    return metric_chart(
        "exact", [(0, Metric(0.1, 0.02, 9)), (1, Metric(0.6, 0.1, 9))], ["/runs/a", f"/runs/b?q={NASTY}"]
    )


def samples() -> Chart:
    rows = [RunSample(NASTY, candidates=[Candidate("text", CandidateScore(0.2 * k, spread=0.1))]) for k in range(3)]
    return sample_chart([*rows, RunSample("empty")], ["/x"] * 4, "spread")


def reliability() -> Chart:
    return reliability_chart(NASTY, [ReliabilityBin(0.5, 0.6, 4, 0.55, 0.75)], ["/runs/a"])


def stages() -> Chart:
    begun = [StageStatus("refine", start_time=START, end_time=START + timedelta(minutes=3)), StageStatus("rank")]
    chart = stage_bars([Iteration(1, begun)], START + timedelta(minutes=5))
    assert chart is not None
    return chart


@pytest.mark.parametrize("chart", [metrics(), samples(), reliability(), loss_chart([(1, 2.0), (9, 1.5)]), stages()])
def test_a_chart_is_one_element_without_style_script_or_foreign_address(chart: Chart) -> None:
    drawn = draw(chart)
    root = ElementTree.fromstring(drawn)  # well-formed: nothing in a text has become markup
    assert root.tag.endswith("svg")
    assert {element.tag.rpartition("}")[2] for element in root.iter()} <= {
        "svg",
        "g",
        "path",
        "text",
        "line",
        "a",
        "title",
    }
    assert not [name for element in root.iter() for name in element.attrib if name == "style" or name.startswith("on")]
    assert not re.search(r"https?://(?!www\.w3\.org)", drawn)
    assert all(element.get("href", "/").startswith("/") for element in root.iter())


def test_every_point_leads_to_where_it_comes_from() -> None:
    links = [element.get("href") for element in ElementTree.fromstring(draw(metrics())).iter() if element.get("href")]
    assert links == ["/runs/a", f"/runs/b?q={NASTY}"]


def test_a_point_is_named_when_pointed_at() -> None:
    titles = [
        element.text for element in ElementTree.fromstring(draw(metrics())).iter() if element.tag.endswith("title")
    ]
    assert titles[0] == "iteration 0: 0.1 ± 0.02 (n = 9)"


def test_samples_without_a_chosen_refinement_are_no_points() -> None:
    assert len(samples().points) == 3


def test_values_that_are_no_numbers_are_no_points() -> None:
    assert loss_chart([(1, math.nan), (2, 0.5)]).points[0].x == 2
    assert draw(loss_chart([(1, math.nan)])) == ""


def test_metrics_are_gathered_by_name() -> None:
    one, two = Metric(0.1), Metric(0.2)
    found = metrics_by_name([Iteration(0, metrics={"nll": one}), Iteration(1, metrics={"nll": two, "win_rate": one})])
    assert found == {"nll": [(0, one), (1, two)], "win_rate": [(1, one)]}


def test_nothing_is_drawn_before_the_first_stage() -> None:
    assert stage_bars([Iteration(1, [StageStatus("generate")])], START) is None
