"""Prompt templates: data with named placeholders, never code."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import yaml

from ilf_common.errors import InvalidArgumentError

KNOWN_FIELDS = frozenset({"context", "initial_output", "feedback", "candidate", "output_a", "output_b"})
_PLACEHOLDER = re.compile(r"\{([^{}\n]*)\}")


@dataclass(frozen=True)
class PromptTemplate:
    """A prompt with placeholders such as `{context}`.

    Attributes:
        name: Shown in results.
        text: The prompt; placeholders are the names of `KNOWN_FIELDS`.
        target_prefix: Put between prompt and completion in training and in scoring.
        positive_answers: Judges only: spellings of the answer that counts for the candidate.
        negative_answers: Judges only: spellings of the other answer.

    Raises:
        InvalidArgumentError: The text is empty or holds an unknown placeholder.
    """

    name: str
    text: str
    target_prefix: str = ""
    positive_answers: tuple[str, ...] = ()
    negative_answers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.text.strip():
            raise InvalidArgumentError.of("template.text", f"template {self.name!r} is empty")
        unknown = sorted(set(_PLACEHOLDER.findall(self.text)) - KNOWN_FIELDS)
        if unknown:
            raise InvalidArgumentError.of(
                "template.text",
                f"template {self.name!r} has unknown placeholders {unknown}; known are {sorted(KNOWN_FIELDS)}",
            )

    @cached_property
    def fields(self) -> frozenset[str]:
        """Names of the placeholders in the text."""
        return frozenset(_PLACEHOLDER.findall(self.text))

    @cached_property
    def digest(self) -> str:
        """sha256 over everything that changes a prompt or the reading of its answer; the name does not."""
        parts = [self.text, self.target_prefix, list(self.positive_answers), list(self.negative_answers)]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def render(self, **values: str) -> str:
        """Fills the placeholders in one pass, so that braces inside a value are text like any other.

        Values without a placeholder are left out: a template decides what it shows.

        Raises:
            InvalidArgumentError: A placeholder has no value.
        """
        missing = sorted(self.fields - values.keys())
        if missing:
            raise InvalidArgumentError.of(
                "template.text", f"template {self.name!r} wants {missing}, which this call does not have"
            )
        return _PLACEHOLDER.sub(lambda match: values[match.group(1)], self.text)


def load_template(path: Path) -> PromptTemplate:
    """Reads a template file: YAML with `name`, `text`, and optionally `target_prefix` and `answers`.

    Raises:
        InvalidArgumentError: The file is no such YAML; the message names the file.
    """
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InvalidArgumentError.of("template", f"{path} cannot be read as a YAML template: {error}") from error
    if not isinstance(data, dict) or not isinstance(data.get("text"), str):
        raise InvalidArgumentError.of("template", f"{path} needs a mapping with a string 'text'")
    unknown = sorted(set(data) - {"name", "text", "target_prefix", "answers"})
    if unknown:
        raise InvalidArgumentError.of("template", f"{path} has unknown keys {unknown}")
    answers = data.get("answers") or {}
    return PromptTemplate(
        name=str(data.get("name", path.stem)),
        text=data["text"],
        target_prefix=str(data.get("target_prefix", "")),
        positive_answers=tuple(answers.get("positive", ())),
        negative_answers=tuple(answers.get("negative", ())),
    )


def load_templates(folder: Path) -> Mapping[str, PromptTemplate]:
    """All `*.yaml` templates of a folder by name, sorted by file name."""
    templates = [load_template(path) for path in sorted(folder.glob("*.yaml"))]
    return {template.name: template for template in templates}
