import math
import statistics

from hypothesis import given
from hypothesis import strategies as st

from services.orchestrator.metrics import Metrics, ShardMetrics

NUMBERS = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50)


def metrics_of(values: list[float]) -> Metrics:
    metrics = Metrics()
    metrics.add("m", values)
    return metrics


@given(NUMBERS)
def test_mean_and_standard_error_are_the_textbook_ones(values: list[float]) -> None:
    found = metrics_of(values).result()["m"]
    assert found.n == len(values)
    assert math.isclose(found.value, statistics.fmean(values), abs_tol=1e-6)
    assert math.isclose(found.standard_error, statistics.pstdev(values) / math.sqrt(len(values)), abs_tol=1e-6)


def test_a_share_has_the_binomial_error() -> None:
    found = metrics_of([1.0] * 3 + [0.0] * 7).result()["m"]
    assert math.isclose(found.standard_error, math.sqrt(0.3 * 0.7 / 10))


@given(st.lists(NUMBERS, min_size=1, max_size=6), st.randoms())
def test_the_order_in_which_shards_end_changes_no_bit(shards: list[list[float]], random: object) -> None:
    in_order, shuffled = ShardMetrics(), ShardMetrics()
    for index, values in enumerate(shards):
        in_order.add(index, metrics_of(values))
    order = list(range(len(shards)))
    random.shuffle(order)  # type: ignore[attr-defined]
    for index in order:
        shuffled.add(index, metrics_of(shards[index]))
    assert in_order.result() == shuffled.result()


def test_rows_without_a_number_do_not_count() -> None:
    metrics = Metrics()
    metrics.add("m", [None, 2.0, None])
    metrics.add("none", [None])
    assert metrics.result()["m"].n == 1
    assert "none" not in metrics.result()
