"""The sample browser, its plot, contrasts, and reliability."""

from __future__ import annotations

from urllib.parse import quote

from ilf_client.models.runs import SampleFilter, SampleOrder
from tests.unit.services.console.pages.conftest import Engineer


def test_every_refinement_is_shown_with_each_judge_and_its_differences(engineer: Engineer) -> None:
    shown = engineer.text("/runs/words-1/samples?iteration=1&item=item-0")
    assert shown.count("<article") == 1
    assert shown.count("<meter") == 20, "five refinements, four judges"
    assert "You are a <del>bossy </del>cranky nosy kind person" in shown
    assert "<ins> Thank you.</ins>" in shown
    assert shown.index("chosen</span>") < shown.index("#5"), "the chosen one comes first"
    assert "0.500" in shown and "spread 0.045" in shown and "missing mass 0.080" in shown


def test_the_newest_iteration_with_refinements_is_shown_first(engineer: Engineer) -> None:
    engineer.text("/runs/words-2/samples")
    assert engineer.client.runs.calls[-1][1][:2] == ("runs/words-2", 2)


def test_conditions_and_order_reach_the_client_and_the_command(engineer: Engineer) -> None:
    address = (
        "/runs/words-1/samples?iteration=2&text=cranky&order_by=score&descending=yes&min_score=0.5&failed=no&size=25"
    )
    shown = engineer.text(address)
    _, (name, iteration, where, order, descending, size, token) = engineer.client.runs.calls[-1]
    assert (name, iteration, order, descending, size, token) == ("runs/words-1", 2, SampleOrder.SCORE, True, 25, "")
    assert where == SampleFilter(text="cranky", min_score=0.5, failed=False)
    command = "ilf runs samples words-1 --iteration 2 --text cranky --min-score 0.5 --not-failed --order-by score"
    assert f"{command} --descending --limit 25" in shown


def test_pages_follow_one_another_under_the_same_conditions(engineer: Engineer) -> None:
    shown = engineer.text("/runs/words-1/samples?iteration=1&order_by=score")
    assert "?iteration=1&amp;order_by=score&amp;page=10" in shown
    after = engineer.text("/runs/words-1/samples?iteration=1&order_by=score&page=10")
    assert after.count("<article") == 2
    assert "Next page" not in after


def test_wrong_conditions_stand_beside_their_fields(engineer: Engineer) -> None:
    shown = engineer.text("/runs/words-1/samples?min_score=much&max_length=-3&min_spread=2&max_spread=1", 400)
    assert 'aria-describedby="min_score-wrong"' in shown
    assert "is &#39;much&#39;, a number is wanted" in shown
    assert "is &#39;-3&#39;, a whole number from 0 is wanted" in shown
    assert "more than the greatest that is asked for" in shown
    assert 'value="much"' in shown, "what was typed is kept"


def test_a_failed_row_says_where_and_why(engineer: Engineer) -> None:
    shown = engineer.text("/runs/words-1/samples?iteration=1&failed=yes")
    assert "failed in refine" in shown
    assert "the prompt is too long" in shown


def test_nothing_found_says_what_to_do(engineer: Engineer) -> None:
    assert "Take a condition away" in engineer.text("/runs/words-1/samples?text=nowhere")
    assert "Samples appear as soon as" in engineer.text("/runs/broken/samples?iteration=1")


def test_points_of_the_plot_lead_to_their_samples(engineer: Engineer) -> None:
    shown = engineer.text("/runs/words-1/samples/plot?iteration=1&y=length")
    assert shown.count('<a href="/runs/words-1/samples?iteration=1&amp;item=item-') == 22, (
        "in the plot and in its table"
    )
    assert "11 of 12 samples" in shown, "the failed row is left out"


def test_two_runs_stand_side_by_side_on_the_same_items(engineer: Engineer) -> None:
    address = "/contrast?first=words-1&first_iteration=1&second=words-2&second_iteration=2"
    shown = engineer.text(address)
    assert shown.count("<article") == 10
    assert "words-1, iteration 1</a>" in shown and "words-2, iteration 2</a>" in shown
    assert "ilf runs compare words-1 words-2 --iteration 1 2" in shown
    _, (_, _, where, *_) = engineer.client.runs.calls[-2]
    assert len(where.item_ids) == 10, "only the items of this page are asked for"


def test_a_contrast_without_common_items_says_why(engineer: Engineer) -> None:
    engineer.client.runs.rows["runs/words-2", 2] = []
    shown = engineer.text("/contrast?first=words-1&first_iteration=1&second=words-2&second_iteration=2")
    assert "None of these contexts is in both" in shown


def test_a_contrast_is_asked_for_with_the_run_that_one_comes_from(engineer: Engineer) -> None:
    shown = engineer.text("/contrast?first=words-1")
    assert '<option value="words-2">' in shown
    assert "a whole number from 1" in engineer.text("/contrast?first=words-1&second=words-2&first_iteration=x", 400)


def test_metrics_of_both_have_their_differences(engineer: Engineer) -> None:
    shown = engineer.text("/contrast/metrics?first=words-1&second=words-2")
    assert "exact_match" in shown and "0.6100 ± 0.0300" in shown


def test_labels_of_people_stand_against_the_scores(engineer: Engineer) -> None:
    shown = engineer.text("/runs/words-1/reliability?iteration=1")
    assert "yes 54.5%" in shown
    assert shown.count("<svg") == 5, "all judges together, and each"
    assert 'href="/runs/words-1/samples?iteration=1&amp;min_score=0.5&amp;max_score=0.6"' in shown


def test_without_labels_it_is_said_how_they_are_made(engineer: Engineer) -> None:
    assert "/review?run=words-1" in engineer.text("/runs/words-1/reliability?iteration=2")


def test_an_item_whose_id_has_any_characters_has_its_own_link(engineer: Engineer) -> None:
    name = 'a b/ä"&?#'
    rows = engineer.client.runs.rows["runs/words-1", 1]
    rows[0] = type(rows[0])(name, "context", "output")
    shown = engineer.text(f"/runs/words-1/samples?iteration=1&item={quote(name)}")
    assert shown.count("<article") == 1
    assert f"item={quote(name)}" in shown.replace("&amp;", "&")
