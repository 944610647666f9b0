"""Which judges there are, and how the judges of a request become judges that can be asked; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ilf_common.errors import FieldViolation, InvalidArgumentError, NotFoundError
from ilf_common.templates import PromptTemplate
from services.ranking.models import Judge, JudgeRequest, TemplateRequest

MAX_JUDGES = 32
MAX_SPELLINGS = 32
MAX_TEMPLATE_CHARACTERS = 200_000
RANK_FIELDS = frozenset({"context", "initial_output", "feedback", "candidate"})
COMPARE_FIELDS = frozenset({"context", "output_a", "output_b"})

Templates = Mapping[str, PromptTemplate]


@dataclass(frozen=True)
class Purpose:
    """What judges are wanted for.

    Attributes:
        allowed: Placeholders that their templates may have.
        required: Placeholders without which the answer could not depend on what is judged.
    """

    allowed: frozenset[str]
    required: frozenset[str]


RANK = Purpose(RANK_FIELDS, frozenset({"candidate"}))
COMPARE = Purpose(COMPARE_FIELDS, frozenset({"output_a", "output_b"}))


@dataclass(frozen=True)
class JudgeCatalog:
    """The server's judge models, its own judges, and the templates that it ships.

    Attributes:
        models: Names of the judge models; the first is the default.
        template_sets: Judge templates by set ("prefix", "paper") and name.
        comparison_templates: Templates of comparison judges by name.
        judges: The server's own judges; empty means one per template of the set, all on the default model.
        default_set: The set of requests that name none.
    """

    models: tuple[str, ...]
    template_sets: Mapping[str, Templates]
    comparison_templates: Templates
    judges: tuple[JudgeRequest, ...] = ()
    default_set: str = field(default="prefix")

    def for_ranking(self, requested: Sequence[JudgeRequest], template_set: str, path: str) -> tuple[Judge, ...]:
        """The judges of a request, or the server's own where it names none.

        Args:
            requested: Judges as the caller sent them.
            template_set: Name of a shipped set; empty means the default.
            path: Path of the ranker in the request, for errors.

        Raises:
            InvalidArgumentError: Unknown set, double names, templates without answers or with wrong placeholders.
            NotFoundError: JUDGE_NOT_FOUND or MODEL_NOT_FOUND.
        """
        name = template_set or self.default_set
        if name not in self.template_sets:
            known = ", ".join(sorted(self.template_sets))
            raise InvalidArgumentError.of(f"{path}.template_set", f"there is no set {name!r}; known are {known}")
        templates = self.template_sets[name]
        own = self.judges or tuple(JudgeRequest(template) for template in templates)
        return self._resolve(requested, own, templates, RANK, f"{path}.judges")

    def for_comparison(self, requested: Sequence[JudgeRequest], path: str) -> tuple[Judge, ...]:
        """As `for_ranking`, for pairs of outputs."""
        own = tuple(JudgeRequest(template) for template in self.comparison_templates)
        return self._resolve(requested, own, self.comparison_templates, COMPARE, path)

    def _resolve(
        self,
        requested: Sequence[JudgeRequest],
        own: Sequence[JudgeRequest],
        templates: Templates,
        purpose: Purpose,
        path: str,
    ) -> tuple[Judge, ...]:
        violations = _names(requested, path)
        judges = []
        for index, request in enumerate(requested or own):
            judge, wrong = self._judge(request, own, templates, purpose, f"{path}[{index}]")
            violations += wrong
            if judge is not None:
                judges.append(judge)
        if violations:
            raise InvalidArgumentError(violations=violations)
        return tuple(judges)

    def _judge(
        self, request: JudgeRequest, own: Sequence[JudgeRequest], templates: Templates, purpose: Purpose, path: str
    ) -> tuple[Judge | None, list[FieldViolation]]:
        if request == JudgeRequest(request.name):
            request = _own_judge(request.name, own)
        model = self._model(request.model)
        try:
            template = _template(request, templates, f"{path}.template")
        except InvalidArgumentError as error:
            return None, [_at(violation, path) for violation in error.violations]
        wrong = _unfit(template, purpose, f"{path}.template")
        return Judge(request.name, model, template), wrong

    def _model(self, name: str) -> str:
        if name in self.models:
            return name
        if not name and self.models:
            return self.models[0]
        known = f"known are {', '.join(self.models)}" if self.models else "none is set up (setting `models`)"
        wanted = f"no judge model {name!r}" if name else "no judge model"
        raise NotFoundError(
            f"This server has {wanted}; {known}.",
            resource_type="judge model",
            resource_name=name,
            reason="MODEL_NOT_FOUND",
        )


def _names(requested: Sequence[JudgeRequest], path: str) -> list[FieldViolation]:
    violations = []
    if len(requested) > MAX_JUDGES:
        violations.append(FieldViolation(path, f"{len(requested)} judges; at most {MAX_JUDGES} are allowed"))
    seen: set[str] = set()
    for index, request in enumerate(requested):
        if not request.name.strip():
            violations.append(FieldViolation(f"{path}[{index}].name", "must not be empty"))
        elif request.name in seen:
            violations.append(FieldViolation(f"{path}[{index}].name", f"{request.name!r} is there twice"))
        seen.add(request.name)
    return violations


def _own_judge(name: str, own: Sequence[JudgeRequest]) -> JudgeRequest:
    found = next((judge for judge in own if judge.name == name), None)
    if found is None:
        known = ", ".join(judge.name for judge in own)
        raise NotFoundError(
            f"This server has no judge {name!r}; known are {known}. A judge of your own needs a template.",
            resource_type="judge",
            resource_name=name,
            reason="JUDGE_NOT_FOUND",
        )
    return found


def _template(request: JudgeRequest, templates: Templates, path: str) -> PromptTemplate:
    sent: TemplateRequest = request.template
    if sent.text:
        if len(sent.text) > MAX_TEMPLATE_CHARACTERS:
            raise InvalidArgumentError.of(
                f"{path}.text", f"{len(sent.text)} characters; at most {MAX_TEMPLATE_CHARACTERS} are allowed"
            )
        return PromptTemplate(
            sent.name or request.name, sent.text, sent.target_prefix, sent.positive_answers, sent.negative_answers
        )
    name = sent.name or request.name
    if name not in templates:
        known = ", ".join(sorted(templates))
        raise InvalidArgumentError.of(
            f"{path}.text", f"is empty, and no shipped template is called {name!r}; those are {known}"
        )
    return templates[name]


def _unfit(template: PromptTemplate, purpose: Purpose, path: str) -> list[FieldViolation]:
    violations = []
    if foreign := sorted(template.fields - purpose.allowed):
        violations.append(
            FieldViolation(f"{path}.text", f"placeholders {foreign} have no value here; {sorted(purpose.allowed)} have")
        )
    if missing := sorted(purpose.required - template.fields):
        violations.append(FieldViolation(f"{path}.text", f"lacks the placeholders {missing}"))
    sides = {"positive_answers": template.positive_answers, "negative_answers": template.negative_answers}
    for side, answers in sides.items():
        if not 1 <= len(answers) <= MAX_SPELLINGS:
            violations.append(
                FieldViolation(f"{path}.{side}", f"needs 1 to {MAX_SPELLINGS} spellings, has {len(answers)}")
            )
        elif not all(answer.strip() for answer in answers):
            violations.append(FieldViolation(f"{path}.{side}", "holds an empty spelling"))
    if common := sorted(set(template.positive_answers) & set(template.negative_answers)):
        violations.append(FieldViolation(f"{path}.negative_answers", f"{common} are positive answers too"))
    return violations


def _at(violation: FieldViolation, path: str) -> FieldViolation:
    """A shared helper names its field `template.…`; the caller needs the whole path."""
    if violation.field.startswith(path):
        return violation
    return FieldViolation(f"{path}.{violation.field}", violation.description)
