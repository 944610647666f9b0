"""The `ilf` command: its subcommands by name, each imported when it is called.

Exit codes: 0 done; 1 the run or job failed, or a fault; 2 wrong usage or input; 3 a service does not answer, is full or
too slow; 4 no such thing; 5 refused in the present state; 6 not allowed; 130 interrupted.
"""

from __future__ import annotations

from importlib import import_module

import click

from ilf_client.cli.failures import ReportingGroup

COMMANDS = {
    "up": ("stack:up", "Start the five services and the console on this machine."),
    "down": ("stack:down", "Stop them."),
    "status": ("stack:status", "Show what runs, where, and whether it is healthy."),
    "console": ("console:console", "Open the pages for annotators and engineers in a browser."),
    "demo": ("demo:demo", "Watch language feedback turn into a better model (word removal)."),
    "run": ("run:run", "Run the loop on your data."),
    "runs": ("runs:runs", "List, watch, cancel, resume, explain, report and export runs."),
    "data": ("data:data", "Bring datasets into the services' artifact store."),
    "pools": ("pools:pools", "Show how many replicas each pool wants and has, and why."),
    "policies": ("policies:policies", "List, load, promote and roll back policy versions."),
    "jobs": ("jobs:jobs", "List, watch, create and cancel finetune jobs."),
    "reward": ("reward:reward", "Train, load, measure and ask reward models."),
    "refine": ("inference:refine", "Refine an output by feedback."),
    "generate": ("inference:generate", "Generate outputs for a context."),
    "rank": ("inference:rank", "Score candidates and choose one."),
    "compare": ("inference:compare", "Say which of two outputs is better."),
    "eval": ("evaluate:evaluate", "Measure policies, references, pools and files against each other."),
    "best-of-n": ("best_of_n:best_of_n", "Sample N outputs for each context, score them, keep the best."),
    "judges": ("judges:judges", "Measure judges where it is known whether the feedback was incorporated."),
    "experiment": ("experiment:experiment", "Run the paper's studies, with tables, errors and plots."),
    "feedback": ("feedback:feedback", "Give feedback on a run's outputs, or compare them."),
    "plugin": ("plugin:plugin", "Serve a function of yours to the loop."),
    "connect": ("cluster:connect", "Reach the services of a Kubernetes cluster from here."),
    "doctor": ("doctor:doctor", "Say what is missing here, and how to mend it."),
    "completion": ("completion:completion", "Print the completion script of a shell."),
}


class LazyGroup(ReportingGroup):
    """Knows its subcommands by name and one line; imports only the one that is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Imports one subcommand."""
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command = getattr(import_module(f"ilf_client.cli.{module}"), attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The table of subcommands, without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(package_name="ilf", prog_name="ilf")
def main() -> None:
    """Turn plain-language feedback into a better language model.

    Start with `ilf up`, then `ilf run CONFIG.yaml`; or see it all at once with `ilf demo`.
    """


if __name__ == "__main__":
    main()
