"""A run's spec at the door: defaults filled in, every wrong field named at once."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace

from ilf_common.errors import FailedPreconditionError, FieldViolation, InvalidArgumentError
from services.orchestrator.models import (
    REWARD_MODEL,
    BestOfNStage,
    FeedbackSource,
    NothingToChange,
    OutputSource,
    PeopleSpec,
    RunSpec,
    Sampling,
    Schedule,
    Seconds,
    SelectionMethod,
    Target,
)

RUN_ID = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
RANKERS = ("instruct_rm", "embedding", "length", "random", REWARD_MODEL)
MAX_REWARD_MODELS = 16
MAX_SHARD_ROWS = 4096
MAX_GUIDELINES = 20_000
MAX_PEOPLE = 100
NOTHING_TO_CHANGE = "Nothing to change."
"""What people say who want no change, where a run names no phrase for it."""
_ADDRESS = re.compile(r"[^\s/:]+:\d{1,5}|\[[0-9a-fA-F:]+\]:\d{1,5}")
_DEFAULT_LEASE = Seconds(15 * 60)


def resolve(spec: RunSpec) -> RunSpec:
    """The spec with all defaults of the orchestrator filled in.

    Raises:
        InvalidArgumentError: Fields are wrong; all are named.
        FailedPreconditionError: FEEDBACK_NOT_FOR_OUTPUT.
    """
    resolved = _with_defaults(spec)
    violations = _violations(resolved)
    if violations:
        raise InvalidArgumentError(violations=violations)
    if resolved.feedback.source is FeedbackSource.COLUMN and resolved.generate.source is not OutputSource.COLUMN:
        raise FailedPreconditionError(
            "The feedback of the dataset was written for the dataset's initial outputs, but this run generates new "
            "ones. Set generate.source to COLUMN as well, or take the feedback from another source.",
            reason="FEEDBACK_NOT_FOR_OUTPUT",
        )
    return resolved


def _with_defaults(spec: RunSpec) -> RunSpec:
    feedback, select, ranker = spec.feedback, spec.select, spec.rank.ranker
    return replace(
        spec,
        iterations=spec.iterations or 1,
        schedule=Schedule.UNION if spec.schedule is Schedule.UNSPECIFIED else spec.schedule,
        shard_rows=spec.shard_rows or 256,
        max_bad_row_share=0.05 if spec.max_bad_row_share is None else spec.max_bad_row_share,
        generate=replace(
            spec.generate,
            source=OutputSource.POLICY if spec.generate.source is OutputSource.UNSPECIFIED else spec.generate.source,
            sampling=_sampling(spec.generate.sampling, n=1),
        ),
        feedback=replace(
            feedback,
            sampling=_sampling(feedback.sampling, n=1),
            annotators_per_item=feedback.annotators_per_item or 1,
            lease=_DEFAULT_LEASE if feedback.lease is None else feedback.lease,
            nothing_to_change=feedback.nothing_to_change
            or ((NOTHING_TO_CHANGE,) if feedback.source is FeedbackSource.PEOPLE else ()),
            on_nothing_to_change=NothingToChange.KEEP
            if feedback.on_nothing_to_change is NothingToChange.UNSPECIFIED
            else feedback.on_nothing_to_change,
        ),
        refine=replace(spec.refine, sampling=_sampling(spec.refine.sampling, n=5)),
        rank=replace(spec.rank, ranker=replace(ranker, name=ranker.name or "instruct_rm")),
        select=replace(
            select,
            method=SelectionMethod.ARGMAX if select.method is SelectionMethod.UNSPECIFIED else select.method,
        ),
        finetune=replace(
            spec.finetune,
            target=Target.REFINEMENT if spec.finetune.target is Target.UNSPECIFIED else spec.finetune.target,
        ),
        evaluate=replace(
            spec.evaluate,
            sampling=_sampling(spec.evaluate.sampling, n=1, temperature=0.0),
            best_of_n=_best_of_n(spec.evaluate.best_of_n),
        ),
    )


def _best_of_n(stage: BestOfNStage) -> BestOfNStage:
    if not stage.n:
        return stage
    sampling = stage.sampling
    return replace(stage, sampling=_sampling(replace(sampling, n=sampling.n or stage.n), n=stage.n))


def _sampling(sampling: Sampling, *, n: int, temperature: float = 1.0) -> Sampling:
    return replace(
        sampling,
        n=sampling.n or n,
        temperature=temperature if sampling.temperature is None else sampling.temperature,
        top_p=0.95 if sampling.top_p is None else sampling.top_p,
        max_new_tokens=sampling.max_new_tokens or 48,
    )


class _Violations(list[FieldViolation]):
    def check(self, good: bool, field: str, description: str) -> None:
        if not good:
            self.append(FieldViolation(f"spec.{field}", description))


def _violations(spec: RunSpec) -> list[FieldViolation]:
    found = _Violations()
    _check_run(spec, found)
    _check_feedback(spec, found)
    _check_people(spec.people, found)
    _check_select(spec, found)
    _check_evaluate(spec, found)
    for field, sampling in (
        ("generate.sampling", spec.generate.sampling),
        ("feedback.sampling", spec.feedback.sampling),
        ("refine.sampling", spec.refine.sampling),
        ("evaluate.sampling", spec.evaluate.sampling),
    ):
        _check_sampling(field, sampling, found)
    for field, sampling in (
        ("generate.sampling.n", spec.generate.sampling),
        ("feedback.sampling.n", spec.feedback.sampling),
        ("evaluate.sampling.n", spec.evaluate.sampling),
    ):
        found.check(sampling.n == 1, field, f"must be 1 (one text an item), is {sampling.n}")
    return found


def _check_run(spec: RunSpec, found: _Violations) -> None:
    share = spec.max_bad_row_share or 0.0
    found.check(bool(spec.dataset.train_uri), "dataset.train_uri", "is missing")
    found.check(1 <= spec.iterations <= 1000, "iterations", f"must be 1 to 1000, is {spec.iterations}")
    found.check(
        1 <= spec.shard_rows <= MAX_SHARD_ROWS, "shard_rows", f"must be 1 to {MAX_SHARD_ROWS}, is {spec.shard_rows}"
    )
    found.check(0.0 <= share <= 1.0, "max_bad_row_share", f"must be 0 to 1, is {share}")
    found.check(
        spec.contexts_per_iteration >= 0,
        "contexts_per_iteration",
        f"must not be negative, is {spec.contexts_per_iteration}",
    )
    found.check(spec.preview_rows >= 0, "preview_rows", f"must not be negative, is {spec.preview_rows}")
    found.check(bool(spec.policy), "policy", "is missing; name a model of the refinement service")
    template = spec.generate.template
    found.check(
        bool(spec.preview_rows) or (template is not None and "{context}" in template.text),
        "generate.template.text",
        "must hold the policy's prompt with {context}; the trainer and the server have to use the same one",
    )
    found.check(bool(spec.refine.refiner), "refine.refiner", "is missing; name a model of the refinement service")
    ranker = spec.rank.ranker.name
    found.check(ranker in RANKERS, "rank.ranker.name", f"must be one of {', '.join(RANKERS)}, is {ranker!r}")
    names = [judge.name for judge in spec.rank.ranker.judges]
    found.check(len(set(names)) == len(names), "rank.ranker.judges", "names must be unique")
    _check_reward_models(spec, found)


def _check_reward_models(spec: RunSpec, found: _Violations) -> None:
    models, field = spec.rank.reward_models, "rank.reward_models"
    if spec.rank.ranker.name != REWARD_MODEL:
        found.check(not models, field, f"are only for the ranker {REWARD_MODEL}, not for {spec.rank.ranker.name!r}")
        return
    _check_names(field, models, found)


def _check_feedback(spec: RunSpec, found: _Violations) -> None:
    feedback = spec.feedback
    found.check(
        feedback.source is not FeedbackSource.UNSPECIFIED,
        "feedback.source",
        "is missing; choose COLUMN, PLUGIN, CRITIC or PEOPLE",
    )
    if feedback.source is FeedbackSource.CRITIC:
        found.check(bool(feedback.critic), "feedback.critic", "is missing; name a model of the refinement service")
        found.check(feedback.template is not None, "feedback.template", "is missing; a critic needs its prompt")
    if feedback.source is FeedbackSource.PLUGIN:
        found.check(
            bool(_ADDRESS.fullmatch(feedback.plugin_address)),
            "feedback.plugin_address",
            f"must be host:port, is {feedback.plugin_address!r}",
        )
    found.check(
        1 <= feedback.annotators_per_item <= MAX_PEOPLE,
        "feedback.annotators_per_item",
        f"must be 1 to {MAX_PEOPLE}, is {feedback.annotators_per_item}",
    )
    found.check((feedback.lease or 0) > 0, "feedback.lease", "must be longer than nothing")


def _check_people(people: PeopleSpec, found: _Violations) -> None:
    length = len(people.guidelines)
    found.check(
        length <= MAX_GUIDELINES, "people.guidelines", f"has {length} characters; at most {MAX_GUIDELINES} are allowed"
    )
    found.check(
        1 <= people.comparisons_per_pair <= MAX_PEOPLE,
        "people.comparisons_per_pair",
        f"must be 1 to {MAX_PEOPLE}, is {people.comparisons_per_pair}",
    )
    found.check(
        1 <= people.reviews_per_item <= MAX_PEOPLE,
        "people.reviews_per_item",
        f"must be 1 to {MAX_PEOPLE}, is {people.reviews_per_item}",
    )


def _check_select(spec: RunSpec, found: _Violations) -> None:
    select, samples = spec.select, spec.refine.sampling.n
    if select.method is SelectionMethod.SOFTMAX:
        found.check(
            math.isfinite(select.beta) and select.beta >= 0,
            "select.beta",
            f"must be finite and not negative, is {select.beta}; use ARGMAX for beta towards infinity",
        )
    if select.method is SelectionMethod.TOP_K:
        found.check(1 <= select.k <= samples, "select.k", f"must be 1 to refine.sampling.n ({samples}), is {select.k}")


def _check_evaluate(spec: RunSpec, found: _Violations) -> None:
    evaluate = spec.evaluate
    if evaluate.plugin_address:
        found.check(
            bool(_ADDRESS.fullmatch(evaluate.plugin_address)),
            "evaluate.plugin_address",
            f"must be host:port, is {evaluate.plugin_address!r}",
        )
    _check_best_of_n(evaluate.best_of_n, found)
    if not evaluate.disabled and not spec.preview_rows:
        found.check(
            bool(spec.dataset.test_uri),
            "dataset.test_uri",
            "is missing; evaluation needs contexts that no stage sees. Name some, or set evaluate.disabled",
        )


def _check_best_of_n(stage: BestOfNStage, found: _Violations) -> None:
    field = "evaluate.best_of_n"
    if not stage.n:
        found.check(not stage.reward_models, f"{field}.n", "is missing beside reward_models")
        return
    found.check(1 <= stage.n <= 1024, f"{field}.n", f"must be 1 to 1024, is {stage.n}")
    found.check(
        stage.sampling.n == stage.n,
        f"{field}.sampling.n",
        f"is {stage.sampling.n} beside {field}.n {stage.n}; unset it",
    )
    _check_names(f"{field}.reward_models", stage.reward_models, found)
    _check_sampling(f"{field}.sampling", stage.sampling, found)


def _check_names(field: str, models: Sequence[str], found: _Violations) -> None:
    found.check(
        1 <= len(models) <= MAX_REWARD_MODELS and all(models),
        field,
        f"must name 1 to {MAX_REWARD_MODELS} models of the reward service, names {len(models)}",
    )
    found.check(len(set(models)) == len(models), field, "names must be unique")


def _check_sampling(field: str, sampling: Sampling, found: _Violations) -> None:
    temperature, top_p = sampling.temperature or 0.0, sampling.top_p or 0.0
    found.check(1 <= sampling.n <= 1024, f"{field}.n", f"must be 1 to 1024, is {sampling.n}")
    found.check(
        math.isfinite(temperature) and 0.0 <= temperature <= 10.0,
        f"{field}.temperature",
        f"must be finite and 0 to 10, is {temperature}",
    )
    found.check(0.0 < top_p <= 1.0, f"{field}.top_p", f"must be above 0 and at most 1, is {top_p}")
    found.check(
        1 <= sampling.max_new_tokens <= 32768,
        f"{field}.max_new_tokens",
        f"must be 1 to 32768, is {sampling.max_new_tokens}",
    )


def run_id_of(name: str, *, field: str = "name") -> str:
    """The id in a run's name.

    Raises:
        InvalidArgumentError: The name is of another form.
    """
    run_id = name.removeprefix("runs/")
    if run_id == name or not RUN_ID.fullmatch(run_id):
        raise InvalidArgumentError.of(field, f"must be runs/<id>, is {name!r}")
    return run_id
