from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ilf_common.engine.port import Sampling
from ilf_common.errors import InvalidArgumentError
from ilf_common.templates import PromptTemplate, load_templates
from services.refinement.models import (
    LoadRequest,
    PostProcessing,
    SampleCall,
    SampleItem,
    ScoreCall,
    ScoreItem,
    Task,
    TemplateChoice,
)
from services.refinement.validation import check_call, check_load, check_names, check_single, item_violations
from services.refinement.wiring import TEMPLATES

SHIPPED: Mapping[str, PromptTemplate] = load_templates(TEMPLATES)
CALL = SampleCall(
    task=Task.REFINE,
    model="base",
    items=(SampleItem("a", "context", "output", "feedback"),),
    sampling=Sampling(n=5),
    seed=None,
    template=TemplateChoice(),
    post_processing=PostProcessing(),
)


def wrong_fields(call: SampleCall | ScoreCall, check: Any = check_call) -> list[str]:
    with pytest.raises(InvalidArgumentError) as caught:
        check(call, SHIPPED)
    return [violation.field for violation in caught.value.violations]


def test_a_good_call_means_the_tasks_own_template() -> None:
    assert check_call(CALL, SHIPPED).name == "refine_with_feedback"
    assert check_call(replace(CALL, task=Task.GENERATE), SHIPPED).name == "plain"
    assert check_call(ScoreCall("base", (ScoreItem("a", "c", "t"),), TemplateChoice()), SHIPPED).name == "plain"


@pytest.mark.parametrize(
    ("sampling", "field"),
    [
        (Sampling(n=0), "sampling.n"),
        (Sampling(n=-1), "sampling.n"),
        (Sampling(n=1025), "sampling.n"),
        (Sampling(temperature=math.nan), "sampling.temperature"),
        (Sampling(temperature=math.inf), "sampling.temperature"),
        (Sampling(temperature=-0.1), "sampling.temperature"),
        (Sampling(temperature=10.1), "sampling.temperature"),
        (Sampling(top_p=0.0), "sampling.top_p"),
        (Sampling(top_p=1.1), "sampling.top_p"),
        (Sampling(top_p=math.nan), "sampling.top_p"),
        (Sampling(max_new_tokens=0), "sampling.max_new_tokens"),
        (Sampling(max_new_tokens=32_769), "sampling.max_new_tokens"),
        (Sampling(stop=("",)), "sampling.stop[0]"),
        (Sampling(stop=("x" * 1001,)), "sampling.stop[0]"),
        (Sampling(stop=("x",) * 65), "sampling.stop"),
    ],
)
def test_each_rule_of_sampling_names_its_field(sampling: Sampling, field: str) -> None:
    assert wrong_fields(replace(CALL, sampling=sampling)) == [field]


@given(
    n=st.integers(1, 1024),
    temperature=st.floats(0, 10),
    top_p=st.floats(0, 1, exclude_min=True),
    max_new_tokens=st.integers(1, 32_768),
)
def test_everything_within_the_limits_is_taken(n: int, temperature: float, top_p: float, max_new_tokens: int) -> None:
    sampling = Sampling(n=n, temperature=temperature, top_p=top_p, max_new_tokens=max_new_tokens)

    check_call(replace(CALL, sampling=sampling), SHIPPED)


@pytest.mark.parametrize("budget", [-1, 4, 4097])
def test_resample_budget_is_zero_or_at_least_n(budget: int) -> None:
    call = replace(CALL, post_processing=PostProcessing(resample_budget=budget))

    assert wrong_fields(call) == ["post_processing.resample_budget"]


def test_post_processing_wants_real_substrings() -> None:
    call = replace(CALL, post_processing=PostProcessing(forbidden_substrings=("ok", "")))

    assert wrong_fields(call) == ["post_processing.forbidden_substrings[1]"]


@pytest.mark.parametrize(
    ("choice", "field"),
    [
        (TemplateChoice(name="nowhere"), "template.name"),
        (TemplateChoice(text="  "), "template.text"),
        (TemplateChoice(text="{nonsense}"), "template.text"),
        (TemplateChoice(text="{candidate}"), "template.text"),
        (TemplateChoice(text="x" * 200_001), "template.text"),
    ],
)
def test_template_is_shipped_or_has_fields_of_the_call(choice: TemplateChoice, field: str) -> None:
    assert wrong_fields(replace(CALL, template=choice)) == [field]


def test_generation_has_no_feedback_to_show() -> None:
    choice = TemplateChoice(name="refine_with_feedback")

    assert wrong_fields(replace(CALL, task=Task.GENERATE, template=choice)) == ["template.text"]


def test_score_shows_the_context_alone() -> None:
    call = ScoreCall("base", (ScoreItem("a", "c", "t"),), TemplateChoice(text="{initial_output}"))

    assert wrong_fields(call) == ["template.text"]


def test_batches_have_at_most_4096_items() -> None:
    items = tuple(SampleItem(str(k), "c") for k in range(4097))

    assert wrong_fields(replace(CALL, items=items)) == ["items"]


def test_item_ids_have_at_most_512_characters() -> None:
    items = (SampleItem("x" * 513, "c"), SampleItem("y", "c"))

    assert wrong_fields(replace(CALL, items=items)) == ["items[0].item_id"]


def test_wrong_fields_of_call_and_item_come_together() -> None:
    call = replace(
        CALL,
        model="",
        items=(SampleItem("", "", "x" * 200_001, " "),),
        sampling=Sampling(n=0, top_p=2),
        template=TemplateChoice(name="refine_with_feedback"),
    )

    assert wrong_fields(call, check_single) == [
        "model",
        "sampling.n",
        "sampling.top_p",
        "context",
        "initial_output",
        "feedback",
    ]


@given(st.text(max_size=5), st.text(max_size=5), st.text(max_size=5))
def test_an_item_needs_exactly_what_the_template_shows(context: str, output: str, feedback: str) -> None:
    item = SampleItem("a", context, output, feedback)
    values = {"context": context, "initial_output": output, "feedback": feedback}
    for name in ("refine_with_feedback", "refine_without_feedback", "plain"):
        shown = SHIPPED[name].fields
        found = {violation.field for violation in item_violations(item, "items[2].", shown)}
        assert found == {f"items[2].{field}" for field in shown if not values[field].strip()}


def test_load_wants_names_and_a_uri() -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        check_load(LoadRequest("a b", "", base_model="/x", request_id="1"))

    assert {violation.field for violation in caught.value.violations} == {"name", "uri", "base_model", "request_id"}


@pytest.mark.parametrize("name", ["run/it-1", "a", "A.b_c-1/2", "x" * 200])
def test_names_of_versions(name: str) -> None:
    check_names("", name=name)


@pytest.mark.parametrize("name", ["", "/a", "-a", "a b", "a@b", "x" * 201, "a\n", "é"])
def test_what_is_no_name(name: str) -> None:
    with pytest.raises(InvalidArgumentError, match="name"):
        check_names(name=name)
