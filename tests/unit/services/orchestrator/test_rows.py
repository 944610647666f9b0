import pytest

from ilf_common.errors import InvalidArgumentError
from services.orchestrator.rows import COLUMNS, FAILURE_COLUMNS, INPUT, Row, Score, to_columns, with_columns

ROWS = [
    Row(
        "a",
        "context a",
        "x0",
        "shorter",
        "ref",
        refinements=("x", "y"),
        scores=(Score(0.5), Score(0.7, 0.1, 0.2, (("j", 0.7, 0.2),))),
    ),
    Row("b", "context b", "x0", refinements=()).failed("refine", InvalidArgumentError.of("context", "too long")),
]


def test_every_stage_keeps_its_columns_and_the_failure() -> None:
    for stage, names in COLUMNS.items():
        assert set(to_columns(stage, ROWS)) == {*names, *FAILURE_COLUMNS}


def test_rows_come_back_from_their_shards() -> None:
    rows = None
    for stage in (INPUT, "generate", "feedback", "refine", "rank", "select"):
        rows = with_columns(stage, rows, to_columns(stage, ROWS))
    assert rows == ROWS


def test_a_shard_of_an_earlier_release_leaves_later_columns_empty() -> None:
    columns = to_columns("evaluate", ROWS)
    del columns["best_output"]
    assert [row.best_output for row in with_columns("evaluate", ROWS, columns)] == [None, None]


def test_shards_of_other_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="other rows"):
        with_columns("refine", ROWS[:1], to_columns("refine", ROWS[1:]))
