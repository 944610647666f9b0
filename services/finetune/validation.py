"""What a spec must look like before anything is done with it."""

from __future__ import annotations

import math

from ilf_common.errors import FieldViolation, InvalidArgumentError
from ilf_common.rewards.kinds import check_question
from services.finetune.models import FinetuneKind, FinetuneSpec, Hyperparameters, LoraSpec, RewardOptions

_SCHEDULES = ("linear", "cosine", "constant")
_DTYPES = ("float32", "bfloat16")
_MAX_TEXT = 1024
_MAX_REQUEST_ID = 128
_MAX_HELD_OUT = 0.5


def check_request(request_id: str, spec: FinetuneSpec, placements: frozenset[str] = frozenset()) -> None:
    """Refuses a request whose fields can never work, naming all of them.

    Args:
        request_id: As the caller gave it.
        spec: What is asked for.
        placements: Names that the operator offers.

    Raises:
        InvalidArgumentError: With a violation per wrong field.
    """
    wrong = []
    if not 1 <= len(request_id) <= _MAX_REQUEST_ID or not request_id.isprintable():
        wrong.append(FieldViolation("request_id", "must be a UUID that the caller keeps for repeats of this request"))
    for name in ("base_model", "dataset_uri", "output_uri"):
        value = getattr(spec, name)
        if not value or len(value) > _MAX_TEXT or not value.isprintable():
            wrong.append(FieldViolation(f"spec.{name}", f"must be 1 to {_MAX_TEXT} printable characters"))
    if spec.placement and spec.placement not in placements:
        offered = ", ".join(sorted(placements)) or "none"
        wrong.append(
            FieldViolation("spec.placement", f"{spec.placement[:80]!r} is not offered here; there is: {offered}")
        )
    wrong += _template(spec) if spec.kind is FinetuneKind.SFT else _reward(spec)
    wrong += _hyperparameters(spec.hyperparameters)
    if wrong:
        raise InvalidArgumentError(violations=wrong)


def _template(spec: FinetuneSpec) -> list[FieldViolation]:
    if spec.template is None:
        return [FieldViolation("spec.template.text", "SFT needs the template that will serve the policy")]
    if spec.template.fields != {"context"}:
        found = sorted(spec.template.fields)
        return [
            FieldViolation("spec.template.text", f"must hold {{context}} and no other placeholder; it holds {found}")
        ]
    return []


def _reward(spec: FinetuneSpec) -> list[FieldViolation]:
    options = spec.reward or RewardOptions()
    wrong: list[FieldViolation] = []
    try:
        check_question(options.loss, spec.template, "spec.template")
    except InvalidArgumentError as error:
        wrong += error.violations
    if not 0 <= options.held_out_share <= _MAX_HELD_OUT:
        allowed = f"must be between 0 (none) and {_MAX_HELD_OUT}, is {options.held_out_share}"
        wrong.append(FieldViolation("spec.reward.held_out_share", allowed))
    elif options.held_out_share and options.held_out_uri:
        wrong.append(FieldViolation("spec.reward.held_out_share", "must be 0 where held_out_uri names the comparisons"))
    for name in ("held_out_uri", "slice_column"):
        value = getattr(options, name)
        if len(value) > _MAX_TEXT or not value.isprintable():
            wrong.append(FieldViolation(f"spec.reward.{name}", f"must be at most {_MAX_TEXT} printable characters"))
    return wrong


def _hyperparameters(values: Hyperparameters) -> list[FieldViolation]:
    limits = {
        "learning_rate": (0.0, 1.0),
        "epochs": (0.0, 1000.0),
        "batch_size": (0, 65536),
        "micro_batch_size": (0, 65536),
        "prompt_loss_weight": (0.0, 1.0),
        "max_length": (0, 1_000_000),
        "warmup_ratio": (0.0, 0.99),
        "weight_decay": (0.0, 1.0),
        "max_grad_norm": (0.0, 1e6),
        "save_steps": (0, 10**9),
    }
    wrong = []
    for name, (low, high) in limits.items():
        value = getattr(values, name)
        if value is not None and not low <= value <= high:
            wrong.append(_violation(name, f"must be between {low:g} and {high:g} (0 takes the default), is {value}"))
    for name, allowed in (("lr_schedule", _SCHEDULES), ("dtype", _DTYPES)):
        value = getattr(values, name)
        if value and value not in allowed:
            wrong.append(_violation(name, f"must be one of {', '.join(allowed)}, is {value[:40]!r}"))
    if values.batch_size and values.micro_batch_size and values.batch_size % values.micro_batch_size:
        wrong.append(_violation("micro_batch_size", f"{values.micro_batch_size} must divide {values.batch_size}"))
    return wrong + (_lora(values.lora) if values.lora else [])


def _lora(lora: LoraSpec) -> list[FieldViolation]:
    wrong = []
    if not 1 <= lora.rank <= 1024:
        wrong.append(_violation("lora.rank", f"must be between 1 and 1024, is {lora.rank}"))
    if not 0 <= lora.alpha <= 65536:
        wrong.append(_violation("lora.alpha", f"must be between 0 (twice the rank) and 65536, is {lora.alpha}"))
    if not 0 <= lora.dropout < 1 or math.isnan(lora.dropout):
        wrong.append(_violation("lora.dropout", f"must be at least 0 and below 1, is {lora.dropout}"))
    if not all(lora.target_modules):
        wrong.append(_violation("lora.target_modules", "must not hold empty names"))
    return wrong


def _violation(name: str, description: str) -> FieldViolation:
    return FieldViolation(f"spec.hyperparameters.{name}", description)
