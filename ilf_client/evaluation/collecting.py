"""From the values of single rows to figures with errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ilf_client.models.evaluation import Figure, Pairing
from ilf_common.statistics.estimates import mean, share
from ilf_common.statistics.lengths import length_controlled_win_rate
from ilf_common.statistics.values import Estimate

LENGTH = "length"
WIN_RATE = "win_rate"
WIN_RATE_LENGTH_CONTROLLED = "win_rate_length_controlled"
POSITION_BIAS = "position_bias"
_EVEN = 0.5


@dataclass
class RowValues:
    """What was measured on one row.

    Attributes:
        id: Of the row.
        cluster: Equal for rows with the same context.
        arms: Values by arm and measure.
        verdicts: Values by arm, rival and evaluator: `win_rate` (1, 0, or 0.5) and `position_bias`.
    """

    id: str
    cluster: str
    arms: dict[str, dict[str, float]] = field(default_factory=dict)
    verdicts: dict[tuple[str, str, str], dict[str, float]] = field(default_factory=dict)

    @property
    def named(self) -> dict[str, float]:
        """All values by one text, as the file of items has them: `measure/arm` and `measure/arm/rival/evaluator`."""
        values = {f"{measure}/{arm}": value for arm, found in self.arms.items() for measure, value in found.items()}
        for names, found in self.verdicts.items():
            values |= {"/".join((measure, *names)): value for measure, value in found.items()}
        return values


@dataclass
class _Column:
    values: list[float] = field(default_factory=list)
    clusters: list[str] = field(default_factory=list)

    def add(self, value: float, cluster: str) -> None:
        self.values.append(value)
        self.clusters.append(cluster)

    def mean(self) -> Estimate:
        return mean(self.values, self.clusters)


class Collector:
    """Takes rows one by one and holds their numbers, never their texts.

    Args:
        pairings: Arms whose measures are compared row by row.
        self_judged: Why a verdict is none, by arm, rival and evaluator.
    """

    def __init__(self, pairings: Sequence[Pairing], self_judged: Mapping[tuple[str, str, str], str]) -> None:
        self._pairings = pairings
        self._self_judged = self_judged
        self._means: dict[tuple[str, str], _Column] = {}
        self._differences: dict[tuple[str, str, str], _Column] = {}
        self._verdicts: dict[tuple[str, tuple[str, str, str]], _Column] = {}
        self._lengths: dict[tuple[str, str, str], tuple[list[float], list[float]]] = {}

    def add(self, row: RowValues) -> None:
        """Takes a row; every figure counts the rows that have its values."""
        for arm, values in row.arms.items():
            for measure, value in values.items():
                self._means.setdefault((measure, arm), _Column()).add(value, row.cluster)
        for pairing in self._pairings:
            own, other = row.arms.get(pairing.arm, {}), row.arms.get(pairing.rival, {})
            for measure in own.keys() & other.keys():
                column = self._differences.setdefault((measure, pairing.arm, pairing.rival), _Column())
                column.add(own[measure] - other[measure], row.cluster)
        for names, values in row.verdicts.items():
            for measure, value in values.items():
                self._verdicts.setdefault((measure, names), _Column()).add(value, row.cluster)
            own_lengths, other_lengths = self._lengths.setdefault(names, ([], []))
            own_lengths.append(row.arms[names[0]][LENGTH])
            other_lengths.append(row.arms[names[1]][LENGTH])

    def figures(self) -> list[Figure]:
        """Win rates first, then means of each arm, then differences between arms."""
        found = []
        for (measure, names), column in sorted(self._verdicts.items(), key=lambda item: (item[0][1], item[0][0])):
            if measure != WIN_RATE:
                found.append(self._verdict(measure, names, column.mean(), 0.0))
            else:
                found.append(self._verdict(measure, names, share(column.values, column.clusters), _EVEN))
                own, other = self._lengths[names]
                controlled = length_controlled_win_rate(column.values, own, other, column.clusters)
                found.append(self._verdict(WIN_RATE_LENGTH_CONTROLLED, names, controlled, _EVEN))
        found += [_figure(measure, arm, column.mean()) for (measure, arm), column in sorted(self._means.items())]
        found += [
            _figure(measure, arm, column.mean(), rival=rival, null=0.0)
            for (measure, arm, rival), column in sorted(self._differences.items())
        ]
        return found

    def _verdict(self, measure: str, names: tuple[str, str, str], estimate: Estimate, null: float) -> Figure:
        arm, rival, evaluator = names
        why = self._self_judged.get(names, "")
        return _figure(measure, arm, estimate, rival=rival, evaluator=evaluator, null=null, self_judged=why)


def _figure(
    measure: str,
    arm: str,
    estimate: Estimate,
    *,
    rival: str = "",
    evaluator: str = "",
    null: float | None = None,
    self_judged: str = "",
) -> Figure:
    return Figure(measure, arm, estimate, estimate.smallest_detectable_effect, rival, evaluator, null, self_judged)
