"""Which samples of an iteration are wanted, in which order, and from where on."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from ilf_common.errors import FieldViolation, InvalidArgumentError
from ilf_common.rpc.pagination import decode_token, encode_token
from services.orchestrator.codec import digest_of

MAX_TEXT = 1000
MAX_ITEM_IDS = 1000
_MAX_NUMBER = 1 << 31


class SampleOrder(StrEnum):
    """What samples are sorted by; all but the dataset's order are about the chosen refinement."""

    UNSPECIFIED = "SAMPLE_ORDER_UNSPECIFIED"
    DATASET = "SAMPLE_ORDER_DATASET"
    SCORE = "SAMPLE_ORDER_SCORE"
    SPREAD = "SAMPLE_ORDER_SPREAD"
    MISSING_MASS = "SAMPLE_ORDER_MISSING_MASS"
    LENGTH = "SAMPLE_ORDER_LENGTH"


@dataclass(frozen=True)
class SampleFilter:
    """Conditions that must all hold; those that are unset, or empty, hold for every row.

    Attributes:
        text: Occurs in the context, the initial output, the feedback or a refinement; case is ignored.
        min_score, max_score: Of the chosen refinement, inclusive; a row without one meets neither.
        min_spread, max_spread: Likewise.
        min_length, max_length: Likewise, in characters.
        failed: Whether the row failed.
        item_ids: The row is one of these.
    """

    text: str = ""
    min_score: float | None = None
    max_score: float | None = None
    min_spread: float | None = None
    max_spread: float | None = None
    min_length: int | None = None
    max_length: int | None = None
    failed: bool | None = None
    item_ids: tuple[str, ...] = ()

    def violations(self) -> Iterator[FieldViolation]:
        """What is wrong with it."""
        for name in ("score", "spread", "length"):
            least, most = getattr(self, f"min_{name}"), getattr(self, f"max_{name}")
            for field, value in ((f"min_{name}", least), (f"max_{name}", most)):
                if value is not None and math.isnan(value):
                    yield FieldViolation(f"filter.{field}", "must be a number, is NaN")
                if value is not None and name == "length" and value < 0:
                    yield FieldViolation(f"filter.{field}", f"must not be negative, is {value}")
            if least is not None and most is not None and least > most:
                yield FieldViolation(
                    f"filter.min_{name}", f"must not be above filter.max_{name}, which is {most}; is {least}"
                )
        if len(self.text) > MAX_TEXT:
            yield FieldViolation("filter.text", f"must have at most {MAX_TEXT} characters, has {len(self.text)}")
        if len(self.item_ids) > MAX_ITEM_IDS:
            yield FieldViolation("filter.item_ids", f"must be at most {MAX_ITEM_IDS}, are {len(self.item_ids)}")


@dataclass(frozen=True)
class SampleQuery:
    """A filter and an order; rows without the value of the order come last, equal ones as in the dataset."""

    where: SampleFilter = SampleFilter()
    order_by: SampleOrder = SampleOrder.UNSPECIFIED
    descending: bool = False

    @property
    def plain(self) -> bool:
        """Whether it wants all rows as they are in the dataset."""
        return self.where == SampleFilter() and self.by_dataset and not self.descending

    @property
    def by_dataset(self) -> bool:
        """Whether rows come in the dataset's order, or its reverse."""
        return self.order_by in (SampleOrder.UNSPECIFIED, SampleOrder.DATASET)

    def check(self) -> None:
        """Refuses what can never be right.

        Raises:
            InvalidArgumentError: Every wrong field is named.
        """
        if found := list(self.where.violations()):
            raise InvalidArgumentError(violations=found)


@dataclass(frozen=True)
class SamplePlace:
    """A row's place in the order of a query.

    Attributes:
        shard: Number of its shard.
        position: In the shard.
        value: What it is sorted by, None where the row has no such value.
    """

    shard: int
    position: int
    value: float | None

    def token(self, scope: tuple[str, int, SampleQuery]) -> str:
        """The token of the page after this row; `scope` is the run, the iteration and the query."""
        return encode_token(json.dumps([digest_of(list(scope)), self.shard, self.position, self.value]))

    @classmethod
    def of_token(cls, token: str, scope: tuple[str, int, SampleQuery]) -> SamplePlace | None:
        """The place that a token names, None for the empty one.

        Raises:
            InvalidArgumentError: No page of this run, iteration and query answered this token.
        """
        text = decode_token(token)
        if text is None:
            return None
        try:
            digest, shard, position, value = json.loads(text)
            place = cls(int(shard), int(position), None if value is None else float(value))
            if not (0 <= place.shard < _MAX_NUMBER and 0 <= place.position < _MAX_NUMBER):
                raise ValueError("out of range")
        except (ValueError, TypeError) as error:
            raise InvalidArgumentError.of("page_token", "is no token that an earlier page answered") from error
        if digest != digest_of(list(scope)):
            raise InvalidArgumentError.of(
                "page_token", "belongs to another run, iteration, filter or order; ask for the first page of this one"
            )
        return place
