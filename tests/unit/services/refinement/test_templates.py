from __future__ import annotations

import pytest

from ilf_common.templates import load_templates
from services.refinement.wiring import TEMPLATES

SHIPPED = load_templates(TEMPLATES)


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("plain", {"context"}),
        ("summarize", {"context"}),
        ("critic", {"context", "initial_output"}),
        ("refine_without_feedback", {"context", "initial_output"}),
        ("refine_with_feedback", {"context", "initial_output", "feedback"}),
    ],
)
def test_shipped_templates_show_what_their_task_has(name: str, fields: set[str]) -> None:
    assert SHIPPED[name].fields == fields


def test_summarize_ends_in_its_cue_and_separates_the_target_by_a_space() -> None:
    assert SHIPPED["summarize"].text.endswith("TL;DR:")
    assert SHIPPED["summarize"].target_prefix == " "


def test_feedback_is_all_that_sets_the_two_refine_prompts_apart() -> None:
    with_feedback = SHIPPED["refine_with_feedback"].render(context="c", initial_output="o", feedback="f")
    without = SHIPPED["refine_without_feedback"].render(context="c", initial_output="o")

    assert with_feedback.replace("Feedback: f\n\n", "").replace(" and does what the feedback asks for", "") == without
