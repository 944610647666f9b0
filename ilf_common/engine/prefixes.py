"""Finds what neighbouring prompts share, so that it is computed once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_LEAST_SHARED = 16


@dataclass(frozen=True)
class Family:
    """Neighbouring prompts that start alike.

    Attributes:
        start: Index of the first one.
        end: Index after the last one.
        shared: Tokens that all of them start with; at least one token of each is left over.
    """

    start: int
    end: int
    shared: int


def families(prompts: Sequence[Sequence[int]]) -> list[Family]:
    """Splits prompts, in order, into families that share at least half of their tokens; a loner shares all but one."""
    found: list[Family] = []
    for index, prompt in enumerate(prompts):
        if found:
            last = found[-1]
            shared = _common(prompts[last.start], prompt, last.shared)
            if shared >= max(_LEAST_SHARED, len(prompt) // 2):
                found[-1] = Family(last.start, index + 1, shared)
                continue
        found.append(Family(index, index + 1, len(prompt) - 1))
    return found


def is_worth_sharing(prompts: Sequence[Sequence[int]], found: Sequence[Family]) -> bool:
    """Two forward passes pay when they leave out at least a quarter of the tokens."""
    whole = sum(map(len, prompts))
    saved = sum((family.end - family.start - 1) * family.shared for family in found)
    return 4 * saved >= whole


def _common(first: Sequence[int], second: Sequence[int], limit: int) -> int:
    limit = min(limit, len(first) - 1, len(second) - 1)
    return next((index for index in range(limit) if first[index] != second[index]), max(limit, 0))
