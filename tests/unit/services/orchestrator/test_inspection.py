from dataclasses import replace

import pytest

from ilf_common.datasets import DatasetRow, DiskSet, RowError
from ilf_common.errors import InvalidArgumentError
from services.orchestrator.inspection import inspect, needed_fields
from services.orchestrator.models import EvaluateStage, FeedbackSource, FeedbackStage, GenerateStage, OutputSource
from services.orchestrator.ports import DatasetReport
from services.orchestrator.resolve import resolve
from tests.unit.services.orchestrator.test_resolve import GOOD, PROMPT

SPEC = resolve(replace(GOOD, iterations=2))
Rows = list[DatasetRow | RowError]


def rows(prefix: str, count: int) -> Rows:
    return [DatasetRow(f"{prefix}{n}", f"{prefix} context {n}") for n in range(count)]


def look(**splits: Rows) -> DatasetReport:
    with DiskSet() as ids, DiskSet() as contexts:
        return inspect(SPEC, {name: lambda part=part: part for name, part in splits.items()}, ids, contexts)  # type: ignore[misc]


def refusal(**splits: Rows) -> str:
    with pytest.raises(InvalidArgumentError) as caught:
        look(**splits)
    return caught.value.message


def test_disjoint_splits_pass_and_are_counted() -> None:
    report = look(train=rows("a", 40), dev=rows("d", 3), test=rows("b", 10))
    assert (report.train_rows, report.test_rows, len(report.boundaries)) == (40, 10, 2)


def test_equal_ids_and_contexts_across_splits_are_refused_by_row() -> None:
    test = rows("b", 3)
    test[1] = DatasetRow("a5", "new context")
    assert "the id of test row 2 is that of train row 6" in refusal(train=rows("a", 40), test=test)
    dev: Rows = [DatasetRow("d", "a context 0")]
    assert "the context of dev row 1 is that of train row 1" in refusal(train=rows("a", 40), dev=dev)


def test_a_context_that_repeats_inside_a_split_is_fine() -> None:
    train = [*rows("a", 40), DatasetRow("again", "a context 0")]
    assert look(train=train, test=rows("b", 1)).train_rows == 41


def test_rows_without_ids_of_their_own_do_not_clash() -> None:
    train: Rows = [DatasetRow(f"row-{n}", f"a {n}") for n in range(1, 5)]
    test: Rows = [DatasetRow("row-1", "b")]
    assert look(train=train, test=test).test_rows == 1


def test_too_many_bad_rows_are_named() -> None:
    bad = RowError(4, "x", "context", "is empty")
    assert "3 of 40 rows cannot be used" in refusal(train=[*rows("a", 37), bad, bad, bad], test=rows("b", 1))
    assert look(train=[*rows("a", 39), bad], test=rows("b", 1)).train_rows == 40


def test_a_split_of_bad_rows_only_is_refused_at_any_share() -> None:
    assert "1 of 1 rows" in refusal(train=rows("a", 4), test=[RowError(1, "x", "context", "is empty")])


def test_stages_decide_which_columns_are_needed() -> None:
    columns = replace(
        SPEC,
        generate=GenerateStage(OutputSource.COLUMN, template=PROMPT),
        feedback=FeedbackStage(FeedbackSource.COLUMN),
        evaluate=EvaluateStage(nll=True),
    )
    assert needed_fields(columns, "train") == {"initial_output", "feedback"}
    assert needed_fields(columns, "test") == {"reference"}
    assert needed_fields(SPEC, "dev") == frozenset()
