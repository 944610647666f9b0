"""The refinement service as a process, with engines that take their time: `refinement_worker.py HOST:PORT ROOT`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

from ilf_common.engine.port import Generation
from ilf_common.rpc.server import serve
from ilf_common.settings import ServerSettings, StoreSettings
from services.refinement.settings import RefinementSettings
from services.refinement.wiring import build
from tests.rpc.refinement.harness import CheckpointEngine

_SECONDS_PER_ITEM = 0.005


class SlowEngine(CheckpointEngine):
    """Takes a moment for each item, so that calls are at work whenever the process is ended."""

    async def _answer(self, requests: Any, one: Any) -> Any:
        async for outcome in super()._answer(requests, one):
            await asyncio.sleep(_SECONDS_PER_ITEM if isinstance(outcome.value, Generation) else 0)
            yield outcome


async def main(address: str, root: Path) -> None:
    host, _, port = address.rpartition(":")
    settings = RefinementSettings(
        store=StoreSettings(root=str(root / "artifacts")), state_dir=root / host, models={"base": "base-source"}
    )
    service = build(settings, engines=SlowEngine)
    await serve(
        "refinement",
        ServerSettings(host=host, port=int(port)),
        register=service.register,
        start=service.start,
        stop=service.stop,
        check_health=service.check_health,
    )


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
