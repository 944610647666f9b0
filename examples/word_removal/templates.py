"""This example's prompt templates, which are data files in `templates/`."""

from pathlib import Path

from ilf_common import templates
from ilf_common.templates import PromptTemplate

TEMPLATES = Path(__file__).parent / "templates"
JUDGE_NAMES: tuple[str, ...] = tuple(f"judge_{number}" for number in range(1, 6))


def load_template(name: str) -> PromptTemplate:
    """Reads the template of this name.

    Raises:
        InvalidArgumentError: There is none, or its file is no template.
    """
    return templates.load_template(TEMPLATES / f"{name}.yaml")


def load_judges() -> list[PromptTemplate]:
    """Reads the five judges' templates."""
    return [load_template(name) for name in JUDGE_NAMES]
