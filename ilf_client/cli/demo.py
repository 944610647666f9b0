"""`ilf demo`."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

import click

from ilf_common.errors import FailedPreconditionError


@click.command(context_settings={"ignore_unknown_options": True, "help_option_names": []}, add_help_option=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def demo(arguments: Sequence[str]) -> None:
    """Run the word-removal demo; `ilf demo --help` shows its options."""
    try:
        module = import_module("examples.word_removal.demo")
    except ModuleNotFoundError as error:
        if error.name is None or not error.name.startswith("examples"):
            raise
        raise FailedPreconditionError(
            "The examples are not installed here. Clone the repository and run `make demo` in it.",
            reason="EXAMPLES_MISSING",
        ) from error
    module.main(list(arguments))
