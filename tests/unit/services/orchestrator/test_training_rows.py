from dataclasses import replace

from ilf_common.errors import InternalError
from services.orchestrator.models import (
    FinetuneStage,
    Hyperparameters,
    LoraSpec,
    RunSpec,
    Schedule,
    Target,
)
from services.orchestrator.rows import Row
from services.orchestrator.stages.train import merges_adapter, policy_name, training_rows

ROW = Row("a", "c", "x0", "f", "ref", refinements=("x", "y", "z"), weights=(0.25, 0.0, 0.75), chosen_index=2)
SPEC = RunSpec(finetune=FinetuneStage(target=Target.REFINEMENT))


def texts(target: Target, *rows: Row) -> list[tuple[str, float]]:
    spec = replace(SPEC, finetune=FinetuneStage(target=target))
    return [(row.completion, row.weight) for row in training_rows(spec, 1, list(rows))]


def test_each_target_takes_its_own_text() -> None:
    assert texts(Target.REFINEMENT, ROW) == [("x", 0.25), ("z", 0.75)]
    assert texts(Target.INITIAL_OUTPUT, ROW) == [("x0", 1.0)]
    assert texts(Target.REFERENCE, ROW) == [("ref", 1.0)]


def test_bad_rows_and_rows_without_a_text_are_left_out() -> None:
    assert texts(Target.REFINEMENT, ROW.failed("rank", InternalError("x"))) == []
    assert texts(Target.REFERENCE, replace(ROW, reference=None)) == []
    assert texts(Target.REFINEMENT, replace(ROW, refinements=(), weights=())) == []


def test_reused_contexts_become_items_of_their_round() -> None:
    rows = training_rows(replace(SPEC, reuse_contexts=True), 2, [ROW])
    assert {row.item_id for row in rows} == {"it-2/a"}


def test_adapters_are_merged_where_a_later_round_trains_on() -> None:
    lora = FinetuneStage(Hyperparameters(lora=LoraSpec(8)), Target.REFINEMENT)
    assert not merges_adapter(replace(SPEC, finetune=lora, schedule=Schedule.UNION))
    assert merges_adapter(replace(SPEC, finetune=lora, schedule=Schedule.CONTINUE))
    assert merges_adapter(replace(SPEC, finetune=lora, base_model="other"))
    assert not merges_adapter(replace(SPEC, schedule=Schedule.CONTINUE))


def test_the_first_policy_is_the_one_that_the_run_names() -> None:
    spec = RunSpec(policy="base")
    assert [policy_name("a", spec, number) for number in (0, 1, 2)] == ["base", "a/it-1", "a/it-2"]
