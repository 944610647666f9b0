"""What a request must hold before any work is done; pure."""

from __future__ import annotations

from collections.abc import Sequence

from ilf_common.errors import FieldViolation, InvalidArgumentError
from services.ranking.models import CompareItem, RankItem

MAX_TEXT_CHARACTERS = 200_000
MAX_CANDIDATES = 1024
MAX_ITEMS = 4096


def check_batch_size(count: int) -> None:
    """A batch has 1 to 4096 items.

    Raises:
        InvalidArgumentError: It has not.
    """
    if not 1 <= count <= MAX_ITEMS:
        raise InvalidArgumentError.of("items", f"needs 1 to {MAX_ITEMS} items, has {count}")


def rank_item_violations(item: RankItem, path: str, *, needs_feedback: bool) -> list[FieldViolation]:
    """What is wrong with an item.

    An empty initial output or candidate is allowed, since a policy may answer with nothing.

    Args:
        item: The item.
        path: Put in front of the names of the fields, as in `items[3].`.
        needs_feedback: The ranker reads the feedback.
    """
    violations = _text(f"{path}context", item.context, required=True)
    violations += _text(f"{path}initial_output", item.initial_output, required=False)
    violations += _text(f"{path}feedback", item.feedback, required=needs_feedback)
    if not 1 <= len(item.candidates) <= MAX_CANDIDATES:
        violations.append(
            FieldViolation(f"{path}candidates", f"needs 1 to {MAX_CANDIDATES} candidates, has {len(item.candidates)}")
        )
    for index, candidate in enumerate(item.candidates[:MAX_CANDIDATES]):
        violations += _text(f"{path}candidates[{index}]", candidate, required=False)
    return violations


def compare_item_violations(item: CompareItem, path: str) -> list[FieldViolation]:
    """What is wrong with a pair; see `rank_item_violations`."""
    violations = _text(f"{path}context", item.context, required=True)
    violations += _text(f"{path}output_a", item.output_a, required=False)
    return violations + _text(f"{path}output_b", item.output_b, required=False)


def id_violations(item_ids: Sequence[str]) -> dict[int, FieldViolation]:
    """Empty ids, and every repetition of an earlier id, by index of the item."""
    seen: set[str] = set()
    violations = {}
    for index, item_id in enumerate(item_ids):
        field = f"items[{index}].item_id"
        if not item_id:
            violations[index] = FieldViolation(field, "must not be empty")
        elif item_id in seen:
            violations[index] = FieldViolation(field, "an earlier item of the batch has the same id")
        seen.add(item_id)
    return violations


def _text(field: str, text: str, *, required: bool) -> list[FieldViolation]:
    if required and not text.strip():
        return [FieldViolation(field, "must not be empty")]
    if len(text) > MAX_TEXT_CHARACTERS:
        return [FieldViolation(field, f"{len(text)} characters; at most {MAX_TEXT_CHARACTERS} are allowed")]
    return []
