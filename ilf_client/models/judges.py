"""What judges are worth where it is known whether the feedback was incorporated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ilf_common.rewards.report import Calibration
from ilf_common.statistics.values import Estimate


@dataclass(frozen=True)
class JudgeReport:
    """One judge, or the ensemble of all.

    Attributes:
        judge: Its name.
        accuracy: Share of rows in which a score above one half says what the label says; half where it is one half.
        accuracy_low: Lower end of Wilson's 95 % interval, which takes the rows for independent.
        accuracy_high: Its upper end.
        uncalibrated: Of the scores as they are.
        calibrated: At the temperature, measured crosswise: each half of the contexts at the other half's.
        temperature: Fitted to all rows; log-odds are divided by it. 1 where the scores separate the labels.
        length_slope: Score gained by one more character of the refinement; None where all are equally long.
    """

    judge: str
    accuracy: Estimate
    accuracy_low: float
    accuracy_high: float
    uncalibrated: Calibration
    calibrated: Calibration
    temperature: float
    length_slope: Estimate | None


@dataclass(frozen=True)
class JudgesReport:
    """All judges on one labelled file.

    Attributes:
        rows: Rows that all judges have scored.
        contexts: Distinct contexts among them.
        dropped: Rows that were left out, by reason.
        incorporated: Share of rows whose label is yes: what is right by always saying so.
        length_slope: What one more character of the refinement does to the label itself; None as above.
        judges: The ensemble first.
    """

    rows: int
    contexts: int
    dropped: Mapping[str, int]
    incorporated: Estimate
    length_slope: Estimate | None
    judges: Sequence[JudgeReport]
