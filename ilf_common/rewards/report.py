"""What a reward model is worth on comparisons that it has not been trained on, as plain values."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ilf_common.statistics.values import Estimate, ReliabilityBin


@dataclass(frozen=True)
class Margins:
    """How far the preferred text is ahead: mean, standard deviation and quantiles."""

    mean: float
    std: float
    p05: float
    p25: float
    median: float
    p75: float
    p95: float


@dataclass(frozen=True)
class Calibration:
    """Whether probabilities mean what they say."""

    ece: float
    brier: float
    bins: Sequence[ReliabilityBin]


@dataclass(frozen=True)
class LengthBias:
    """How much of a reward is mere length, in characters.

    Attributes:
        slope: Advantage gained by one more character of difference; None where all pairs are equally long.
        matched_accuracy: On pairs whose lengths differ by at most a tenth; None where there are none.
        longer_is_preferred: Accuracy of preferring the longer text, ties half.
    """

    slope: Estimate | None
    matched_accuracy: Estimate | None
    longer_is_preferred: float


@dataclass(frozen=True)
class SliceReport:
    """The accuracy on the comparisons with one value of the slice column."""

    value: str
    pairs: int
    accuracy: Estimate
    accuracy_low: float
    accuracy_high: float


@dataclass(frozen=True)
class RewardReport:
    """The report; field names are those of `ilf.reward.v1.RewardReport`.

    Attributes:
        pairs: Comparisons measured.
        contexts: Distinct contexts among them.
        dropped: Rows that were left out, by reason.
        accuracy: Share of comparisons with the preferred text ahead, ties half; the error is clustered by context.
        accuracy_low: Lower end of Wilson's 95 % interval, which takes the comparisons for independent.
        accuracy_high: Its upper end.
        margins: Of the advantages of the preferred texts.
        uncalibrated: At temperature 1.
        calibrated: At the model's temperature.
        temperature: The model's.
        length: What length explains.
        slices: By value of the slice column; empty without one.
    """

    pairs: int
    contexts: int
    dropped: Mapping[str, int]
    accuracy: Estimate
    accuracy_low: float
    accuracy_high: float
    margins: Margins
    uncalibrated: Calibration
    calibrated: Calibration
    temperature: float
    length: LengthBias
    slices: Sequence[SliceReport] = ()


def to_json(report: RewardReport) -> dict[str, Any]:
    """The report as JSON types; an infinite error is "Infinity", as in the JSON of protobuf."""
    return {name: _plain(value) for name, value in asdict(report).items()}


def write_report(report: RewardReport) -> bytes:
    """The report as a file."""
    return json.dumps(to_json(report), indent=1, sort_keys=True, allow_nan=False).encode()


def read_report(data: bytes) -> RewardReport:
    """A report from its file.

    Raises:
        ValueError: It is none.
    """
    # Whoever only shows reports need not wait for this library.
    from pydantic import TypeAdapter

    return TypeAdapter(RewardReport).validate_json(data)


def _plain(value: Any) -> Any:
    if isinstance(value, float) and math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {key: _plain(content) for key, content in value.items()}
    return [_plain(content) for content in value] if isinstance(value, list | tuple) else value
