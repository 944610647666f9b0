"""One refinement through the SDK, a release's Service and front, TLS and token, beside the same call in process.

`python -m benchmarks.sdk_latency` installs the chart on the cluster of KUBECONFIG with one refinement worker, from the
images of ILF_TEST_REGISTRY and ILF_TEST_TAG, and calls it through a NodePort of this machine. With `--address` it calls
a release that is there; certificates and token then come from the variables that the SDK reads (ILF_TLS_CA_FILE, …).
In process, the same service with the same model answers the same requests without any transport. Both take turns on the
same prompts with the same seeds, so they make the same tokens, and one waits while the other works; what is added is
the difference of the quantiles. The worker must run on a processor like this one: on the same machine, or the
difference is that of the machines too.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from ilf.common.v1 import common_pb2
from ilf.refinement.v1 import refinement_service_pb2 as pb

from benchmarks.batch_refine import DEMO_MODEL
from benchmarks.recording import print_table, record
from examples.word_removal.data import make_contexts
from ilf_client import AsyncClient, Endpoints, SamplingParams, Security
from ilf_common.engine.settings import EngineSettings
from ilf_common.settings import StoreSettings
from services.refinement.settings import RefinementSettings
from services.refinement.wiring import build
from tests.cluster.small_release import missing, small_release

MODEL = "word-removal"
TOKENS = 8
WARM_UP = 20
Call = Callable[[str, int], Awaitable[object]]


@contextmanager
def own_release(folder: Path) -> Iterator[tuple[str, Security]]:
    """A release with one worker: its address on this machine, and what its clients need."""
    components = ("refinement-front", "refinement-worker")
    with small_release(components, refinement__pool__minReplicas="1") as release:
        yield release.node_port("refinement"), release.security(folder)


@asynccontextmanager
async def in_process(folder: Path) -> AsyncIterator[Call]:
    """The service of this process."""
    settings = RefinementSettings(
        store=StoreSettings(root=str(folder / "artifacts")),
        state_dir=folder / "state",
        models={MODEL: str(DEMO_MODEL)},
        # As charts/ilf/ci/cpu-values.yaml has it.
        engine=EngineSettings(kind="transformers", batch_size=256, threads=1),
    )
    refinement = build(settings)
    await refinement.start()

    async def refine(prompt: str, seed: int) -> pb.RefineResponse:
        sampling = common_pb2.SamplingParams(n=1, max_new_tokens=TOKENS, seed=seed)
        request = pb.RefineRequest(model=MODEL, context=prompt, initial_output="-", feedback="-", sampling=sampling)
        return await refinement.servicer.Refine(request, None)

    try:
        yield refine
    finally:
        await refinement.stop()


@asynccontextmanager
async def through_sdk(address: str, security: Security) -> AsyncIterator[Call]:
    """The SDK, connected to a release."""
    async with AsyncClient(Endpoints(refinement=address), security=security) as client:

        async def refine(prompt: str, seed: int) -> object:
            sampling = SamplingParams(n=1, max_new_tokens=TOKENS, seed=seed)
            return await client.refine(MODEL, prompt, "-", "-", sampling=sampling, timeout=120)

        yield refine


async def measure(address: str, security: Security, calls: int, folder: Path) -> dict[str, Any]:
    """One row."""
    seconds: dict[str, list[float]] = {"here": [], "there": []}
    async with in_process(folder) as here, through_sdk(address, security) as there:
        for number, prompt in enumerate(make_contexts("test", calls + WARM_UP)):
            turns = [("here", here), ("there", there)]
            for name, call in turns if number % 2 else reversed(turns):
                begin = time.perf_counter()
                await call(prompt, number)
                if number >= WARM_UP:
                    seconds[name].append(time.perf_counter() - begin)
    table = {name: [_quantile(values, share) for share in (0.5, 0.99)] for name, values in seconds.items()}
    return {
        "calls": calls,
        "in process p50 ms": table["here"][0],
        "p99 ms": table["here"][1],
        "through the release p50 ms": table["there"][0],
        "p99 ms ": table["there"][1],
        "added p50 ms": round(table["there"][0] - table["here"][0], 2),
        "added p99 ms": round(table["there"][1] - table["here"][1], 2),
    }


def _quantile(values: list[float], share: float) -> float:
    return round(1000 * sorted(values)[min(int(len(values) * share), len(values) - 1)], 2)


def main() -> int:
    """Measures and records."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--address", default="", help="host:port of refinement; empty installs a release")
    parser.add_argument("--calls", type=int, default=1000)
    parser.add_argument("--no-record", dest="record", action="store_false")
    options = parser.parse_args()
    if not options.address and (reason := missing()):
        print(f"not measured: {reason}")
        return 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.address:
            row = asyncio.run(measure(options.address, Security.from_environment(), options.calls, folder))
        else:
            with own_release(folder) as (address, security):
                row = asyncio.run(measure(address, security, options.calls, folder))
    print_table([row])
    if options.record:
        record("sdk_latency", [row], packages=("grpcio", "torch", "transformers"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
