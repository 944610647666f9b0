from dataclasses import replace

import pytest

from ilf_common.errors import FailedPreconditionError, InvalidArgumentError
from services.orchestrator.models import (
    BestOfNStage,
    Columns,
    DatasetSpec,
    EvaluateStage,
    FeedbackSource,
    FeedbackStage,
    GenerateStage,
    OutputSource,
    PeopleSpec,
    RankerSpec,
    RankStage,
    RefineStage,
    RunSpec,
    Sampling,
    Schedule,
    SelectionMethod,
    SelectStage,
    Target,
    Template,
)
from services.orchestrator.resolve import resolve, run_id_of

PROMPT = Template("policy", "{context}")
GOOD = RunSpec(
    dataset=DatasetSpec("data/train.jsonl", "", "data/test.jsonl", Columns()),
    policy="base",
    generate=GenerateStage(template=PROMPT),
    feedback=FeedbackStage(FeedbackSource.PLUGIN, plugin_address="localhost:1234"),
    refine=RefineStage("refiner"),
)


def fields_of(spec: RunSpec) -> set[str]:
    with pytest.raises(InvalidArgumentError) as caught:
        resolve(spec)
    return {violation.field for violation in caught.value.violations}


def test_defaults_are_those_of_the_paper() -> None:
    spec = resolve(GOOD)
    assert spec.refine.sampling == Sampling(5, 1.0, 0.95, 48)
    assert spec.evaluate.sampling.temperature == 0.0
    assert (spec.iterations, spec.shard_rows, spec.max_bad_row_share) == (1, 256, 0.05)
    assert spec.schedule is Schedule.UNION
    assert spec.select.method is SelectionMethod.ARGMAX
    assert spec.finetune.target is Target.REFINEMENT
    assert resolve(spec) == spec


def test_best_of_n_samples_n_and_as_the_paper_does() -> None:
    stage = BestOfNStage(16, ("rm",))
    spec = resolve(replace(GOOD, evaluate=EvaluateStage(best_of_n=stage)))
    assert spec.evaluate.best_of_n.sampling == Sampling(16, 1.0, 0.95, 48)
    assert resolve(spec) == spec


@pytest.mark.parametrize(
    ("stage", "field"),
    [
        (BestOfNStage(-1, ("rm",)), "n"),
        (BestOfNStage(1025, ("rm",)), "n"),
        (BestOfNStage(0, ("rm",)), "n"),
        (BestOfNStage(4), "reward_models"),
        (BestOfNStage(4, ("rm", "rm")), "reward_models"),
        (BestOfNStage(4, ("rm",), Sampling(n=5)), "sampling.n"),
    ],
)
def test_a_best_of_n_that_cannot_be_is_refused(stage: BestOfNStage, field: str) -> None:
    assert f"spec.evaluate.best_of_n.{field}" in fields_of(replace(GOOD, evaluate=EvaluateStage(best_of_n=stage)))


def test_all_wrong_fields_are_named_at_once() -> None:
    assert fields_of(RunSpec()) == {
        "spec.dataset.train_uri",
        "spec.dataset.test_uri",
        "spec.policy",
        "spec.generate.template.text",
        "spec.refine.refiner",
        "spec.feedback.source",
    }


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"iterations": -1}, "spec.iterations"),
        ({"shard_rows": 5000}, "spec.shard_rows"),
        ({"max_bad_row_share": float("nan")}, "spec.max_bad_row_share"),
        ({"preview_rows": -1}, "spec.preview_rows"),
        ({"contexts_per_iteration": -2}, "spec.contexts_per_iteration"),
        ({"refine": RefineStage("r", Sampling(n=10_000))}, "spec.refine.sampling.n"),
        ({"refine": RefineStage("r", Sampling(temperature=float("nan")))}, "spec.refine.sampling.temperature"),
        ({"refine": RefineStage("r", Sampling(top_p=1.5))}, "spec.refine.sampling.top_p"),
        ({"generate": GenerateStage(sampling=Sampling(n=2), template=PROMPT)}, "spec.generate.sampling.n"),
        ({"rank": RankStage(RankerSpec("best"))}, "spec.rank.ranker.name"),
        ({"rank": RankStage(RankerSpec("reward_model"))}, "spec.rank.reward_models"),
        ({"rank": RankStage(RankerSpec("reward_model"), ("a", "a"))}, "spec.rank.reward_models"),
        ({"rank": RankStage(RankerSpec("reward_model"), ("a", ""))}, "spec.rank.reward_models"),
        ({"rank": RankStage(RankerSpec("length"), ("a",))}, "spec.rank.reward_models"),
        ({"select": SelectStage(SelectionMethod.SOFTMAX, beta=float("inf"))}, "spec.select.beta"),
        ({"select": SelectStage(SelectionMethod.TOP_K, k=6)}, "spec.select.k"),
        ({"feedback": FeedbackStage(FeedbackSource.CRITIC, template=PROMPT)}, "spec.feedback.critic"),
        ({"feedback": FeedbackStage(FeedbackSource.PLUGIN, plugin_address="x")}, "spec.feedback.plugin_address"),
        ({"evaluate": EvaluateStage(plugin_address="http://x:1")}, "spec.evaluate.plugin_address"),
        ({"generate": GenerateStage(template=Template(text="no placeholder"))}, "spec.generate.template.text"),
    ],
)
def test_a_wrong_value_is_refused_by_name(change: dict[str, object], field: str) -> None:
    assert fields_of(replace(GOOD, **change)) == {field}  # type: ignore[arg-type]


def test_column_feedback_is_for_column_outputs_only() -> None:
    column = replace(GOOD, feedback=FeedbackStage(FeedbackSource.COLUMN))
    with pytest.raises(FailedPreconditionError) as caught:
        resolve(column)
    assert caught.value.reason == "FEEDBACK_NOT_FOR_OUTPUT"
    resolve(replace(column, generate=GenerateStage(OutputSource.COLUMN, template=PROMPT)))


def test_without_evaluation_no_test_contexts_are_needed() -> None:
    resolve(replace(GOOD, dataset=DatasetSpec("data/train.jsonl"), evaluate=EvaluateStage(disabled=True)))


@pytest.mark.parametrize("name", ["a", "run/a", "runs/", "runs/A", "runs/a/b"])
def test_names_of_another_form_are_refused(name: str) -> None:
    with pytest.raises(InvalidArgumentError):
        run_id_of(name)


def test_people_get_a_phrase_for_no_change_and_may_be_given_others() -> None:
    asked = resolve(replace(GOOD, feedback=FeedbackStage(FeedbackSource.PEOPLE)))
    assert asked.feedback.nothing_to_change == ("Nothing to change.",)
    phrases = FeedbackStage(FeedbackSource.PEOPLE, nothing_to_change=("ok",))
    assert resolve(replace(GOOD, feedback=phrases)).feedback.nothing_to_change == ("ok",)
    assert resolve(GOOD).feedback.nothing_to_change == ()


def test_guidelines_and_overlap_have_bounds() -> None:
    assert resolve(replace(GOOD, people=PeopleSpec("x" * 20_000, 100, 100))).people.reviews_per_item == 100
    wrong = PeopleSpec("x" * 20_001, 0, 101)
    assert fields_of(replace(GOOD, people=wrong)) == {
        "spec.people.guidelines",
        "spec.people.comparisons_per_pair",
        "spec.people.reviews_per_item",
    }
