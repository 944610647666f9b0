"""Everything that can be wrong with a request, found before any work and all at once."""

from __future__ import annotations

import math
import re
import uuid
from collections import Counter
from collections.abc import Sequence

from ilf_common.errors import FieldViolation, InvalidArgumentError
from services.reward.models import BestOfNCall, ScoreCall, ScoreItem, TrainCall

MAX_TEXT = 200_000
MAX_ITEMS = 4096
MAX_ITEM_ID = 512
MAX_SAMPLES = 1024
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,199}")
_MAX_URI = 2000


def check_batch(call: ScoreCall) -> None:
    """Checks what all items of a batch share; the ids tell outcomes apart, so a batch without them has no answer.

    Raises:
        InvalidArgumentError: With all wrong fields.
    """
    found = _name_violations("model", call.model)
    count = len(call.items)
    if not 1 <= count <= MAX_ITEMS:
        found.append(FieldViolation("items", f"holds {count:,} items; 1 to {MAX_ITEMS:,} are allowed"))
    counts = Counter(item.item_id for item in call.items)
    for index, item in enumerate(call.items):
        field = f"items[{index}].item_id"
        if not 1 <= len(item.item_id) <= MAX_ITEM_ID:
            found.append(FieldViolation(field, f"must have 1 to {MAX_ITEM_ID} characters"))
        elif counts[item.item_id] > 1:
            found.append(FieldViolation(field, f"{item.item_id!r} occurs more than once in this batch"))
    _raise(found)


def check_single(model: str, item: ScoreItem) -> None:
    """Checks a request with one item.

    Raises:
        InvalidArgumentError: With all wrong fields.
    """
    _raise([*_name_violations("model", model), *item_violations(item, "")])


def item_violations(item: ScoreItem, prefix: str) -> list[FieldViolation]:
    """Wrong fields of one item, `prefix` in front of their names. An empty output is an output."""
    found = _text_violations(f"{prefix}context", item.context)
    if len(item.output) > MAX_TEXT:
        found.append(_too_long(f"{prefix}output", item.output))
    return found


def check_best_of_n(call: BestOfNCall) -> None:
    """Checks what the reward service itself needs; the refinement service checks how to sample, by the same names.

    Raises:
        InvalidArgumentError: With all wrong fields.
    """
    found = [
        *_name_violations("reward_model", call.reward_model),
        *_name_violations("model", call.model),
        *_text_violations("context", call.context),
    ]
    if not 1 <= call.sampling.n <= MAX_SAMPLES:
        found.append(FieldViolation("sampling.n", f"is {call.sampling.n}; 1 to {MAX_SAMPLES} are allowed"))
    _raise(found)


def check_train(call: TrainCall) -> None:
    """Checks a request to train.

    Raises:
        InvalidArgumentError: With all wrong fields.
    """
    found = [*_request_id_violations(call.request_id)]
    for name, text in (
        ("base_model", call.base_model),
        ("dataset_uri", call.dataset_uri),
        ("output_uri", call.output_uri),
    ):
        found += _uri_violations(name, text)
    for name, number in (
        ("learning_rate", call.learning_rate),
        ("epochs", call.epochs),
        ("batch_size", call.batch_size),
        ("max_length", call.max_length),
    ):
        if not (math.isfinite(number) and number >= 0):
            found.append(FieldViolation(name, f"is {number}; a positive number, or 0 for the default, is allowed"))
    _raise(found)


def check_load(request_id: str, name: str, uri: str) -> None:
    """Checks a request to load.

    Raises:
        InvalidArgumentError: With all wrong fields.
    """
    _raise([*_request_id_violations(request_id), *_name_violations("name", name), *_uri_violations("uri", uri)])


def check_named(name: str, request_id: str = "") -> None:
    """Checks a request that names a reward model.

    Raises:
        InvalidArgumentError: With all wrong fields.
    """
    _raise([*_request_id_violations(request_id), *_name_violations("name", name)])


def _text_violations(field: str, text: str) -> list[FieldViolation]:
    if not text.strip():
        return [FieldViolation(field, "must not be empty")]
    return [_too_long(field, text)] if len(text) > MAX_TEXT else []


def _too_long(field: str, text: str) -> FieldViolation:
    return FieldViolation(field, f"has {len(text):,} characters; at most {MAX_TEXT:,} are allowed")


def _name_violations(field: str, name: str) -> list[FieldViolation]:
    if _NAME.fullmatch(name):
        return []
    rule = "1 to 200 letters, digits, '.', '_', '-' or '/', the first a letter or digit"
    return [FieldViolation(field, f"{name[:200]!r} is no name: {rule}")]


def _uri_violations(field: str, uri: str) -> list[FieldViolation]:
    return [] if 1 <= len(uri) <= _MAX_URI else [FieldViolation(field, f"must have 1 to {_MAX_URI:,} characters")]


def _request_id_violations(request_id: str) -> list[FieldViolation]:
    try:
        valid = not request_id or bool(uuid.UUID(request_id))
    except ValueError:
        valid = False
    return [] if valid else [FieldViolation("request_id", "must be a UUID, or empty")]


def _raise(found: Sequence[FieldViolation]) -> None:
    if found:
        raise InvalidArgumentError(violations=found)
