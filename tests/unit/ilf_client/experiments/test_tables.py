"""Rows over seeds: values, errors, differences, and what a row could have told, against hand-computed numbers."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ilf_client.experiments.lab import Step
from ilf_client.experiments.reports import as_data, as_markdown, cells, lines, write_report
from ilf_client.experiments.runner import Results
from ilf_client.experiments.study import Arm, Metric, PaperFigure, Place, Study
from ilf_client.experiments.tables import difference_of, over_seeds, tables_of

METRIC = Metric("exact")
NO_STEP = cast(Step, None)


def study(rows: Sequence[str], **more: Any) -> Study:
    return Study("s", "Is it?", [Arm(row, 0, NO_STEP) for row in rows], [METRIC], **more)


def test_the_mean_over_seeds_has_the_larger_of_two_errors() -> None:
    alike = over_seeds({0: [0.0, 1.0, 0.0, 1.0], 1: [1.0, 0.0, 1.0, 0.0]})
    assert alike.value == 0.5 and alike.n == 8
    assert alike.standard_error == pytest.approx(np.std([0, 1] * 4, ddof=1) / math.sqrt(8))
    apart = over_seeds({0: [0.0] * 50, 1: [1.0] * 50, 2: [0.5] * 50})
    assert apart.value == 0.5
    assert apart.standard_error == pytest.approx(np.std([0.0, 1.0, 0.5], ddof=1) / math.sqrt(3))


def test_a_difference_is_paired_by_item_and_by_seed() -> None:
    values = {0: [1.0, 0.0, 1.0, 1.0], 1: [1.0, 1.0, 0.0, 1.0]}
    reference = {0: [1.0, 0.0, 0.0, 1.0], 1: [1.0, 0.0, 0.0, 1.0], 2: [0.0] * 4}
    found = difference_of(values, reference)
    pairs = np.array([0, 0, 1, 0, 0, 1, 0, 0], dtype=float)
    assert found.value == pytest.approx(0.25) and found.n == 8
    assert found.standard_error == pytest.approx(pairs.std(ddof=1) / math.sqrt(8))


def test_no_difference_seen_is_not_known_to_be_none() -> None:
    found = difference_of({0: [1.0] * 300}, {0: [1.0] * 300})
    assert found.smallest_detectable_effect == pytest.approx(2.8016 / 300, rel=1e-4)
    assert difference_of({0: [1.0, 2.0]}, {0: [1.0, 2.0]}, share=False).standard_error == 0


def test_unequal_items_are_compared_as_independent_ones() -> None:
    found = difference_of({0: [1.0, 0.0]}, {0: [1.0, 0.0, 1.0]})
    assert found.value == pytest.approx(0.5 - 2 / 3)
    assert found.standard_error == pytest.approx(math.hypot(0.5, math.sqrt(1 / 9)))


@given(st.dictionaries(st.integers(0, 5), st.lists(st.floats(0, 1), min_size=2, max_size=9), min_size=1))
def test_a_row_differs_from_itself_by_nothing(values: Mapping[int, Sequence[float]]) -> None:
    found = difference_of(values, values)
    assert found.value == 0 and found.standard_error == 1 / found.n
    assert min(map(min, values.values())) - 1e-9 <= over_seeds(values).value <= max(map(max, values.values())) + 1e-9


def measured(rows: Mapping[str, Mapping[int, Sequence[float]]]) -> Mapping[str, Any]:
    return {METRIC.name: rows}


def three(values: Sequence[float]) -> dict[int, Sequence[float]]:
    return dict.fromkeys(range(3), values)


def test_a_row_without_the_power_to_tell_says_so() -> None:
    rows = {
        "base": three([0.0, 1.0] * 20),
        "same": three([1.0, 0.0] * 20),
        "better": three([1.0] * 40),
        "worse": three([0.0] * 40),
        "once": {0: [1.0] * 40},
    }
    declared = study(list(rows), against={row: "base" for row in rows if row != "base"})
    (table,) = tables_of(declared, measured(rows))
    assert [row.verdict for row in table.rows] == ["", "cannot tell", "higher", "lower", "too few seeds to tell (1)"]
    same = table.rows[1]
    assert same.difference is not None
    assert same.difference.smallest_detectable_effect == pytest.approx(
        2.8016 * same.difference.standard_error, rel=1e-4
    )


def test_rows_state_their_numbers_and_the_paper_stands_beside_them(tmp_path: Path) -> None:
    rows = {"a": three([1.0, 0.0]), "b": three([1.0, 1.0])}
    declared = study(
        ["a", "b", "c"],
        against={"b": "a"},
        paper={METRIC.name: {"b": PaperFigure(56.0, 2.9)}},
        paper_metric="win rate",
        notes=lambda found: [f"{len(found[METRIC.name])} rows"],
    )
    results = Results(measured(rows), [Arm("c", 0, NO_STEP)], ["c, seed 0: no"], 61.0)
    (table,) = tables_of(declared, results.measured)
    headers, body = cells(declared, table)
    assert headers == ["", "exact", "n", "seeds", "difference", "to", "could have seen", "tells", "paper: win rate"]
    assert body == [
        ["a", "50.0 ± 22.4 %", 6, 3, "", "", "", "", ""],
        ["b", "100.0 ± 16.7 %", 6, 3, "+50.0 ± 22.4 %", "a", "62.6 %", "higher", "56 ± 2.9"],
    ]
    assert lines(declared, results) == [
        "2 rows",
        "c, seed 0: no",
        "1 of 3 arms have no result yet",
        "made in 1m01s",
    ]
    files = write_report(declared, results, tmp_path, "Task t")
    assert [file.name for file in files] == ["s.md", "s.json", "s.svg"]
    assert files[0].read_text() == as_markdown(declared, results, "Task t", "s.svg")
    data = json.loads(files[1].read_text())
    assert data == json.loads(json.dumps(as_data(declared, results, "Task t")))
    assert data["tables"][0]["rows"][1]["smallest_detectable_effect"] == pytest.approx(0.6265, abs=1e-3)
    assert data["missing"] == [{"row": "c", "seed": 0}]
    assert "measured" in files[2].read_text() and "paper" in files[2].read_text()


def test_rows_with_places_are_drawn_as_lines(tmp_path: Path) -> None:
    rows = {"ilf, 10": three([0.5, 1.0]), "ilf, 100": three([1.0, 1.0])}
    declared = study(
        list(rows),
        places={"ilf, 10": Place("ilf", 10), "ilf, 100": Place("ilf", 100)},
        paper={METRIC.name: {"ilf, 10": PaperFigure(20.0, 1.0, 1000)}},
    )
    write_report(declared, Results(measured(rows), []), tmp_path, "")
    plot = (tmp_path / "s.svg").read_text()
    assert "training rows" in plot and "measured: exact, %" in plot and "paper: exact, %" in plot


def test_nothing_measured_is_no_table_and_no_plot(tmp_path: Path) -> None:
    declared = study(["a"])
    results = Results({}, list(declared.arms))
    assert tables_of(declared, {}) == []
    assert [file.suffix for file in write_report(declared, results, tmp_path, "")] == [".md", ".json"]
