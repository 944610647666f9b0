"""`ilf jobs`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from ilf_client.cli.failures import FAILED
from ilf_client.cli.options import Session, service_options
from ilf_client.cli.output import print_json, print_table
from ilf_client.humanize import duration, since
from ilf_client.models.jobs import FinetuneJob, FinetuneSpec, JobState


@click.group()
def jobs() -> None:
    """Finetune jobs."""


@jobs.command("list")
@service_options
def list_jobs(session: Session) -> None:
    """All jobs, newest last."""
    with session.client() as client:
        found = list(client.jobs.list(timeout=session.timeout))
    session.show(
        found,
        lambda: print_table(
            ["name", "kind", "state", "step", "loss", "age", "output"],
            [
                [
                    job.name,
                    job.spec.kind,
                    job.state,
                    _steps(job),
                    job.progress.loss or "",
                    since(job.create_time),
                    job.spec.output_uri,
                ]
                for job in found
            ],
        ),
    )


@jobs.command("show")
@click.argument("job")
@service_options
def show_job(session: Session, job: str) -> None:
    """One job with its progress, its conditions and its error."""
    with session.client() as client:
        found = client.jobs.get(job, timeout=session.timeout)
    session.show(found, lambda: _describe(found))


@jobs.command("watch")
@click.argument("job")
@service_options
def watch_job(session: Session, job: str) -> None:
    """Follow a job to its end; exit code 1 when it does not succeed."""
    with session.client() as client:
        last = None
        for last in client.jobs.watch(job, timeout=session.timeout):
            if session.json:
                print_json(last, line=True)
            else:
                click.echo(_progress_line(last))
    if last is None or last.state is not JobState.SUCCEEDED:
        if last is not None and last.error is not None:
            click.echo(f"{last.name}: {last.error.message} [{last.error.reason}]", err=True)
        raise click.exceptions.Exit(FAILED)


@jobs.command("cancel")
@click.argument("job")
@service_options
def cancel_job(session: Session, job: str) -> None:
    """End a job."""
    with session.client() as client:
        found = client.jobs.cancel(job, timeout=session.timeout)
    session.show(found, lambda: click.echo(f"{found.name} is {found.state.value}"))


@jobs.command("create")
@click.argument("config", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--set", "overrides", multiple=True, metavar="KEY.KEY=VALUE", help="Override a value of the file.")
@click.option("--dry-run", is_flag=True, help="Print the resolved config and start nothing.")
@service_options
def create_job(session: Session, config: Path, overrides: Sequence[str], dry_run: bool) -> None:
    """Start a job from a YAML file whose keys are the fields of FinetuneSpec."""
    import yaml

    from ilf_client.config import apply_overrides, build, plain, read_yaml

    spec = build(FinetuneSpec, apply_overrides(read_yaml(config), overrides), folder=config.parent)
    if dry_run:
        session.show(plain(spec), lambda: click.echo(yaml.safe_dump(plain(spec), sort_keys=False), nl=False))
        return
    with session.client() as client:
        job = client.jobs.create(spec, timeout=session.timeout)
    session.show(
        job, lambda: click.echo(f"{job.name} is {job.state.value}; follow it with `ilf jobs watch {job.name}`")
    )


def _steps(job: FinetuneJob) -> str:
    return f"{job.progress.step}/{job.progress.max_steps}" if job.progress.max_steps else ""


def _progress_line(job: FinetuneJob) -> str:
    parts = [job.name, job.state.value, _steps(job)]
    if job.progress.step:
        parts.append(f"loss {job.progress.loss:.4f}")
    if job.progress.tokens_per_second:
        parts.append(f"{job.progress.tokens_per_second:,.0f} tokens/s")
    if job.progress.remaining is not None and not job.state.is_final:
        parts.append(f"{duration(job.progress.remaining.total_seconds())} left")
    if job.conditions and not job.state.is_final:
        newest = job.conditions[-1]
        parts.append(f"({newest.reason or newest.type}{': ' + newest.message if newest.message else ''})")
    return "  ".join(part for part in parts if part)


def _describe(job: FinetuneJob) -> None:
    click.echo(_progress_line(job))
    facts = {
        "base model": job.spec.base_model,
        "dataset": job.spec.dataset_uri,
        "output": job.spec.output_uri,
        "attempts": str(job.attempts),
        "checkpoint": job.checkpoint_digest,
    }
    for name, value in facts.items():
        if value:
            click.echo(f"  {name:<11} {value}")
    for name, number in job.progress.metrics.items():
        click.echo(f"  {name:<11} {number:.5g}")
    if job.conditions:
        print_table(
            ["condition", "reason", "since", "message"],
            [
                [condition.type, condition.reason, since(condition.since), condition.message]
                for condition in job.conditions
            ],
        )
    if job.error is not None:
        click.echo(f"  error       {job.error.message} [{job.error.reason}]")
