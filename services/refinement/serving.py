"""Which models serve under which names, and who uses them."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from ilf_common.engine.port import TextEngine
from ilf_common.errors import NotFoundError
from services.refinement.models import Checkpoint, PolicyAlias, PolicyKind, PolicyState, PolicyVersion, PolicyView

_uses = itertools.count()


@dataclass(eq=False)
class ServedModel:
    """A version with the engine that runs it.

    Attributes:
        policy: The version.
        engine: Runs it; adapters share the engine of their base.
        source: What the engine was made from: a local directory or a hub id.
        adapter: The engine's own name for the adapter.
        checkpoint: The verified directory; None for a model of the settings, which is never unloaded.
        state: SERVING until it is taken out of service.
        running: Calls that use it.
        last_use: Grows with every use of any model, to tell which one was used least recently.
        opened: Cleared while its weights are being exchanged; new calls wait for it.
        idle: Set while no call uses it.
    """

    policy: PolicyVersion
    engine: TextEngine
    source: str
    adapter: str | None = None
    checkpoint: Checkpoint | None = None
    state: PolicyState = PolicyState.SERVING
    running: int = 0
    last_use: int = field(default_factory=lambda: next(_uses))
    opened: asyncio.Event = field(default_factory=asyncio.Event)
    idle: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.opened.set()
        self.idle.set()

    @property
    def is_configured(self) -> bool:
        """Whether the settings name it."""
        return self.checkpoint is None

    @property
    def is_whole(self) -> bool:
        """Whether it is a whole checkpoint with an engine of its own."""
        return self.policy.kind is PolicyKind.CHECKPOINT

    def enter(self) -> None:
        """A call begins."""
        self.running += 1
        self.last_use = next(_uses)
        self.idle.clear()

    def leave(self) -> None:
        """A call ends."""
        self.running -= 1
        if not self.running:
            self.idle.set()


class ServedModels:
    """The models by name, the aliases, and the versions that hold no engine at the moment.

    All changes happen between two awaits, so every call sees one whole state.
    """

    def __init__(self) -> None:
        self._by_name: dict[str, ServedModel] = {}
        self._leaving: list[ServedModel] = []
        self._aliases: dict[str, PolicyAlias] = {}
        self._resting: dict[str, PolicyView] = {}
        self._wake: Callable[[str], Awaitable[None]] | None = None

    def __iter__(self) -> Iterator[ServedModel]:
        return iter(list(self._by_name.values()))

    @property
    def aliases(self) -> tuple[PolicyAlias, ...]:
        """All aliases."""
        return tuple(self._aliases.values())

    @property
    def resting(self) -> tuple[PolicyVersion, ...]:
        """Versions that are parked or could not be restored."""
        return tuple(view.policy for view in self._resting.values() if view.state is not PolicyState.LOADING)

    @property
    def everything(self) -> tuple[ServedModel, ...]:
        """What serves and what is draining."""
        return (*self._by_name.values(), *self._leaving)

    @property
    def engines(self) -> int:
        """Engines that hold a model, those included that are draining."""
        return sum(model.is_whole for model in self.everything)

    def on_wake(self, wake: Callable[[str], Awaitable[None]]) -> None:
        """Says who loads a parked version when a call names it."""
        self._wake = wake

    def knows(self, name: str) -> bool:
        """Whether a version has this name, in whatever state."""
        return name in self._by_name or name in self._resting

    def is_usable(self, name: str) -> bool:
        """Whether calls that name this version are answered, if only after it is loaded again."""
        resting = self._resting.get(name)
        return name in self._by_name or (resting is not None and resting.state is PolicyState.PARKED)

    def get(self, name: str) -> ServedModel | None:
        """What serves under exactly this name."""
        return self._by_name.get(name)

    def resolve(self, name: str) -> str:
        """The version's name that a name or an alias means."""
        alias = self._aliases.get(name)
        return alias.policy if alias else name

    def find(self, name: str) -> ServedModel:
        """What serves under a name or an alias.

        Raises:
            NotFoundError: reason MODEL_NOT_FOUND; the message lists the served names.
        """
        model = self._by_name.get(self.resolve(name))
        if model is None:
            raise self.not_found(name)
        return model

    async def awake(self, name: str) -> ServedModel:
        """What serves under a name or an alias, loaded again where it was parked.

        Raises:
            NotFoundError: reason MODEL_NOT_FOUND.
            IlfError: The parked version cannot be loaded any more.
        """
        while True:
            resting = self._resting.get(self.resolve(name))
            if resting is not None and resting.state is PolicyState.PARKED and self._wake is not None:
                await self._wake(self.resolve(name))
                continue
            model = self.find(name)
            if model.opened.is_set():
                return model
            await model.opened.wait()

    @asynccontextmanager
    async def lease(self, name: str) -> AsyncIterator[ServedModel]:
        """Uses a model: it stays loaded until the block ends, even when its name moves on meanwhile.

        Raises:
            NotFoundError: reason MODEL_NOT_FOUND.
        """
        model = await self.awake(name)
        model.enter()
        try:
            yield model
        finally:
            model.leave()

    def put(self, model: ServedModel) -> ServedModel | None:
        """Moves the traffic of a name to this model, and answers the one that had it."""
        old = self._by_name.get(model.policy.name)
        self._by_name[model.policy.name] = model
        self._resting.pop(model.policy.name, None)
        if old is not None:
            self._set_leaving(old)
        return old

    def remove(self, name: str) -> ServedModel | None:
        """Takes a name out of service, and answers the model that had it."""
        self._resting.pop(name, None)
        model = self._by_name.pop(name, None)
        if model is not None:
            self._set_leaving(model)
        return model

    def forget(self, model: ServedModel) -> None:
        """The model has drained and is gone."""
        self._leaving.remove(model)

    def rest(self, version: PolicyVersion, state: PolicyState, failure: str = "") -> None:
        """Keeps a version without an engine: loading, parked, or failed with a reason for people."""
        self._resting[version.name] = PolicyView(version, state, failure=failure)

    def stop_loading(self, name: str, before: PolicyView | None) -> None:
        """A version is no longer being loaded; what was known of its name before holds again."""
        view = self._resting.get(name)
        if view is not None and view.state is PolicyState.LOADING:
            del self._resting[name]
            if before is not None:
                self._resting[name] = before

    def resting_view(self, name: str) -> PolicyView | None:
        """A version without an engine."""
        return self._resting.get(name)

    def set_alias(self, alias: PolicyAlias) -> None:
        """Points an alias."""
        self._aliases[alias.alias] = alias

    def alias(self, name: str) -> PolicyAlias | None:
        """The alias of this name."""
        return self._aliases.get(name)

    def aliases_of(self, name: str) -> tuple[str, ...]:
        """The aliases that point at a version, sorted."""
        return tuple(sorted(alias.alias for alias in self._aliases.values() if alias.policy == name))

    def dependents(self, name: str) -> tuple[str, ...]:
        """Names of the adapters that sit on a model."""
        return tuple(model.policy.name for model in self.everything if model.policy.base_model == name)

    def views(self) -> list[PolicyView]:
        """Everything that serves, drains, loads, is parked or failed."""
        return [self._view(model) for model in self.everything] + [
            self._resting_view(view) for view in self._resting.values()
        ]

    def view(self, name: str) -> PolicyView:
        """One version by its name or alias.

        Raises:
            NotFoundError: reason MODEL_NOT_FOUND.
        """
        resolved = self.resolve(name)
        resting = self._resting.get(resolved)
        if resting is not None and resolved not in self._by_name:
            return self._resting_view(resting)
        return self._view(self.find(name))

    def not_found(self, name: str) -> NotFoundError:
        """The error for a name that no call can use now; the message says why or lists those that can be used."""
        names = sorted([*self._by_name, *self._aliases])
        message = f"No model is served as {name[:200]!r}; served are: {', '.join(names) or 'none'}."
        resting = self._resting.get(self.resolve(name))
        if resting is not None and resting.state is PolicyState.FAILED:
            message = f"{resting.policy.name!r} could not be restored at start: {resting.failure} Load it again."
        elif resting is not None:
            message = f"{resting.policy.name!r} is still being loaded; served are: {', '.join(names) or 'none'}."
        return NotFoundError(message, resource_type="model", resource_name=name[:200], reason="MODEL_NOT_FOUND")

    def _view(self, model: ServedModel) -> PolicyView:
        view = PolicyView(
            model.policy, model.state, max_model_len=model.engine.max_model_len, running_requests=model.running
        )
        return self._with_aliases(view) if model.state is PolicyState.SERVING else view

    def _resting_view(self, view: PolicyView) -> PolicyView:
        return self._with_aliases(view)

    def _with_aliases(self, view: PolicyView) -> PolicyView:
        aliases = self.aliases_of(view.policy.name)
        previous = {alias: self._aliases[alias].previous_policy for alias in aliases}
        targets = {alias: policy for alias, policy in previous.items() if self.is_usable(policy)}
        return replace(view, aliases=aliases, rollback_targets=targets)

    def _set_leaving(self, model: ServedModel) -> None:
        model.state = PolicyState.DRAINING
        self._leaving.append(model)
