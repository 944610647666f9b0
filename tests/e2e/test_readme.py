"""README's code is run as it stands there."""

from __future__ import annotations

import re
import sys

import click
import pytest

from ilf_client.cli.main import main
from tests.e2e.conftest import ROOT, Stack

README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


@pytest.mark.engine
def test_the_python_example_prints_what_readme_says(stack: Stack) -> None:
    (code,) = blocks("python")
    assert len(code.strip().splitlines()) <= 20
    printed = stack.run(sys.executable, "-c", code)
    shown = re.search(r"# prints: (.*)", code)
    assert shown and printed.strip() == shown.group(1).strip()


def test_the_commands_of_the_shell_blocks_exist() -> None:
    lines = [line.split("#")[0].split() for block in blocks("bash") for line in block.splitlines() if line.strip()]
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    for words in lines:
        if words[0] == "make":
            assert words[1] in targets
        elif words[0] == "helm":
            assert all((ROOT / word).exists() for word in words if word.startswith("charts/"))
        else:
            assert words[0] == "ilf"
            assert words[1] in main.list_commands(click.Context(main)), words
