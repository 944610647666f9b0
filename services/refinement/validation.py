"""Everything that can be wrong with a request, found before any work and all at once."""

from __future__ import annotations

import math
import re
import uuid
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from ilf_common.engine.port import Sampling
from ilf_common.errors import FieldViolation, InvalidArgumentError
from ilf_common.templates import PromptTemplate
from services.refinement.models import (
    NAME_PATTERN,
    Item,
    LoadRequest,
    PostProcessing,
    SampleCall,
    SampleItem,
    ScoreCall,
    ScoreItem,
    Task,
    TemplateChoice,
)

MAX_TEXT = 200_000
MAX_ITEMS = 4096
MAX_SAMPLES = 1024
MAX_RESAMPLE_BUDGET = 4096
MAX_NEW_TOKENS = 32_768
MAX_TEMPERATURE = 10.0
MAX_ITEM_ID = 512
MAX_STRINGS = 64
MAX_STRING = 1000

_DEFAULT_TEMPLATES = {Task.REFINE: "refine_with_feedback", Task.GENERATE: "plain"}
_TEMPLATE_FIELDS = {
    Task.REFINE: frozenset({"context", "initial_output", "feedback"}),
    Task.GENERATE: frozenset({"context", "initial_output"}),
}


class Violations:
    """Collects wrong fields, so that a caller learns of all of them at once."""

    def __init__(self) -> None:
        self.found: list[FieldViolation] = []

    def check(self, condition: bool, field: str, description: str) -> None:
        """Notes a violation where the condition does not hold."""
        if not condition:
            self.found.append(FieldViolation(field, description))

    def add(self, violations: Iterable[FieldViolation]) -> None:
        """Takes over violations that were found elsewhere."""
        self.found.extend(violations)

    def raise_any(self) -> None:
        """Ends the check.

        Raises:
            InvalidArgumentError: Anything was found.
        """
        if self.found:
            raise InvalidArgumentError(violations=self.found)


def check_call(call: SampleCall | ScoreCall, shipped: Mapping[str, PromptTemplate]) -> PromptTemplate:
    """Checks what all items of a call share, and answers the template that the call means.

    Raises:
        InvalidArgumentError: With all wrong fields.
    """
    template, violations = _inspect(call, shipped)
    return _checked(template, violations)


def check_single(call: SampleCall | ScoreCall, shipped: Mapping[str, PromptTemplate]) -> PromptTemplate:
    """Checks a call whose one item's fields stand in the request itself, and answers its template.

    Raises:
        InvalidArgumentError: With all wrong fields, those of the item among them.
    """
    template, violations = _inspect(call, shipped)
    violations.add(item_violations(call.items[0], "", template.fields if template else frozenset()))
    return _checked(template, violations)


def item_violations(item: SampleItem | ScoreItem, prefix: str, shown: frozenset[str]) -> list[FieldViolation]:
    """Wrong fields of one item; a text that the template shows must not be empty, nor one without any token to score.

    Args:
        item: The item.
        prefix: Put before the field names, as `items[3].`.
        shown: Names of the template's placeholders.
    """
    violations = Violations()
    if isinstance(item, ScoreItem):
        texts = {"context": item.context, "text": item.text}
        needed = shown | {"context"} | ({"text"} if item.unfinished else set())
    else:
        texts = {"context": item.context, "initial_output": item.initial_output, "feedback": item.feedback}
        needed = shown | {"context"}
    for name, text in texts.items():
        violations.check(bool(text.strip()) or name not in needed, prefix + name, "must not be empty")
        violations.check(
            len(text) <= MAX_TEXT, prefix + name, f"has {len(text):,} characters; at most {MAX_TEXT:,} are allowed"
        )
    return violations.found


def check_load(request: LoadRequest) -> None:
    """Checks a request to load a version.

    Raises:
        InvalidArgumentError: With all wrong fields.
    """
    violations = Violations()
    _check_request_id(request.request_id, violations)
    _check_name(request.name, "name", violations)
    violations.check(bool(request.uri), "uri", "must not be empty")
    violations.check(len(request.uri) <= 2000, "uri", "is longer than 2,000 characters")
    if request.base_model:
        _check_name(request.base_model, "base_model", violations)
    violations.raise_any()


def check_names(request_id: str | None = None, **names: str) -> None:
    """Checks the names in a request about versions or aliases; the keywords are the fields.

    Raises:
        InvalidArgumentError: With all wrong fields.
    """
    violations = Violations()
    if request_id is not None:
        _check_request_id(request_id, violations)
    for field, name in names.items():
        _check_name(name, field, violations)
    violations.raise_any()


def _inspect(
    call: SampleCall | ScoreCall, shipped: Mapping[str, PromptTemplate]
) -> tuple[PromptTemplate | None, Violations]:
    """What is wrong with the shared part of a call, and its template where that is right."""
    violations = Violations()
    violations.check(bool(call.model), "model", "name the model, policy version or alias to use")
    _check_items(call.items, violations)
    if isinstance(call, ScoreCall):
        return _choose_template(call.template, shipped, "plain", frozenset({"context"}), violations), violations
    _check_sampling(call.sampling, violations)
    _check_post_processing(call.post_processing, call.sampling.n, violations)
    default, available = _DEFAULT_TEMPLATES[call.task], _TEMPLATE_FIELDS[call.task]
    return _choose_template(call.template, shipped, default, available, violations), violations


