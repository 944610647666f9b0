"""Checked numbers: every statistic takes its input through here, so that no NaN ever hides in a mean."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
import numpy.typing as npt

from ilf_common.errors import InvalidArgumentError

Vector = npt.NDArray[np.float64]
Values = Sequence[float] | npt.NDArray[np.floating] | npt.NDArray[np.integer] | npt.NDArray[np.bool_]


def vector(name: str, values: Values, *, length: int | None = None) -> Vector:
    """Numbers as a one-dimensional array of float64.

    Args:
        name: What they are called in an error.
        values: At least one number.
        length: How many there must be.

    Raises:
        InvalidArgumentError: There is none, one is not finite, or there are not `length` of them.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not array.size:
        raise InvalidArgumentError.of(name, f"has the shape {array.shape}; a list of at least one number is wanted")
    if length is not None and array.size != length:
        raise InvalidArgumentError.of(name, f"has {array.size} numbers, {length} are wanted")
    wrong = np.flatnonzero(~np.isfinite(array))
    if wrong.size:
        raise InvalidArgumentError.of(f"{name}[{wrong[0]}]", f"is {array[wrong[0]]}, a finite number is wanted")
    return array


def probabilities(name: str, values: Values, *, length: int | None = None) -> Vector:
    """Numbers from 0 to 1; errors as in `vector`."""
    array = vector(name, values, length=length)
    wrong = np.flatnonzero((array < 0) | (array > 1))
    if wrong.size:
        raise InvalidArgumentError.of(f"{name}[{wrong[0]}]", f"is {array[wrong[0]]}, a number from 0 to 1 is wanted")
    return array


def cluster_numbers(clusters: Sequence[Hashable] | None, length: int) -> npt.NDArray[np.intp]:
    """The number of each element's cluster, from 0; without clusters each element is its own.

    Raises:
        InvalidArgumentError: There are not `length` of them.
    """
    if clusters is None:
        return np.arange(length)
    if len(clusters) != length:
        raise InvalidArgumentError.of("clusters", f"has {len(clusters)} elements, {length} are wanted")
    numbers: dict[Hashable, int] = {}
    return np.fromiter((numbers.setdefault(cluster, len(numbers)) for cluster in clusters), dtype=np.intp, count=length)
