"""Runs the demo service as a process of its own: `python demo_server.py '{"port": 0}' [start-fails]`."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys

from ilf_common.rpc.server import serve
from ilf_common.settings import ServerSettings, TelemetrySettings
from tests.fakes.demo_service import DemoServicer


async def main() -> None:
    servicer = DemoServicer()

    async def start() -> None:
        if "start-fails" in sys.argv:
            raise OSError("the model file is gone")
        if "takes-signals" in sys.argv:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)

    async def stop() -> None:
        print("STOPPED", flush=True)

    async def release() -> None:
        servicer.release.set()

    await serve(
        "demo",
        ServerSettings.model_validate(json.loads(sys.argv[1])),
        register=servicer.register,
        start=start,
        stop=stop,
        drain=release if "release-on-drain" in sys.argv else None,
        telemetry=TelemetrySettings(otlp_endpoint=os.environ.get("DEMO_COLLECTOR")),
        ready=lambda port: print(f"READY {port}", flush=True),
    )


if __name__ == "__main__":
    asyncio.run(main())
