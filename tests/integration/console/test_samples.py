"""What the sample browser shows of a sample, how it is sorted, and how plots lead to it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

import pytest
from playwright.sync_api import Page, expect

from ilf_client.models.runs import RunSample
from tests.integration.console.browsing import Person
from tests.integration.console.world import World, judged_by, made_rows

JUDGES = 3
ROWS = 6


@pytest.fixture(scope="module")
def judged(world: World) -> Iterator[World]:
    """A run of two iterations whose refinements three judges have scored."""
    world.create_finished("judged", made_rows("judged", 2 * ROWS), iterations=2, rank=judged_by(JUDGES))
    yield world


@pytest.fixture
def samples(judged: World) -> Sequence[RunSample]:
    with judged.client() as client:
        return list(client.runs.samples("judged", iteration=1))


def items(page: Page) -> list[str]:
    """Ids of the samples on the page."""
    expect(page.get_by_role("article")).to_have_count(ROWS)
    return page.get_by_role("article").get_by_role("heading", level=2).all_text_contents()


def test_a_sample_shows_all_that_became_of_it(
    person: Callable[..., Person], judged: World, samples: Sequence[RunSample]
) -> None:
    sample = samples[0]
    page = person("Eve").open(f"/runs/judged/samples?iteration=1&item={sample.item_id}")
    shown = page.get_by_role("article")
    for label, text in (
        ("Context", sample.context),
        ("Initial output", sample.initial_output),
        ("Feedback", sample.feedback),
    ):
        expect(shown.get_by_label(label, exact=True)).to_have_text(text)
    expect(shown.locator("ol.refinements > li")).to_have_count(len(sample.candidates))
    for place, candidate in enumerate(sample.candidates):
        text = page.get_by_label(f"Refinement {place + 1}", exact=True)
        one = shown.locator("ol.refinements > li").filter(has=text)
        assert candidate.score is not None
        expect(one).to_contain_text(f"spread {candidate.score.spread:.3f}"[:11])
        expect(one).to_contain_text("missing mass")
        expect(one.get_by_role("listitem")).to_have_count(JUDGES)
        expect(one.get_by_role("listitem").first).to_contain_text("judge-0")
        kept = text.evaluate(
            "text => [...text.childNodes].filter(one => one.nodeName !== 'DEL').map(one => one.textContent).join('')"
        )
        assert kept == candidate.text
        expect(one.locator("ins").first).to_be_visible()
        expect(one.get_by_text("chosen", exact=True)).to_have_count(int(place == sample.chosen_index))


def test_samples_are_sorted_by_what_was_asked_for(
    person: Callable[..., Person], judged: World, samples: Sequence[RunSample]
) -> None:
    def chosen(sample: RunSample) -> tuple[float, float, int]:
        candidate = sample.candidates[sample.chosen_index]
        assert candidate.score is not None
        return candidate.score.score, candidate.score.spread, len(candidate.text)

    page = person("Eve").open("/runs/judged/samples?iteration=1&size=100")
    for place, order in enumerate(("score", "disagreement", "length")):
        page.get_by_label("Sort by").select_option(label=order)
        page.get_by_label("First", exact=True).select_option("largest")
        page.get_by_role("button", name="Show", exact=True).click()
        values = {sample.item_id: chosen(sample)[place] for sample in samples}
        listed = [values[item] for item in items(page)]
        assert listed == sorted(values.values(), reverse=True), order
    scores = sorted(chosen(sample)[0] for sample in samples)
    page.get_by_text("Conditions on the chosen refinement").click()
    page.get_by_label("Score from").fill(f"{scores[-3]:.6f}")
    page.get_by_role("button", name="Show", exact=True).click()
    expect(page.get_by_role("article")).to_have_count(3)


def test_points_of_a_run_s_metrics_lead_to_the_samples_of_their_iteration(
    person: Callable[..., Person], judged: World
) -> None:
    page = person("Eve").open("/runs/judged")
    page.get_by_text("As a table").first.click()
    row = page.get_by_role("region", name="Metrics").get_by_role("row").nth(1)
    expect(row.get_by_role("cell").nth(2)).to_contain_text("±")
    page.locator('figure svg a[*|href*="iteration=2"]').first.click()
    expect(page.get_by_role("heading", name="Samples of judged")).to_be_visible()
    assert re.search(r"iteration=2", page.url)


def test_two_iterations_stand_side_by_side_on_the_same_contexts(person: Callable[..., Person], judged: World) -> None:
    judged.create_finished("reused", made_rows("reused", 2), iterations=2, reuse_contexts=True)
    eve = person("Eve")
    page = eve.open("/contrast?first=reused&first_iteration=1&second=reused&second_iteration=2")
    expect(page.get_by_role("article")).to_have_count(2)
    one = page.get_by_role("article").first
    for iteration in (1, 2):
        expect(one.get_by_role("link", name=f"reused, iteration {iteration}", exact=True)).to_be_visible()
    eve.open("/contrast?first=judged&first_iteration=1&second=judged&second_iteration=2")
    expect(page.get_by_role("heading", name="None of these contexts is in both")).to_be_visible()


def test_a_version_says_where_it_comes_from(person: Callable[..., Person], judged: World) -> None:
    page = person("Eve").open("/policies")
    version = page.get_by_role("article").filter(has=page.get_by_role("heading", name="judged/it-2"))
    expect(version).to_contain_text("trained by judged, iteration 2 on its samples")
    version.get_by_role("link", name="its finetune job").click()
    expect(page.get_by_role("heading", name="Loss")).to_be_visible()


def test_a_run_says_what_each_stage_did(person: Callable[..., Person], judged: World) -> None:
    page = person("Eve").open("/runs/judged")
    stages = page.get_by_role("region", name="Stages of iteration 1")
    for stage in ("generate", "feedback", "refine", "rank"):
        row = stages.get_by_role("row", name=stage)
        expect(row).to_contain_text(f"{ROWS} of {ROWS}")
        expect(row).to_contain_text("succeeded")
    expect(page.get_by_text("prompt and")).to_contain_text(re.compile(r"[1-9][0-9,]* prompt and [1-9][0-9,]* new"))
