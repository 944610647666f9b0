from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

from ilf.common.v1 import common_pb2 as common
from ilf.orchestrator.v1 import orchestrator_service_pb2 as orchestrator
from ilf.ranking.v1 import ranking_service_pb2 as ranking

from ilf_client import Client
from ilf_client.report.collect import collect
from ilf_client.report.page import render_page, write_page
from ilf_common.errors import InvalidArgumentError
from ilf_common.rpc.status import to_status
from tests.fakes.ilf_server import FakeServices

HOSTILE = '<script>alert("x")</script><img src=x onerror=alert(1)>{{ 12345 * 6789 }}</pre></svg>$\\frac{1}{2}$ & \u202e'
VOID = {"meta", "br", "img", "link"}


class Page(HTMLParser):
    """Collects tags, attributes and texts, and checks that tags close in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert not self._open, self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def a_run(text: str) -> orchestrator.Run:
    stage = orchestrator.StageStatus(stage="generate", state=orchestrator.STAGE_STATE_SUCCEEDED)
    stage.progress.CopyFrom(common.Progress(done=4, total=4))
    stage.start_time.FromJsonString("2025-01-02T03:00:00Z")
    stage.end_time.FromJsonString("2025-01-02T03:01:30Z")
    run = orchestrator.Run(name="runs/toy", state=orchestrator.RUN_STATE_SUCCEEDED, policy=text)
    run.create_time.FromJsonString("2025-01-02T03:00:00Z")
    run.spec.policy = text
    for index in (0, 1, 2):
        stages = [stage] if index else []
        iteration = run.iterations.add(index=index, stages=stages, policy=text)
        metric = orchestrator.Metric(value=0.2 + 0.3 * index, standard_error=0.05, n=4)
        iteration.metrics[text].CopyFrom(metric)
        iteration.metrics["exact_match"].CopyFrom(metric)
    return run


def rows(text: str, count: int = 3) -> list[orchestrator.RunSample]:
    def candidate(score: float, weight: float) -> orchestrator.Candidate:
        judges = [ranking.JudgeScore(judge=name, score=score) for name in (text, "judge_2")]
        return orchestrator.Candidate(
            text=text, score=ranking.CandidateScore(score=score, judge_scores=judges, spread=0.1), weight=weight
        )

    good = [
        orchestrator.RunSample(
            item_id=text,
            context=text,
            initial_output=text,
            feedback=text,
            candidates=[candidate(0.25, 0.0), candidate(0.75, 1.0)],
            chosen_index=1,
        )
        for _ in range(count)
    ]
    error = to_status(InvalidArgumentError.of("context", text))
    return [*good, orchestrator.RunSample(item_id="bad", error=error, failed_stage="rank")]


def test_hostile_texts_stay_texts(blocking_client: Client, services: FakeServices) -> None:
    services.run, services.samples = a_run(HOSTILE), rows(HOSTILE)
    html = render_page(collect(blocking_client, "toy", 5))
    page = Page(html)
    assert not {"script", "img", "iframe", "object", "link", "foreignobject"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert HOSTILE in page.text
    assert str(12345 * 6789) not in page.text


def test_the_page_needs_nothing_else(blocking_client: Client, services: FakeServices) -> None:
    services.run, services.samples = a_run("toy"), rows("toy")
    page = Page(render_page(collect(blocking_client, "toy", 5)))
    addresses = [value or "" for name, value in page.attributes if name in ("src", "href", "xlink:href", "srcset")]
    assert all(address.startswith("#") for address in addresses)
    ids = [value for name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    assert page.tags.count("svg") == 5  # two metrics, the stages, the judges of two iterations


def test_it_shows_metrics_agreement_and_the_chosen_one(
    blocking_client: Client, services: FakeServices, tmp_path: Path
) -> None:
    services.run, services.samples = a_run("toy"), rows("a very nice text")
    report = collect(blocking_client, "toy", 2)
    write_page(report, tmp_path / "new" / "report.html")
    html = (tmp_path / "new" / "report.html").read_text(encoding="utf-8")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["report.html"]
    assert "exact_match" in html and "± 0.05" in html and "(2 of 4 rows, 1 failed)" in html
    assert "0.3</td><td" in html and "± 0.07071" in html  # the change since iteration 0, and its error
    assert html.count('class="chosen"') == 4
    assert "1m30s" in html


def test_an_empty_run_has_a_page_too(blocking_client: Client, services: FakeServices) -> None:
    services.run = orchestrator.Run(name="runs/new", state=orchestrator.RUN_STATE_PENDING)
    page = Page(render_page(collect(blocking_client, "new", 5)))
    assert "Nothing was evaluated yet." in page.text
