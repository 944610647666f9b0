"""Parts of the training set: K disjoint sets of contexts, drawn by the run's seed.

Contexts are ordered by a digest of seed and text; an iteration owns a range of that order. So a row's iteration
follows from its context alone (equal contexts never fall into two iterations), and nothing that grows with the
dataset has to be kept.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Sequence

import numpy as np

from ilf_common.errors import require
from services.orchestrator.seeds import context_position


class ContextOrder:
    """Collects the positions of contexts, 8 bytes each, and cuts their order into parts."""

    def __init__(self, run_seed: int) -> None:
        self._seed = run_seed
        self._positions = array("Q")

    def add(self, context: str) -> None:
        """Adds a context; adding it again changes nothing."""
        self._positions.append(context_position(self._seed, context))

    def boundaries(self, parts: int, size: int) -> tuple[int, ...]:
        """Upper bounds (exclusive) of the parts' positions.

        Args:
            parts: How many disjoint parts.
            size: Contexts of each; 0 shares all of them out evenly.

        Raises:
            InvalidArgumentError: There are too few contexts.
        """
        order = self._order()
        count = len(order)
        require(
            count >= max(1, size) * parts,
            "contexts_per_iteration" if size else "iterations",
            f"{parts} iterations of {max(1, size)} or more contexts each need {max(1, size) * parts} different usable "
            f"contexts; the training set has {count}",
        )
        ends = [(part + 1) * size if size else count * (part + 1) // parts for part in range(parts)]
        return tuple(int(order[end - 1]) + 1 for end in ends)

    def _order(self) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
        """Different positions in order; sorted where they lie, because a copy of each would count at millions."""
        if not self._positions:
            return np.zeros(0, dtype=np.uint64)
        positions = np.frombuffer(self._positions, dtype=np.uint64)
        positions.sort()
        repeated = positions[1:] == positions[:-1]
        return np.unique(positions) if repeated.any() else positions


def iteration_of(boundaries: Sequence[int], run_seed: int, context: str) -> int | None:
    """The iteration (from 1) that a context belongs to, None where no iteration takes it."""
    part = bisect_right(boundaries, context_position(run_seed, context))
    return part + 1 if part < len(boundaries) else None
