"""Comparisons: which of two outputs for a context is preferred, in the columns of TRL or of SLF5K.

TRL: `prompt`, `chosen`, `rejected` as texts, optionally `margin`. SLF5K: `subreddit`, `title`, `post`,
`generated_summary_for_comparison_A`, `…_B`, and `comparison_preference`, "Summary A" or "Summary B".
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ilf_common.datasets.schema import context_of_post

EQUAL = "equal_texts"
NO_PREFERENCE = "unknown_preference"
TRAINED_ON = "context_trained_on"

_SIDES = {side: f"generated_summary_for_comparison_{side}" for side in "AB"}
_PREFERENCE = "comparison_preference"
_CONVERSATION = (
    "holds messages, and texts are wanted: make them with the model's chat template, by "
    "`trl.apply_chat_template(row, tokenizer)`, after `trl.extract_prompt(row)` where the row has no prompt"
)


@dataclass(frozen=True)
class Comparison:
    """One comparison.

    Attributes:
        number: Of the row in the dataset, from 1.
        context: What both texts were written for.
        chosen: The preferred text.
        rejected: The other one.
        margin: By how much the chosen text should score higher before a Bradley-Terry loss flattens.
        slice: Value of the column that the report is broken down by.
    """

    number: int
    context: str
    chosen: str
    rejected: str
    margin: float = 0.0
    slice: str = ""


@dataclass(frozen=True)
class Comparisons:
    """What was read of a dataset.

    Attributes:
        rows: The usable ones, in order.
        dropped: Rows that say nothing, by reason: `EQUAL`, `NO_PREFERENCE`, `TRAINED_ON`.
        problems: Rows that are broken, by number; the caller refuses the dataset.
    """

    rows: tuple[Comparison, ...]
    dropped: Mapping[str, int]
    problems: tuple[str, ...] = ()

    def without_contexts(self, digests: frozenset[str]) -> Comparisons:
        """The comparisons whose context is none of these; the others are counted as `TRAINED_ON`."""
        kept = tuple(row for row in self.rows if context_digest(row.context) not in digests)
        leaked = len(self.rows) - len(kept)
        dropped = {**self.dropped, TRAINED_ON: leaked} if leaked else self.dropped
        return Comparisons(kept, dropped, self.problems)


def parse_comparisons(rows: Iterable[tuple[int, Mapping[str, Any]]], *, slice_column: str = "") -> Comparisons:
    """Reads rows, each with its number.

    A row without a preference, or of two equal texts, teaches nothing and is dropped; one that lacks a side, a
    context, or a number for its margin is broken.
    """
    found: list[Comparison] = []
    dropped: Counter[str] = Counter()
    problems: list[str] = []
    for number, raw in rows:
        sides = _slf5k(raw) if _PREFERENCE in raw else _trl(raw)
        wrong = _wrong(sides, raw.get("margin"))
        if wrong:
            problems.append(f"row {number}: {', '.join(wrong)}")
        elif _PREFERENCE in raw and _preferred(raw) is None:
            dropped[NO_PREFERENCE] += 1
        elif sides["chosen"] == sides["rejected"]:
            dropped[EQUAL] += 1
        else:
            found.append(_comparison(number, sides, raw, slice_column))
    return Comparisons(tuple(found), dict(dropped), tuple(problems))


def split_by_context(rows: Sequence[Comparison], share: float, seed: int) -> tuple[list[Comparison], list[Comparison]]:
    """Training and held-out comparisons that have no context in common.

    Args:
        rows: All of them.
        share: Of the distinct contexts that are held out; above 0 it is at least one of them.
        seed: Chooses them; they do not depend on the order of the rows.
    """
    contexts = sorted({row.context for row in rows}, key=lambda context: context_digest(f"{seed}\n{context}"))
    held_out = set(contexts[: max(1, round(share * len(contexts)))] if share else ())
    return [row for row in rows if row.context not in held_out], [row for row in rows if row.context in held_out]


def context_digest(context: str) -> str:
    """Stands for a context where it may not be shown."""
    return hashlib.sha256(context.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _trl(raw: Mapping[str, Any]) -> dict[str, Any]:
    return {name: raw.get(name) for name in ("prompt", "chosen", "rejected")}


def _slf5k(raw: Mapping[str, Any]) -> dict[str, Any]:
    other = {"A": "B", "B": "A"}
    preferred = _preferred(raw) or "A"
    return {
        "post": context_of_post(raw),
        "chosen": raw.get(_SIDES[preferred]),
        "rejected": raw.get(_SIDES[other[preferred]]),
    }


def _preferred(raw: Mapping[str, Any]) -> str | None:
    """The preferred side; None where the row names neither."""
    return {"Summary A": "A", "Summary B": "B"}.get(str(raw[_PREFERENCE]).strip())


def _wrong(sides: Mapping[str, Any], margin: Any) -> list[str]:
    if any(_is_conversation(side) for side in sides.values()):
        # Which template a model reads and whether its prompt is open differ: only the caller knows, and when the model
        # is served, it is again the caller who sends contexts.
        return [_CONVERSATION]
    wrong = [f"{name} must be text" for name, text in sides.items() if not isinstance(text, str)]
    context = next(iter(sides.values()))
    if isinstance(context, str) and not context.strip():
        wrong.append(f"{next(iter(sides))} is empty")
    if margin is not None and (
        isinstance(margin, bool) or not isinstance(margin, int | float) or not math.isfinite(margin)
    ):
        wrong.append("margin must be a finite number")
    return wrong


def _is_conversation(side: Any) -> bool:
    return isinstance(side, list | tuple) and bool(side) and all(isinstance(one, Mapping) for one in side)


def _comparison(number: int, sides: Mapping[str, str], raw: Mapping[str, Any], slice_column: str) -> Comparison:
    context, chosen, rejected = sides.values()
    value = raw.get(slice_column)
    return Comparison(
        number, context, chosen, rejected, float(raw.get("margin") or 0.0), "" if value is None else str(value)[:200]
    )
