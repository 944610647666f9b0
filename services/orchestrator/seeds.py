"""Seeds that follow from the run's seed and nothing else, so that a repeat after a crash draws the same samples."""

from __future__ import annotations

import hashlib

SEED_RANGE = 2**63
"""Seeds lie in [0, 2^63)."""


def item_seed(run_seed: int, iteration: int, stage: str, item_id: str) -> int:
    """The seed of one item in one stage of one iteration."""
    return _digest(f"{run_seed}/{iteration}/{stage}/{item_id}") % SEED_RANGE


def context_position(run_seed: int, context: str) -> int:
    """Where a context lies in the run's random order of contexts, as a number in [0, 2^64)."""
    return _digest(f"{run_seed}/contexts/{context}")


def _digest(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8], "big")
