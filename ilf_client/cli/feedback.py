"""`ilf feedback`: people answer a run's tasks in the terminal; how far they agree; answers from elsewhere."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ilf_client.cli.options import Session, service_options

if TYPE_CHECKING:
    from ilf_client.models.tasks import AnnotationAgreement, LabelAgreement


class _AnswerByDefault(click.Group):
    """`ilf feedback RUN` is `ilf feedback answer RUN`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Puts the default subcommand where none is named."""
        if not args or (args[0] not in self.commands and args[0] not in ctx.help_option_names):
            args = ["answer", *args]
        return super().parse_args(ctx, args)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """What is no subcommand is the name of a run."""
        return super().get_command(ctx, cmd_name) or self.commands["answer"]


@click.group(cls=_AnswerByDefault)
def feedback() -> None:
    """Answer the tasks of a run: feedback, comparisons (--compare) or reviews (--review).

    `ilf feedback RUN` is short for `ilf feedback answer RUN`.
    """


@feedback.command("answer")
@click.argument("run", default="-")
@click.option("--annotator", default=getpass.getuser, show_default="your user name", help="Who you are.")
@click.option("--compare", is_flag=True, help="Compare two outputs instead: fills the reward model's data.")
@click.option("--review", is_flag=True, help="Say whether refinements incorporate the feedback: calibrates the judges.")
@service_options
def answer(session: Session, run: str, annotator: str, compare: bool, review: bool) -> None:
    r"""Answer the tasks of RUN, or of all runs.

    Type the feedback in a line; `\` at its end goes on in the next one. /skip leaves the item to others,
    /edit changes the previous answer, /quit ends (what you did is kept).
    """
    from ilf_client.cli.desks import ComparisonDesk, FeedbackDesk, ReviewDesk

    if compare and review:
        raise click.UsageError("choose --compare or --review, not both")
    desk = ComparisonDesk if compare else ReviewDesk if review else FeedbackDesk
    with session.client() as client:
        done = desk(client, run, annotator).work()
    session.show({"answered": done}, lambda: click.echo(f"{done} answered. Thank you."))


@feedback.command("agreement")
@click.argument("run", default="-")
@service_options
def agreement(session: Session, run: str) -> None:
    """Show how far people agree on the comparisons and reviews of RUN, or of all runs, that several have done.

    alpha is Krippendorff's for nominal labels: 1 is perfect agreement, 0 what chance would give.
    """
    with session.client() as client:
        found = client.answers.agreement(run=run, timeout=session.timeout)
    session.show(found, lambda: _print_agreement(found))


@feedback.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("run")
@service_options
def import_answers(session: Session, file: Path, run: str) -> None:
    """Answer the open feedback tasks of RUN with the feedback in FILE.

    FILE is what `ilf runs export RUN --kind open` wrote (.jsonl, .csv), with annotator and feedback filled in; or what
    `--kind argilla` wrote (.json), annotated there and saved by Dataset.records.to_json.
    """
    from ilf_client.answer_files import read_answers, submit_answers

    given = read_answers(file.name, file.read_bytes())
    with session.client() as client:
        imported = submit_answers(client, run, given)
    session.show(imported, lambda: click.echo(f"{imported.taken} answered, {imported.left} without an open task."))


def _print_agreement(found: AnnotationAgreement) -> None:
    for title, labels in (("comparisons", found.comparison), ("reviews", found.review)):
        click.echo(f"{title}: {_summary(labels)}")
        for one in labels.by_annotator:
            click.echo(f"  {one.annotator}: agrees with {one.share:.0%} of {one.labels} labels of others")


def _summary(labels: LabelAgreement) -> str:
    if not labels.items:
        return "nothing was labelled by two people (people.comparisons_per_pair, people.reviews_per_item in the run)"
    alpha = "undefined, as all labels are the same" if labels.alpha is None else f"{labels.alpha:.3f}"
    return f"alpha {alpha}, {labels.items} items, {labels.annotators} annotators"
