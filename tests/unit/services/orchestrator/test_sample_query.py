from __future__ import annotations

import pytest
from ilf.orchestrator.v1 import orchestrator_service_pb2 as pb

from ilf_common.errors import InvalidArgumentError
from ilf_common.rpc.pagination import encode_token
from services.orchestrator.convert import sample_query_from_proto
from services.orchestrator.sample_query import SampleFilter, SampleOrder, SamplePlace, SampleQuery

NAN = float("nan")


@pytest.mark.parametrize(
    ("where", "fields"),
    [
        (SampleFilter(min_score=NAN), ["min_score"]),
        (SampleFilter(max_spread=NAN), ["max_spread"]),
        (SampleFilter(min_score=1.0, max_score=0.5), ["min_score"]),
        (SampleFilter(min_length=-1, max_length=-2), ["min_length", "max_length", "min_length"]),
        (SampleFilter(text="x" * 1001), ["text"]),
        (SampleFilter(item_ids=("x",) * 1001), ["item_ids"]),
    ],
)
def test_every_wrong_field_is_named(where: SampleFilter, fields: list[str]) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        SampleQuery(where).check()
    assert [violation.field for violation in caught.value.violations] == [f"filter.{field}" for field in fields]


def test_a_request_means_what_it_says() -> None:
    where = pb.SampleFilter(text="%", min_score=0.0, max_length=0, failed=False, item_ids=["a", "b"])
    request = pb.ListSamplesRequest(filter=where, order_by=pb.SAMPLE_ORDER_SPREAD, descending=True)
    expected = SampleFilter(text="%", min_score=0.0, max_length=0, failed=False, item_ids=("a", "b"))
    assert sample_query_from_proto(request) == SampleQuery(expected, SampleOrder.SPREAD, descending=True)
    assert sample_query_from_proto(pb.ListSamplesRequest()).plain
    assert not sample_query_from_proto(pb.ListSamplesRequest(filter=pb.SampleFilter(failed=False))).plain


def test_an_order_that_is_not_known_is_refused() -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        sample_query_from_proto(pb.ListSamplesRequest(order_by=99))  # type: ignore[arg-type]
    assert caught.value.violations[0].field == "order_by"


@pytest.mark.parametrize("value", [None, 0.1, -1e300, 12.0])
def test_a_token_leads_back_to_its_place(value: float | None) -> None:
    scope = ("run", 1, SampleQuery(SampleFilter(min_score=float("-inf"))))
    place = SamplePlace(3, 4, value)
    assert SamplePlace.of_token(place.token(scope), scope) == place
    assert SamplePlace.of_token("", scope) is None


@pytest.mark.parametrize(
    "other",
    [
        ("other", 1, SampleQuery()),
        ("run", 2, SampleQuery()),
        ("run", 1, SampleQuery(descending=True)),
        ("run", 1, SampleQuery(SampleFilter(text="a"))),
        ("run", 1, SampleQuery(order_by=SampleOrder.SCORE)),
    ],
)
def test_a_token_is_refused_elsewhere(other: tuple[str, int, SampleQuery]) -> None:
    token = SamplePlace(0, 0, 0.5).token(("run", 1, SampleQuery()))
    with pytest.raises(InvalidArgumentError, match="first page"):
        SamplePlace.of_token(token, other)


@pytest.mark.parametrize("text", ["", "1/2", "[]", '["x", 1]', '["x", "a", 1, 1]', '["x", 1, 99999999999, 1]', "{"])
def test_what_is_no_token_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        SamplePlace.of_token(encode_token(text), ("run", 1, SampleQuery()))
    assert caught.value.violations[0].field == "page_token"
