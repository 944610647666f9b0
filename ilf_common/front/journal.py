"""What workers have to be told before they serve: the control calls that still count, none that was overtaken.

The journal is what the pool as a whole serves. A worker that starts later is brought there by repeating the calls;
one that has more than the journal is brought back by calls that undo.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Step:
    """One control call: the method's name and the request as JSON."""

    method: str
    request: Mapping[str, Any]


@dataclass(frozen=True)
class Entry:
    """What the pool serves under one key.

    Attributes:
        key: Kind and name, as in `policies/run/it-1`.
        revision: Grows with every change of the journal.
        steps: The calls that bring a worker there.
        needs: Keys that have to be there first.
        pinned: Whether a worker gets it before it serves; otherwise when a call names it first.
        resource: What the last call answered, as JSON.
    """

    key: str
    revision: int
    steps: tuple[Step, ...]
    needs: tuple[str, ...] = ()
    pinned: bool = False
    resource: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Journal:
    """All entries by key, the oldest first."""

    entries: Mapping[str, Entry]
    revision: int = 0

    @classmethod
    def empty(cls) -> Journal:
        """Nothing was ever loaded."""
        return cls({})

    def get(self, key: str) -> Entry | None:
        """The entry of a key."""
        return self.entries.get(key)

    def put(
        self,
        key: str,
        steps: Iterable[Step],
        *,
        needs: Iterable[str] = (),
        pinned: bool = False,
        resource: Mapping[str, Any] | None = None,
    ) -> Journal:
        """Sets what is served under a key; what was there before counts no more.

        A repeat that changes nothing keeps the entry's revision, so that no worker has to be told again. Needs that
        the journal does not hold are the workers' own business (models of their settings).
        """
        known = tuple(need for need in needs if need in self.entries)
        entry = Entry(key, self.revision + 1, tuple(steps), known, pinned, resource)
        present = self.entries.get(key)
        if present is not None and present.steps == entry.steps:
            return replace(self, entries={**self.entries, key: replace(present, resource=resource)})
        rest = {other: one for other, one in self.entries.items() if other != key}
        return Journal({**rest, key: entry}, self.revision + 1)

    def remove(self, key: str) -> Journal:
        """Nothing is served under a key any more."""
        if key not in self.entries:
            return self
        return Journal({other: one for other, one in self.entries.items() if other != key}, self.revision + 1)

    def changed_keys(self, after: Journal) -> list[str]:
        """Keys that a later journal serves otherwise, or no more, or only it serves."""
        keys = {**self.entries, **after.entries}
        return [key for key in keys if self._revision_of(key) != after._revision_of(key)]

    def _revision_of(self, key: str) -> int | None:
        entry = self.entries.get(key)
        return entry.revision if entry else None

    def standing(self) -> Iterator[Entry]:
        """What a worker gets before it serves: all that is pinned, and the newest of the rest, with their needs.

        The others are brought when a call names them: versions pile up over many runs, and nobody may ask for them.
        """
        others = [entry for entry in self.entries.values() if not entry.pinned]
        wanted = [entry.key for entry in self.entries.values() if entry.pinned] + [one.key for one in others[-1:]]
        return self.with_needs(wanted)

    def with_needs(self, keys: Iterable[str]) -> Iterator[Entry]:
        """The entries of some keys, each after what it needs, none twice; unknown keys are left out."""
        seen: set[str] = set()

        def visit(key: str) -> Iterator[Entry]:
            entry = self.entries.get(key)
            if entry is None or key in seen:
                return
            seen.add(key)
            for need in entry.needs:
                yield from visit(need)
            yield entry

        for key in keys:
            yield from visit(key)

    def to_json(self) -> bytes:
        """For the store."""
        rows = [asdict(entry) for entry in self.entries.values()]
        return json.dumps({"revision": self.revision, "entries": rows}, indent=1).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Journal:
        """What `to_json` wrote.

        Raises:
            ValueError, KeyError, TypeError: It is something else.
        """
        content = json.loads(data)
        entries = (
            Entry(**{**row, "steps": tuple(Step(**step) for step in row["steps"]), "needs": tuple(row["needs"])})
            for row in content["entries"]
        )
        return cls({entry.key: entry for entry in entries}, int(content["revision"]))
