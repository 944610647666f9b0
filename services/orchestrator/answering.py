"""What a person may answer, at the door."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ilf_common.errors import InvalidArgumentError, require
from services.orchestrator.stages.feedback import MAX_FEEDBACK
from services.orchestrator.tasks import Answer, TaskKind

PREFERENCES = ("PREFERENCE_A", "PREFERENCE_B", "PREFERENCE_TIE")
VERDICTS = ("VERDICT_YES", "VERDICT_PARTLY", "VERDICT_NO")
FLAGS = ("unclear", "harmful", "wrong_language", "other")
MAX_ANNOTATOR = 128
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_CONTROL_BUT_LAYOUT = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def checked_answer(kind: TaskKind, answer: Answer) -> Answer:
    """The answer with line breaks as Unix has them, and each flag once.

    Raises:
        InvalidArgumentError: A field is empty, too long, holds control characters or is none of what may be said.
    """
    reason = checked_text("reason", answer.reason, MAX_FEEDBACK)
    return Answer(_checked_text(kind, answer.text), reason, _checked_flags(answer.flags))


def _checked_text(kind: TaskKind, text: str) -> str:
    if kind is TaskKind.FEEDBACK:
        require(bool(text.strip()), "feedback", "is empty; set skip to give the task back")
        return checked_text("feedback", text, MAX_FEEDBACK)
    field, choices = ("preference", PREFERENCES) if kind is TaskKind.COMPARISON else ("verdict", VERDICTS)
    require(text in choices, field, f"must be one of {', '.join(choices)}")
    return text


def _checked_flags(flags: Sequence[str]) -> tuple[str, ...]:
    for flag in flags:
        require(flag in FLAGS, "flags", f"must be of {', '.join(FLAGS)}; {flag[:40]!r} is not")
    return tuple(flag for flag in FLAGS if flag in flags)


def check_annotator(annotator: str) -> None:
    """Refuses what is no name of a person.

    Raises:
        InvalidArgumentError: It is empty, too long or holds control characters.
    """
    require(bool(annotator.strip()), "annotator", "is missing")
    require(
        len(annotator) <= MAX_ANNOTATOR,
        "annotator",
        f"must have at most {MAX_ANNOTATOR} characters, has {len(annotator)}",
    )
    _refuse_control_characters("annotator", annotator, _CONTROL)


def checked_text(field: str, text: str, most: int) -> str:
    """A text of a person with line breaks as Unix has them.

    Raises:
        InvalidArgumentError: It is too long or holds control characters other than line breaks and tabs.
    """
    require(len(text) <= most, field, f"has {len(text)} characters; at most {most} are allowed")
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    _refuse_control_characters(field, text, _CONTROL_BUT_LAYOUT)
    return text


def _refuse_control_characters(field: str, text: str, forbidden: re.Pattern[str]) -> None:
    if found := forbidden.search(text):
        raise InvalidArgumentError.of(
            field,
            f"holds the control character U+{ord(found.group()):04X} at position {found.start() + 1}; take it out "
            "(line breaks and tabs are welcome in texts)",
        )
