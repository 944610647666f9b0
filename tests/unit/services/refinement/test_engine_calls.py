from __future__ import annotations

from collections.abc import AsyncIterator

from ilf_common.engine.port import Outcome
from ilf_common.errors import InternalError, InvalidArgumentError, UnavailableError
from services.refinement.engine_calls import closing, failed
from services.refinement.models import SampleItem

ITEM = SampleItem("a", "context")


def test_the_engines_fields_get_the_callers_names() -> None:
    for field, named in (("prompt", "context"), ("temperature", "sampling.temperature"), ("text", "text")):
        error = InvalidArgumentError.of(field, "is wrong", reason="PROMPT_TOO_LONG")

        outcome = failed(ITEM, Outcome(0, error=error))

        assert outcome.item_id == "a"
        assert isinstance(outcome.error, InvalidArgumentError)
        assert outcome.error.reason == "PROMPT_TOO_LONG"
        assert [violation.field for violation in outcome.error.violations] == [named]


def test_other_errors_stay_as_they_are() -> None:
    error = UnavailableError("gone")

    assert failed(ITEM, Outcome(0, error=error)).error is error


def test_an_outcome_with_neither_value_nor_error_is_a_fault() -> None:
    assert isinstance(failed(ITEM, Outcome(0)).error, InternalError)


async def test_iterators_without_an_end_of_their_own_may_be_left() -> None:
    class Bare:
        def __aiter__(self) -> AsyncIterator[int]:
            return self

        async def __anext__(self) -> int:
            return 1

    async with closing(Bare()) as values:
        assert await anext(values) == 1
