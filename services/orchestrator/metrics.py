"""Means with standard errors, collected row by row."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from services.orchestrator.run import Metric


@dataclass
class RunningMean:
    """Mean and variance of a stream of numbers by Welford's method, which stays exact over millions of rows."""

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0

    def add(self, value: float) -> None:
        """Takes one number."""
        self.count += 1
        step = value - self.mean
        self.mean += step / self.count
        self.squares += step * (value - self.mean)

    def merge(self, other: RunningMean) -> None:
        """Takes the numbers of another mean (Chan's formula)."""
        count = self.count + other.count
        if not count:
            return
        step = other.mean - self.mean
        self.squares += other.squares + step * step * self.count * other.count / count
        self.mean += step * other.count / count
        self.count = count

    def metric(self) -> Metric:
        """Mean, and standard error sqrt(variance / n) with the population variance (for 0/1: sqrt(p(1-p)/n))."""
        if not self.count:
            return Metric(0.0, 0.0, 0)
        return Metric(self.mean, math.sqrt(max(0.0, self.squares) / self.count / self.count), self.count)


class Metrics:
    """Running means by name."""

    def __init__(self) -> None:
        self._means: dict[str, RunningMean] = {}

    def add(self, name: str, values: Iterable[float | None]) -> None:
        """Takes the numbers of some rows; None means that a row has none."""
        for value in values:
            if value is not None:
                self._means.setdefault(name, RunningMean()).add(value)

    def merge(self, other: Metrics) -> None:
        """Takes the numbers of other metrics."""
        for name, mean in other._means.items():
            self._means.setdefault(name, RunningMean()).merge(mean)

    def result(self) -> dict[str, Metric]:
        """The metric of every name that got a number."""
        return {name: mean.metric() for name, mean in self._means.items()}


class ShardMetrics:
    """Metrics of shards that end in any order, summed in the shards' order: the last bit does not depend on timing."""

    def __init__(self) -> None:
        self._sum = Metrics()
        self._early: dict[int, Metrics] = {}
        self._next = 0

    def add(self, index: int, metrics: Metrics) -> None:
        """Takes the metrics of one shard; only those of shards in flight are held."""
        self._early[index] = metrics
        while self._next in self._early:
            self._sum.merge(self._early.pop(self._next))
            self._next += 1

    def result(self) -> dict[str, Metric]:
        """The metrics of all shards."""
        return self._sum.result()
