"""Writes down what is loaded before it serves, so that a restart finds the same."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from services.refinement.models import PolicyAlias, PolicyRecords, PolicyVersion
from services.refinement.ports import PolicyRecordStore
from services.refinement.serving import ServedModels


class PolicyLedger:
    """What the served models look like on the disk.

    Args:
        models: What is served.
        records: Where it is kept.

    Attributes:
        changing: Held by whoever changes versions or aliases, one after the other.
    """

    def __init__(self, models: ServedModels, records: PolicyRecordStore) -> None:
        self._models = models
        self._records = records
        self.changing = asyncio.Lock()

    def load(self) -> PolicyRecords:
        """What was written down last."""
        return self._records.load()

    def save(self, added: PolicyVersion | None = None) -> None:
        """Writes down what is loaded, a version that is about to serve included."""
        records = self._current()
        if added is not None:
            kept = tuple(version for version in records.versions if version.name != added.name)
            records = replace(records, versions=(*kept, added))
        self._records.save(records)

    def save_alias(self, alias: PolicyAlias) -> None:
        """Writes down where an alias is about to point."""
        others = tuple(other for other in self._models.aliases if other.alias != alias.alias)
        self._records.save(replace(self._current(), aliases=(*others, alias)))

    def _current(self) -> PolicyRecords:
        loaded = tuple(model.policy for model in self._models if not model.is_configured)
        return PolicyRecords((*loaded, *self._models.resting), self._models.aliases)
