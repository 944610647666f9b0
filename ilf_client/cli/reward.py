"""`ilf reward`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ilf_client.cli.inference import text_option
from ilf_client.cli.options import Session, service_options
from ilf_client.cli.output import print_table
from ilf_client.humanize import since

if TYPE_CHECKING:
    from ilf_client.models.reward import RewardModel
    from ilf_client.sync import Client
    from ilf_common.rewards.report import RewardReport

F = TypeVar("F", bound=Callable[..., Any])
_LOSSES = ("bradley_terry", "yes_no", "a_b")


def _save_option(command: F) -> F:
    return click.option(
        "--save",
        type=click.Path(file_okay=False, path_type=Path),
        metavar="FOLDER",
        help="Write report.json and reliability.png there.",
    )(command)


def _models_option(command: F) -> F:
    return click.option(
        "--model", "models", required=True, multiple=True, help="A loaded reward model; several answer together."
    )(command)


@click.group()
def reward() -> None:
    """Reward models: train, load and measure them, and ask them."""


@reward.command("train")
@click.argument("base_model")
@click.argument("dataset")
@click.argument("output_uri")
@click.option("--loss", type=click.Choice(_LOSSES), default=_LOSSES[0], show_default=True, help="What it learns.")
@click.option("--template", metavar="FILE", help="The question of yes_no and a_b. Default: the shipped one.")
@click.option("--held-out", default="", metavar="FILE|URI", help="Comparisons that it is only measured on.")
@click.option("--held-out-share", default=0.0, help="Or this share of DATASET's contexts, at most 0.5.")
@click.option("--slice-column", default="", help="Column whose values get a line each in the report.")
@click.option("--lora", is_flag=True, help="Train an adapter, and merge it.")
@click.option("--learning-rate", default=0.0, help="Peak. Default: the finetune service's.")
@click.option("--epochs", default=0.0, help="Passes over the comparisons. Default: 1.")
@click.option("--batch-size", default=0, help="Comparisons per optimizer step. Default: 8.")
@click.option("--max-length", default=0, help="Longest sequence in tokens. Default: the model's window, at most 2048.")
@click.option("--seed", default=0, help="Of everything random.")
@service_options
def train_model(
    session: Session,
    base_model: str,
    dataset: str,
    output_uri: str,
    loss: str,
    template: str | None,
    held_out: str,
    held_out_share: float,
    slice_column: str,
    **hyperparameters: Any,
) -> None:
    """Start training BASE_MODEL on the comparisons of DATASET, for OUTPUT_URI of the artifact store.

    DATASET is a file here or a URI of the store: prompt, chosen, rejected and optionally margin, or SLF5K's fields.

    Example: ilf reward train base pairs.jsonl rewards/one --held-out-share 0.1
    """
    from ilf_client.models.jobs import RewardLoss, RewardOptions
    from ilf_common.templates import load_template

    question = load_template(Path(template)) if template else None
    with session.client() as client:
        options = RewardOptions(RewardLoss(loss), _in_store(client, held_out), held_out_share, slice_column)
        job = client.reward.train(
            base_model,
            _in_store(client, dataset),
            output_uri,
            options=options,
            template=question,
            timeout=session.timeout,
            **hyperparameters,
        )
    follow = f"follow it with `ilf jobs watch {job}`, then serve it with `ilf reward load NAME {output_uri}`"
    session.show({"job": job, "output_uri": output_uri}, lambda: click.echo(f"{job}; {follow}"))


@reward.command("load")
@click.argument("name")
@click.argument("uri")
@service_options
def load_model(session: Session, name: str, uri: str) -> None:
    """Serve the reward model at URI of the artifact store under NAME."""
    with session.client() as client:
        model = client.reward.load(name, uri, timeout=session.timeout)
    session.show(model, lambda: click.echo(f"{model.name} is loaded ({model.loss.value}, {model.digest[:12]})"))


@reward.command("unload")
@click.argument("name")
@service_options
def unload_model(session: Session, name: str) -> None:
    """Take a reward model out of service once its calls are done."""
    with session.client() as client:
        client.reward.unload(name, timeout=session.timeout)
    session.show({"name": name, "state": "unloaded"}, lambda: click.echo(f"{name} is unloaded"))


@reward.command("list")
@service_options
def list_models(session: Session) -> None:
    """Loaded reward models."""
    with session.client() as client:
        found = list(client.reward.list(timeout=session.timeout))
    session.show(
        [_facts(model) for model in found],
        lambda: print_table(
            ["name", "loss", "held-out accuracy", "temperature", "loaded", "digest", "uri"],
            [
                [
                    m.name,
                    m.loss,
                    m.held_out.accuracy.value if m.held_out else None,
                    m.temperature,
                    since(m.load_time),
                    m.digest[:12],
                    m.uri,
                ]
                for m in found
            ],
        ),
    )


@reward.command("show")
@click.argument("name")
@_save_option
@service_options
def show_model(session: Session, name: str, save: Path | None) -> None:
    """One reward model, and what it was worth on held-out comparisons at the end of its training."""
    with session.client() as client:
        model = client.reward.get(name, timeout=session.timeout)

    def for_people() -> None:
        click.echo(f"{model.name}: {model.loss.value}, {model.uri} ({model.digest[:12]})")
        if model.held_out is None:
            click.echo("nothing was held out when it was trained; measure it with `ilf reward evaluate`")
        else:
            _print_report(model.held_out)

    if save is not None and model.held_out is None:
        raise click.UsageError(f"nothing was held out when {name} was trained, so there is no report to save")
    session.show(_facts(model), for_people)
    if model.held_out is not None:
        _save(model.held_out, save)


@reward.command("evaluate")
@click.argument("dataset")
@_models_option
@click.option("--slice-column", default="", help="Column whose values get a line each.")
@_save_option
@service_options
def evaluate_models(
    session: Session, dataset: str, models: Sequence[str], slice_column: str, save: Path | None
) -> None:
    """Measure reward models on the comparisons of DATASET, a file here or a URI of the store.

    Comparisons of contexts that a model was trained on are dropped and counted.

    Example: ilf reward evaluate test.jsonl --model rm --save report
    """
    from ilf_common.rewards.report import to_json

    with session.client() as client:
        report = client.reward.evaluate(
            models, _in_store(client, dataset), slice_column=slice_column, timeout=session.timeout
        )
    session.show(to_json(report), lambda: _print_report(report))
    _save(report, save)


@reward.command("score")
@_models_option
@text_option("--context", "What the output is about.")
@text_option("--text", "The output to score.")
@click.option("--normalize", is_flag=True, help="In standard deviations from the mean; needed with several models.")
@service_options
def score_output(
    session: Session, models: Sequence[str], context: str | None, text: str | None, normalize: bool
) -> None:
    """The reward of one output."""
    if context is None or text is None:
        raise click.UsageError("give --context and --text")
    with session.client() as client:
        score = client.reward.score(models, context, text, normalize=normalize, timeout=session.timeout)
    spread = f"  (spread {score.spread:.4g})" if len(models) > 1 else ""
    session.show(score, lambda: click.echo(f"{score.reward:.6g}{spread}"))


@reward.command("compare")
@_models_option
@text_option("--context", "What the outputs are about.")
@text_option("--a", "One output.")
@text_option("--b", "The other output.")
@service_options
def compare_outputs(session: Session, models: Sequence[str], context: str | None, a: str | None, b: str | None) -> None:
    """Say which of two outputs is better."""
    if context is None or a is None or b is None:
        raise click.UsageError("give --context, --a and --b")
    with session.client() as client:
        found = client.reward.compare(models, context, a, b, timeout=session.timeout)
    better = "a tie" if found.probability_a == 0.5 else ("A" if found.probability_a > 0.5 else "B")
    session.show(found, lambda: click.echo(f"{better}  (p(A) = {found.probability_a:.3f})"))


def _in_store(client: Client, dataset: str) -> str:
    """The URI of a dataset; a file of this machine is sent first."""
    return client.data.push(Path(dataset)).uri if dataset and Path(dataset).is_file() else dataset


def _facts(model: RewardModel) -> dict[str, Any]:
    """A model as JSON; the errors in its report may be infinite, for which JSON has no number."""
    from ilf_common.rewards.report import to_json

    return {**vars(model), "held_out": to_json(model.held_out) if model.held_out else None}


def _print_report(report: RewardReport) -> None:
    from ilf_client.report.reward_report import slice_rows, summary_rows

    for reason, count in report.dropped.items():
        click.echo(f"left out: {count} comparisons, {reason}")
    print_table(*summary_rows(report))
    if report.slices:
        click.echo()
        print_table(*slice_rows(report))


def _save(report: RewardReport, folder: Path | None) -> None:
    from ilf_client.report.reward_report import save_report

    if folder is not None:
        text, plot = save_report(report, folder)
        click.echo(f"wrote {text} and {plot}", err=True)
