"""A cluster that is a fake API server of this process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml

from services.finetune.adapters.kubernetes_api import Cluster
from tests.fakes.kubernetes_api import FakeApiServer


@pytest.fixture
async def api() -> AsyncIterator[FakeApiServer]:
    yield FakeApiServer()


@pytest.fixture
async def cluster(api: FakeApiServer, tmp_path: Path) -> AsyncIterator[Cluster]:
    async with api.serving() as address:
        file = tmp_path / "kubeconfig"
        file.write_text(
            yaml.safe_dump(
                {
                    "current-context": "fake",
                    "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "me", "namespace": "here"}}],
                    "clusters": [{"name": "fake", "cluster": {"server": address}}],
                    "users": [{"name": "me", "user": {"token": "t"}}],
                }
            )
        )
        cluster = Cluster(kubeconfig=file)
        yield cluster
        await cluster.close()
