"""Which samples a page shows: from its address, and back to it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar
from urllib.parse import urlencode

from ilf_client.models.runs import SampleFilter, SampleOrder
from ilf_common.errors import FieldViolation, InvalidArgumentError

T = TypeVar("T")

SIZES = (10, 25, 50, 100)
_FAILED = {"yes": True, "no": False}
_BOUNDS = ("min_score", "max_score", "min_spread", "max_spread")
_WHOLE_BOUNDS = ("min_length", "max_length")


@dataclass(frozen=True)
class SampleSearch:
    """Conditions, order and page of samples.

    Attributes:
        iteration: From 1; 0 means the newest with refinements.
        where: Which samples.
        order_by: What comes first.
        descending: The largest first.
        size: Samples of one page.
        page: Token of the page; empty for the first.
    """

    iteration: int = 0
    where: SampleFilter = field(default_factory=SampleFilter)
    order_by: SampleOrder = SampleOrder.DATASET
    descending: bool = False
    size: int = 10
    page: str = ""

    @property
    def is_filtered(self) -> bool:
        """Some samples may be left out."""
        return self.where != SampleFilter()

    def query(self, **changes: Any) -> str:
        """The address's part after `?`, with other values for some fields; the page begins anew unless it is named."""
        now = replace(self, **{"page": "", **changes})
        pairs = [("iteration", str(now.iteration))] if now.iteration else []
        for name in (entry.name for entry in fields(SampleFilter)):
            pairs += _pairs(name, getattr(now.where, name))
        if now.order_by is not SampleOrder.DATASET:
            pairs.append(("order_by", now.order_by.value))
        if now.descending:
            pairs.append(("descending", "yes"))
        if now.size != SampleSearch.size:
            pairs.append(("size", str(now.size)))
        return urlencode([*pairs, *([("page", now.page)] if now.page else [])])


def read_search(params: Mapping[str, str], item_ids: Sequence[str] = ()) -> SampleSearch:
    """The search that an address asks for; empty values count as not given.

    Args:
        params: The address's parameters.
        item_ids: Of items that are wanted alone.

    Raises:
        InvalidArgumentError: With a violation for each value that is none.
    """
    reader = _Reader(params)
    numbers = {name: reader.number(name) for name in _BOUNDS} | {name: reader.whole(name) for name in _WHOLE_BOUNDS}
    for what in ("score", "spread", "length"):
        low, high = numbers[f"min_{what}"], numbers[f"max_{what}"]
        if low is not None and high is not None and low > high:
            reader.refuse(f"min_{what}", f"is {low}, more than the greatest that is asked for, {high}")
    where = SampleFilter(
        text=params.get("text", ""),
        failed=reader.one_of("failed", _FAILED, None),
        item_ids=tuple(filter(None, item_ids)),
        **numbers,  # type: ignore[arg-type]
    )
    orders = {order.value: order for order in SampleOrder if order is not SampleOrder.UNSPECIFIED}
    search = SampleSearch(
        iteration=reader.whole("iteration") or 0,
        where=where,
        order_by=reader.one_of("order_by", orders, SampleOrder.DATASET),
        descending=reader.one_of("descending", _FAILED, False),
        size=reader.one_of("size", {str(size): size for size in SIZES}, SampleSearch.size),
        page=params.get("page", ""),
    )
    if reader.violations:
        raise InvalidArgumentError(violations=reader.violations)
    return search


class _Reader:
    def __init__(self, params: Mapping[str, str]) -> None:
        self._params = params
        self.violations: list[FieldViolation] = []

    def number(self, name: str) -> float | None:
        text = self._params.get(name, "").strip()
        try:
            value = float(text) if text else None
        except ValueError:
            value = math.nan
        if value is not None and not math.isfinite(value):
            self.refuse(name, f"is {text[:40]!r}, a number is wanted")
            return None
        return value

    def whole(self, name: str) -> int | None:
        text = self._params.get(name, "").strip()
        if text and not (text.isascii() and text.isdigit() and len(text) < 10):
            self.refuse(name, f"is {text[:40]!r}, a whole number from 0 is wanted")
            return None
        return int(text) if text else None

    def one_of(self, name: str, known: Mapping[str, T], default: T) -> T:
        text = self._params.get(name, "")
        if text and text not in known:
            self.refuse(name, f"is {text[:40]!r}; known are {', '.join(known)}")
        return known.get(text, default)

    def refuse(self, name: str, description: str) -> None:
        self.violations.append(FieldViolation(name, description))


def _pairs(name: str, value: Any) -> list[tuple[str, str]]:
    if value is None or value == "":
        return []
    if isinstance(value, bool):
        return [(name, "yes" if value else "no")]
    if isinstance(value, float | int):
        return [(name, str(value))]
    if isinstance(value, str):
        return [(name, value)]
    return [("item", item) for item in value]
