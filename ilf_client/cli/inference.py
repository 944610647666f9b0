"""`ilf refine`, `ilf generate`, `ilf rank` and `ilf compare`: one item from options, or many from a JSONL file."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

import click

from ilf_client.cli.failures import FAILED
from ilf_client.cli.options import Session, service_options
from ilf_client.cli.output import print_json, print_table
from ilf_client.models.inference import (
    CompareItem,
    GenerateItem,
    JudgeScore,
    Outcome,
    RankerSpec,
    RankItem,
    RefineItem,
    Sample,
    SamplingParams,
)
from ilf_common.errors import InvalidArgumentError

if TYPE_CHECKING:
    from ilf_common.templates import PromptTemplate

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")


def _text(ctx: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """`@path` is the content of a file, `-` the standard input."""
    if value is not None and value.startswith("@"):
        return Path(value[1:]).read_text(encoding="utf-8")
    return sys.stdin.read() if value == "-" else value


def text_option(name: str, help_text: str) -> Callable[[F], F]:
    """An option for a text, which may also be `@file` or `-`."""
    return click.option(name, callback=_text, metavar="TEXT|@FILE|-", help=help_text)


def _sampling_options(command: F) -> F:
    click.option("--template", metavar="FILE|NAME", help="Prompt template: a YAML file, or one the server ships.")(
        command
    )
    click.option("--stop", multiple=True, help="End a sample before this string.")(command)
    click.option("--seed", type=int, help="The same seed and call give the same samples.")(command)
    click.option("--max-new-tokens", type=int, help="Most new tokens of a sample.")(command)
    click.option("--top-p", type=float, help="Nucleus mass in (0, 1].")(command)
    click.option("--temperature", type=float, help="0 is greedy.")(command)
    return click.option("-n", type=int, help="Samples per item.")(command)


input_option = click.option(
    "--input",
    "source",
    type=click.File(encoding="utf-8"),
    metavar="FILE.jsonl|-",
    help="Many items: JSON lines with the options' names as keys, and `id`. Results are JSON lines.",
)


@click.command()
@click.option("--model", required=True, help="A model, a policy version or an alias.")
@text_option("--context", "What the output is about.")
@text_option("--initial-output", "The output that the feedback speaks of.")
@text_option("--feedback", "What is wrong with it.")
@input_option
@_sampling_options
@service_options
def refine(
    session: Session,
    model: str,
    context: str | None,
    initial_output: str | None,
    feedback: str | None,
    source: IO[str] | None,
    template: str | None,
    **sampling: Any,
) -> None:
    """Sample refinements of an output by feedback."""
    prompt, how = _template(template), SamplingParams(**sampling)
    with session.client() as client:
        if source is not None:
            items = _Items(source, RefineItem)
            _print_outcomes(
                items, client.batch_refine(model, items, sampling=how, template=prompt, timeout=session.timeout)
            )
            return
        c, x0, f = _required(context=context, initial_output=initial_output, feedback=feedback)
        result = client.refine(model, c, x0, f, sampling=how, template=prompt, timeout=session.timeout)
    session.show(result, lambda: _print_samples(result.refinements))


@click.command()
@click.option("--model", required=True, help="A model, a policy version or an alias.")
@text_option("--context", "What to write about.")
@input_option
@_sampling_options
@service_options
def generate(
    session: Session, model: str, context: str | None, source: IO[str] | None, template: str | None, **sampling: Any
) -> None:
    """Sample outputs for a context."""
    prompt, how = _template(template), SamplingParams(**sampling)
    with session.client() as client:
        if source is not None:
            items = _Items(source, GenerateItem)
            _print_outcomes(
                items, client.batch_generate(model, items, sampling=how, template=prompt, timeout=session.timeout)
            )
            return
        (c,) = _required(context=context)
        result = client.generate(model, c, sampling=how, template=prompt, timeout=session.timeout)
    session.show(result, lambda: _print_samples(result.outputs))


@click.command()
@text_option("--context", "What the candidates are about.")
@text_option("--initial-output", "The output that the feedback speaks of.")
@text_option("--feedback", "What the candidates should take in.")
@click.option("--candidate", "candidates", multiple=True, help="A text to score; give it once for each.")
@click.option("--ranker", default="instruct_rm", show_default=True, help="instruct_rm, embedding, length or random.")
@click.option("--template-set", default="", help="instruct_rm: prefix (default) or paper.")
@click.option("--seed", default=0, help="random: same seed, same order.")
@input_option
@service_options
def rank(
    session: Session,
    context: str | None,
    initial_output: str | None,
    feedback: str | None,
    candidates: Sequence[str],
    ranker: str,
    template_set: str,
    seed: int,
    source: IO[str] | None,
) -> None:
    """Score candidates and choose one."""
    spec = RankerSpec(name=ranker, template_set=template_set, seed=seed)
    with session.client() as client:
        if source is not None:
            items = _Items(source, RankItem)
            _print_outcomes(items, client.batch_rank(items, ranker=spec, timeout=session.timeout))
            return
        c, x0, f = _required(context=context, initial_output=initial_output, feedback=feedback)
        result = client.rank(c, x0, f, list(candidates), ranker=spec, timeout=session.timeout)

    def for_people() -> None:
        judges = [judge.judge for judge in result.scores[0].judge_scores] if result.scores else []
        print_table(
            ["", "score", "spread", *judges, "candidate"],
            [
                [
                    "*" if k == result.chosen_index else "",
                    score.score,
                    score.spread,
                    *(judge.score for judge in score.judge_scores),
                    text,
                ]
                for k, (score, text) in enumerate(zip(result.scores, candidates, strict=True))
            ],
        )

    session.show(result, for_people)


@click.command()
@text_option("--context", "What the outputs are about.")
@text_option("--a", "One output.")
@text_option("--b", "The other output.")
@input_option
@service_options
def compare(session: Session, context: str | None, a: str | None, b: str | None, source: IO[str] | None) -> None:
    """Say which of two outputs is better; judges see them in both orders."""
    with session.client() as client:
        if source is not None:
            items = _Items(source, CompareItem)
            _print_outcomes(items, client.batch_compare(items, timeout=session.timeout))
            return
        c, output_a, output_b = _required(context=context, a=a, b=b)
        result = client.compare(c, output_a, output_b, timeout=session.timeout)

    def for_people() -> None:
        better = "a tie" if result.probability_a == 0.5 else ("A" if result.probability_a > 0.5 else "B")
        click.echo(f"{better}  (p(A) = {result.probability_a:.3f}, position bias {result.position_bias:+.3f})")
        _print_judges(result.judge_scores)

    session.show(result, for_people)


class _Items(Iterator[T]):
    """Items of a JSONL file as they are asked for; a line that is none is reported, and the rest goes on."""

    def __init__(self, source: IO[str], kind: type[T]) -> None:
        self._lines = enumerate(source, start=1)
        self._kind = kind
        self.refused = 0

    def __next__(self) -> T:
        for number, line in self._lines:
            if line.strip():
                try:
                    return self._parse(line, number)
                except InvalidArgumentError as error:
                    self.refused += 1
                    print_json(Outcome(f"line {number}", error=error), line=True)
        raise StopIteration

    def _parse(self, line: str, number: int) -> T:
        from ilf_client.config import build

        try:
            row = json.loads(line)
        except ValueError as error:
            raise InvalidArgumentError.of(f"line {number}", "is not JSON") from error
        if isinstance(row, dict):
            row.setdefault("item_id", row.pop("id", f"row-{number}"))
        return build(self._kind, row, folder=Path())


def _print_outcomes(items: _Items[Any], outcomes: Iterator[Outcome[Any]]) -> None:
    failed = 0
    for outcome in outcomes:
        failed += outcome.error is not None
        print_json(outcome, line=True)
    if failed or items.refused:
        click.echo(f"{failed + items.refused} items failed; their lines say why", err=True)
        raise click.exceptions.Exit(FAILED)


def _print_samples(samples: Sequence[Sample]) -> None:
    for sample in samples:
        click.echo(sample.text)


def _print_judges(scores: Sequence[JudgeScore]) -> None:
    if scores:
        print_table(["judge", "score", "missing mass"], [[s.judge, s.score, s.missing_mass] for s in scores])


def _required(**texts: str | None) -> list[str]:
    missing = [f"--{name.replace('_', '-')}" for name, value in texts.items() if value is None]
    if missing:
        raise click.UsageError(f"give {', '.join(missing)}, or many items with --input")
    return [value for value in texts.values() if value is not None]


def _template(text: str | None) -> PromptTemplate | str | None:
    from ilf_common.templates import load_template

    if text is None:
        return None
    return load_template(Path(text)) if Path(text).is_file() else text