def _checked(template: PromptTemplate | None, violations: Violations) -> PromptTemplate:
    violations.raise_any()
    if template is None:
        raise AssertionError("a template that cannot be chosen is a violation")
    return template


def _check_items(items: Sequence[Item], violations: Violations) -> None:
    violations.check(bool(items), "items", "must hold at least one item")
    violations.check(len(items) <= MAX_ITEMS, "items", f"holds {len(items):,} items; at most {MAX_ITEMS:,} are allowed")
    if len(items) > 1:
        _check_item_ids(items, violations)


def _check_item_ids(items: Sequence[Item], violations: Violations) -> None:
    """The ids tell the outcomes apart, so a batch without usable ids cannot be answered item by item."""
    counts = Counter(item.item_id for item in items)
    for index, item in enumerate(items):
        field = f"items[{index}].item_id"
        violations.check(bool(item.item_id), field, "must not be empty in a batch")
        violations.check(len(item.item_id) <= MAX_ITEM_ID, field, f"is longer than {MAX_ITEM_ID} characters")
        if item.item_id and counts[item.item_id] > 1:
            violations.check(False, field, f"{item.item_id[:MAX_ITEM_ID]!r} occurs more than once in this batch")


def _check_sampling(sampling: Sampling, violations: Violations) -> None:
    violations.check(1 <= sampling.n <= MAX_SAMPLES, "sampling.n", f"is {sampling.n}; 1 to {MAX_SAMPLES} are allowed")
    violations.check(
        math.isfinite(sampling.temperature) and 0 <= sampling.temperature <= MAX_TEMPERATURE,
        "sampling.temperature",
        f"is {sampling.temperature}; 0 to {MAX_TEMPERATURE:g} are allowed",
    )
    violations.check(0 < sampling.top_p <= 1, "sampling.top_p", f"is {sampling.top_p}; above 0 and up to 1 is allowed")
    violations.check(
        1 <= sampling.max_new_tokens <= MAX_NEW_TOKENS,
        "sampling.max_new_tokens",
        f"is {sampling.max_new_tokens}; 1 to {MAX_NEW_TOKENS:,} are allowed",
    )
    _check_strings(sampling.stop, "sampling.stop", violations)


def _check_post_processing(options: PostProcessing, count: int, violations: Violations) -> None:
    budget = options.resample_budget
    violations.check(
        budget == 0 or count <= budget <= MAX_RESAMPLE_BUDGET,
        "post_processing.resample_budget",
        f"is {budget}; 0, or from sampling.n ({count}) to {MAX_RESAMPLE_BUDGET:,} in all are allowed",
    )
    _check_strings(options.forbidden_substrings, "post_processing.forbidden_substrings", violations)


def _check_strings(strings: Sequence[str], field: str, violations: Violations) -> None:
    violations.check(len(strings) <= MAX_STRINGS, field, f"holds {len(strings)} strings; at most {MAX_STRINGS}")
    for index, text in enumerate(strings[:MAX_STRINGS]):
        violations.check(1 <= len(text) <= MAX_STRING, f"{field}[{index}]", f"must have 1 to {MAX_STRING:,} characters")


def _choose_template(
    choice: TemplateChoice,
    shipped: Mapping[str, PromptTemplate],
    default: str,
    available: frozenset[str],
    violations: Violations,
) -> PromptTemplate | None:
    template = _find_template(choice, shipped, default, violations)
    if template is None:
        return None
    unavailable = sorted(template.fields - available)
    violations.check(
        not unavailable,
        "template.text",
        f"template {template.name!r} wants {unavailable}, but this call has {sorted(available)}",
    )
    return template


def _find_template(
    choice: TemplateChoice, shipped: Mapping[str, PromptTemplate], default: str, violations: Violations
) -> PromptTemplate | None:
    if not choice.text:
        name = choice.name or default
        violations.check(
            name in shipped,
            "template.name",
            f"there is no shipped template {name!r}; shipped are {', '.join(sorted(shipped))}; or send its text",
        )
        return shipped.get(name)
    violations.check(len(choice.text) <= MAX_TEXT, "template.text", f"is longer than {MAX_TEXT:,} characters")
    try:
        return PromptTemplate(choice.name or "unnamed", choice.text, choice.target_prefix)
    except InvalidArgumentError as error:
        violations.add(error.violations)
        return None


def _check_name(name: str, field: str, violations: Violations) -> None:
    violations.check(
        re.fullmatch(NAME_PATTERN, name) is not None,
        field,
        f"{name[:200]!r} is no name: 1 to 200 letters, digits, '.', '_', '-' or '/', the first a letter or digit",
    )


def _check_request_id(request_id: str, violations: Violations) -> None:
    try:
        valid = not request_id or bool(uuid.UUID(request_id))
    except ValueError:
        valid = False
    violations.check(valid, "request_id", "must be a UUID")
