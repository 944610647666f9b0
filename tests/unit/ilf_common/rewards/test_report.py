from __future__ import annotations

import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ilf_common.errors import InvalidArgumentError
from ilf_common.rewards.comparisons import Comparison
from ilf_common.rewards.measuring import fitted_report, report_at, temperature_of
from ilf_common.rewards.report import read_report, write_report


def rows(count: int, *, contexts: int | None = None) -> list[Comparison]:
    return [
        Comparison(n, f"context {n % (contexts or count)}", "x" * (n % 7), "y" * (n % 5), slice="ab"[n % 2])
        for n in range(count)
    ]


def test_a_small_report_is_what_is_computed_by_hand() -> None:
    pairs = [
        Comparison(1, "a", "12345", "123"),
        Comparison(2, "b", "123", "12345"),
        Comparison(3, "c", "1234567890", "123456789"),
        Comparison(4, "d", "1", "1"),
    ]
    report = report_at(pairs, [2.0, -1.0, 1.0, 0.0], 2.0, {"equal_texts": 3})
    assert (report.pairs, report.contexts, report.dropped) == (4, 4, {"equal_texts": 3})
    assert report.accuracy.value == 2.5 / 4  # the tie counts half
    assert report.accuracy.standard_error == pytest.approx(np.std([1, 0, 1, 0.5], ddof=1) / 2)
    assert (report.margins.mean, report.margins.median) == (0.5, 0.5)
    assert report.length.matched_accuracy is not None
    assert report.length.matched_accuracy.value == 0.75  # rows 3 and 4
    assert report.length.longer_is_preferred == (1 + 0 + 1 + 0.5) / 4
    # The line through the origin: sum of d times margin over sum of d squared.
    assert report.length.slope is not None
    assert report.length.slope.value == pytest.approx((2 * 2 + -2 * -1 + 1 * 1) / (4 + 4 + 1))
    chosen = [1 / (1 + math.exp(-margin / 2)) for margin in (2.0, -1.0, 1.0, 0.0)]
    assert report.calibrated.brier == pytest.approx(np.mean([(1 - p) ** 2 for p in chosen]))
    assert sum(part.count for part in report.calibrated.bins) == 8
    assert report.temperature == 2.0 and not report.slices


def test_the_accuracy_by_slice_has_its_own_error() -> None:
    pairs = rows(40)
    report = report_at(pairs, [1.0 if row.slice == "a" else (-1.0) ** row.number for row in pairs], 1.0, {})
    assert [(part.value, part.pairs, part.accuracy.value) for part in report.slices] == [("a", 20, 1.0), ("b", 20, 0.0)]


def test_rewards_that_are_twice_too_sure_get_the_temperature_two_and_become_calibrated() -> None:
    draw = random.Random(0)
    truth = [draw.gauss(0, 2) for _ in range(6000)]
    # The margin of the preferred text, where the first of two is preferred with probability sigmoid(truth).
    margins = [2 * (t if draw.random() < 1 / (1 + math.exp(-t)) else -t) for t in truth]
    report = fitted_report(rows(6000), margins, {})
    assert report.temperature == pytest.approx(2.0, rel=0.06)
    assert report.calibrated.ece < 0.02 < 0.05 < report.uncalibrated.ece
    assert report.calibrated.brier < report.uncalibrated.brier


def test_calibration_is_measured_with_the_temperature_of_the_other_half() -> None:
    """Even and odd contexts want opposite temperatures, so each half is judged by what does not fit it."""
    from ilf_common.rewards.comparisons import context_digest

    pairs = rows(400)
    draw = random.Random(1)
    margins = []
    for row in pairs:
        sure = int(context_digest(row.context), 16) % 2 == 0
        margins.append((8.0 if sure else 0.2) * (1 if draw.random() < 0.75 else -1))
    report = fitted_report(pairs, margins, {})
    assert report.calibrated.ece > report_at(pairs, margins, report.temperature, {}).calibrated.ece


def test_nothing_is_learned_of_the_temperature_where_all_are_right_or_none_is_there() -> None:
    assert temperature_of([0.5, 2.0, 0.1]) == 1.0
    assert temperature_of([]) == 1.0


@given(st.lists(st.floats(-20, 20), min_size=1, max_size=30), st.integers(1, 30))
def test_any_report_goes_to_a_file_and_back(margins: list[float], contexts: int) -> None:
    report = fitted_report(rows(len(margins), contexts=contexts), margins, {"equal_texts": 1})
    assert read_report(write_report(report)) == report
    assert report.accuracy_low <= report.accuracy.value <= report.accuracy_high


@pytest.mark.parametrize("margins", [[], [float("nan")], [float("inf")]])
def test_no_report_is_made_of_what_is_no_number(margins: list[float]) -> None:
    with pytest.raises(InvalidArgumentError):
        report_at(rows(len(margins)), margins, 1.0, {})
