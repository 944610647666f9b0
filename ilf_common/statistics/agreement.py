"""How far people who label the same things agree, beyond what chance would give."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence


def krippendorff_alpha(units: Iterable[Sequence[Hashable]]) -> float | None:
    """Krippendorff's alpha for nominal labels: 1 is perfect agreement, 0 what chance would give, below 0 worse.

    Units may have different numbers of labels; those with fewer than two say nothing about agreement.

    Args:
        units: The labels of each thing, one a person.

    Returns:
        None where nothing was labelled twice, or where all labels are the same: chance alone then agrees perfectly.
    """
    labels: Counter[Hashable] = Counter()
    disagreement = 0.0
    for unit in units:
        if len(unit) < 2:
            continue
        counts = Counter(unit)
        labels.update(counts)
        equal = sum(count * (count - 1) for count in counts.values())
        disagreement += (len(unit) * (len(unit) - 1) - equal) / (len(unit) - 1)
    total = labels.total()
    expected = total * total - sum(count * count for count in labels.values())
    return 1.0 - (total - 1) * disagreement / expected if expected else None


def agreement_with_others(units: Iterable[Mapping[str, Hashable]]) -> dict[str, tuple[int, int]]:
    """For each person: with how many labels of others on the same thing the own one agrees, and of how many.

    Args:
        units: The labels of each thing by person.
    """
    found: dict[str, tuple[int, int]] = {}
    for unit in units:
        counts = Counter(unit.values())
        for person, label in unit.items():
            agreed, compared = found.get(person, (0, 0))
            found[person] = (agreed + counts[label] - 1, compared + len(unit) - 1)
    return {person: counts for person, counts in sorted(found.items()) if counts[1]}
