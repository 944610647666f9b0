"""`ilf doctor`."""

from __future__ import annotations

from pathlib import Path

import click

from ilf_client.cli.failures import FAILED
from ilf_client.cli.options import Session, output_options
from ilf_client.cli.stack import state_option

_STYLES = {"ok": "green", "warning": "yellow", "problem": "red"}


@click.command()
@click.option(
    "--config", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="As for `ilf up`. Default: ilf.yaml."
)
@state_option
@output_options
def doctor(session: Session, config: Path | None, state_dir: Path) -> None:
    """Look at this machine, its packages, ports and services; exit code 1 when something must be mended."""
    from ilf_client.diagnosis import Verdict, diagnose

    findings = diagnose(config, state_dir)

    def for_people() -> None:
        for finding in findings:
            mark = click.style(f"{finding.verdict.value:<8}", fg=_STYLES[finding.verdict.value])
            click.echo(f"{mark} {finding.subject:<22} {finding.text}")
            if finding.mend:
                click.echo(f"{'':<31} -> {finding.mend}")

    session.show(findings, for_people)
    if any(finding.verdict is Verdict.PROBLEM for finding in findings):
        raise click.exceptions.Exit(FAILED)
