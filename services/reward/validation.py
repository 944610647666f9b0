"""Everything that can be wrong with a request, found before any work and all at once."""

from __future__ import annotations

import math
import re
import uuid
from collections import Counter
from collections.abc import Sequence

from ilf_common.errors import FieldViolation, InvalidArgumentError
from services.reward.models import BestOfNCall, CompareItem, EvaluateCall, ScoreItem, TrainCall

MAX_TEXT = 200_000
MAX_ITEMS = 4096
MAX_ITEM_ID = 512
MAX_SAMPLES = 1024
MAX_MODELS = 16
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,199}")
_MAX_URI = 2000


def check_batch(models: Sequence[str], item_ids: Sequence[str]) -> None:
    """Checks what all items of a batch share; the ids tell outcomes apart, so a batch without them has no answer.

    Raises:
        InvalidArgumentError: With all wrong fields.
    """
    found = _models_violations("models", models)
    count = len(item_ids)
    if not 1 <= count <= MAX_ITEMS:
        found.append(FieldViolation("items", f"holds {count:,} items; 1 to {MAX_ITEMS:,} are allowed"))
    counts = Counter(item_ids)
    for index, item_id in enumerate(item_ids):
        field = f"items[{index}].item_id"
        if not 1 <= len(item_id) <= MAX_ITEM_ID:
            found.append(FieldViolation(field, f"must have 1 to {MAX_ITEM_ID} characters"))
        elif counts[item_id] > 1:
            found.append(FieldViolation(field, f"{item_id!r} occurs more than once in this batch"))
    _raise(found)


def check_single(models: Sequence[str], violations: Sequence[FieldViolation]) -> None:
    """Checks a request with one item, whose own violations were found already.

    Raises:
        InvalidArgumentError: With all wrong fields.
    """
    _raise([*_models_violations("models", models), *violations])


def item_violations(item: ScoreItem, prefix: str) -> list[FieldViolation]:
    """Wrong fields of one item, `prefix` in front of their names. An empty output is an output."""
    found = _text_violations(f"{prefix}context", item.context)
    if len(item.output) > MAX_TEXT:
        found.append(_too_long(f"{prefix}output", item.output))
    return found


def pair_violations(item: CompareItem, prefix: str) -> list[FieldViolation]:
    """Wrong fields of one pair of outputs, as `item_violations`."""
    found = _text_violations(f"{prefix}context", item.context)
    for name, text in (("output_a", item.output_a), ("output_b", item.output_b)):
        if len(text) > MAX_TEXT:
            found.append(_too_long(f"{prefix}{name}", text))
    return found


def check_evaluate(call: EvaluateCall) -> None:
    """Checks a request to measure models.

    Raises:
        InvalidArgumentError: With all wrong fields.
    """
    found = [*_models_violations("models", call.models), *_uri_violations("dataset_uri", call.dataset_uri)]
    if len(call.slice_column) > MAX_ITEM_ID:
        found.append(FieldViolation("slice_column", f"must have at most {MAX_ITEM_ID} characters"))
    _raise(found)


def check_best_of_n(call: BestOfNCall) -> None:
    """Checks what the reward service itself needs; the refinement service checks how to sample, by the same names.

    Raises:
        InvalidArgumentError: With all wrong fields.
    """
    found = [
        *_models_violations("reward_models", call.reward_models),
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


def _models_violations(field: str, names: Sequence[str]) -> list[FieldViolation]:
    if not 1 <= len(names) <= MAX_MODELS:
        return [FieldViolation(field, f"names {len(names)} reward models; 1 to {MAX_MODELS} are allowed")]
    if len(set(names)) < len(names):
        return [FieldViolation(field, "names a reward model more than once")]
    paths = [field] if len(names) == 1 else [f"{field}[{index}]" for index in range(len(names))]
    return [violation for path, name in zip(paths, names, strict=True) for violation in _name_violations(path, name)]


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
