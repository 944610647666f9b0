"""The refinement service with fake engines behind a real server."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from google.rpc import error_details_pb2
from ilf.refinement.v1 import refinement_service_pb2_grpc as pb_grpc
from prometheus_client import CollectorRegistry

from ilf_common.artifacts import ArtifactStore
from ilf_common.errors import IlfError
from ilf_common.rpc.status import from_rpc_error
from ilf_common.settings import StoreSettings
from services.refinement.settings import RefinementSettings
from services.refinement.wiring import COMPONENT, build
from tests.fakes.engine import FakeEngine
from tests.support import running_channel


class CheckpointEngine(FakeEngine):
    """A fake engine that takes its weights from the file `model.safetensors` of a directory."""

    def __init__(self, source: str, **options: Any) -> None:
        super().__init__(_weights(Path(source)), **options)
        self.path = source
        self.reloads: list[Path] = []
        self.fail_to_start = False
        self.fail_to_reload = False

    async def start(self) -> None:
        if self.fail_to_start:
            raise ValueError("the path /secret/place cannot be loaded")
        await super().start()

    async def reload_weights(self, path: Path) -> None:
        self.reloads.append(path)
        if self.fail_to_reload:
            self.fail_to_reload = False
            self._source = "half of both"
            raise ValueError("shapes differ")
        self._source = _weights(path)


def _weights(path: Path) -> str:
    weights = path / "model.safetensors"
    return weights.read_text() if weights.is_file() else str(path)


@dataclass
class Harness:
    """What a test sees of a running service."""

    stub: Any
    store: ArtifactStore
    engines: dict[str, CheckpointEngine]
    registry: CollectorRegistry
    prepare: list[Callable[[CheckpointEngine], None]] = field(default_factory=list)

    def engine_of(self, key: str) -> CheckpointEngine:
        """The engine that a checkpoint was loaded into."""
        return self.engines[str(self.store.local_path(key))]

    def publish(self, key: str, weights: str, config: str = "{}") -> str:
        """Publishes a whole checkpoint, and answers its URI."""
        return publish(self.store, key, {"config.json": config, "model.safetensors": weights})

    def publish_adapter(self, key: str, weights: str, *, rank: int = 4, peft_type: str = "LORA", base: str = "") -> str:
        """Publishes an adapter, and answers its URI."""
        config = json.dumps({"peft_type": peft_type, "r": rank, "base_model_name_or_path": base})
        return publish(self.store, key, {"adapter_config.json": config, "adapter_model.safetensors": weights})


def publish(store: ArtifactStore, key: str, files: dict[str, str]) -> str:
    folder = store.local_path("drafts") / key.replace("/", "_")
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_text(content)
    store.publish_directory(folder, key)
    return store.uri(key)


@asynccontextmanager
async def running_service(
    root: Path,
    *,
    models: dict[str, str] | None = None,
    make_engine: Callable[[str], CheckpointEngine] = CheckpointEngine,
    max_engines: int = 8,
    max_queued_items: int = 16384,
) -> AsyncIterator[Harness]:
    engines: dict[str, CheckpointEngine] = {}
    prepare: list[Callable[[CheckpointEngine], None]] = []

    def engine(source: str) -> CheckpointEngine:
        engines[source] = made = make_engine(source)
        for change in prepare:
            change(made)
        return made

    settings = RefinementSettings(
        store=StoreSettings(root=str(root / "artifacts")),
        state_dir=root / "state",
        models={"base": "base-source"} if models is None else models,
        max_engines=max_engines,
        max_queued_items=max_queued_items,
    )
    registry = CollectorRegistry()
    service = build(settings, engines=engine, registry=registry)
    await service.start()
    try:
        async with running_channel(service.register, component=COMPONENT) as channel:
            stub = pb_grpc.RefinementServiceStub(channel)
            yield Harness(stub, ArtifactStore(settings.store.root), engines, registry, prepare)
    finally:
        await service.stop()


async def refused(call: Awaitable[Any]) -> IlfError:
    """The error that a call ends with, as clients see it."""
    try:
        await call
    except grpc.RpcError as error:
        return from_rpc_error(error)
    raise AssertionError("the call was answered")


def fields(error: Any) -> set[str]:
    """The fields that an error names."""
    return {violation.field for violation in error.violations}


def item_error(status: Any) -> tuple[int, str, set[str]]:
    """Code, reason and fields of an item's error."""
    info, request = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    for detail in status.details:
        for message in (info, request):
            if detail.Is(message.DESCRIPTOR):
                detail.Unpack(message)
    return status.code, info.reason, {violation.field for violation in request.field_violations}


async def outcomes(stream: Any) -> dict[str, Any]:
    """All outcomes of a batch by item id; each came once."""
    found: dict[str, Any] = {}
    async for response in stream:
        for outcome in response.outcomes:
            assert outcome.item_id not in found
            found[outcome.item_id] = outcome
    return found
