"""One refinement through the SDK, a release's Service and front, TLS and token, beside the same call in process.

`python -m benchmarks.sdk_latency` installs the chart on the cluster of KUBECONFIG with one refinement worker, from the
images of ILF_TEST_REGISTRY and ILF_TEST_TAG, and calls it through a NodePort of this machine. With `--address` it calls
a release that is there; certificates and token then come from the variables that the SDK reads (ILF_TLS_CA_FILE, …).
In process, the same service with the same model answers the same requests without any transport. Both take turns on the
same prompts with the same seeds, so they make the same tokens, and one waits while the other works; what is added is
the difference of the quantiles, over the quietest third of the rounds. The worker must run on this machine or on one
like it.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
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
TOKENS = 4
WARM_UP = 20
CALLS = 100
QUIET = 3
"""One round in so many counts."""
QUANTILES = (0.5, 0.99)
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


async def measure(address: str, security: Security, rounds: int, folder: Path) -> dict[str, Any]:
    """One row, of the rounds in which both together took least: others tell of what else the machine did."""
    contexts = make_contexts("test", WARM_UP + rounds * CALLS)
    async with in_process(folder) as here, through_sdk(address, security) as there:
        await _round(here, there, contexts[:WARM_UP])
        starts = range(WARM_UP, len(contexts), CALLS)
        taken = [await _round(here, there, contexts[start : start + CALLS]) for start in starts]
    quiet = sorted(taken, key=lambda both: sum(map(sum, both)))[: max(rounds // QUIET, 1)]
    within, through = (sorted(call for one in quiet for call in one[side]) for side in (0, 1))
    row: dict[str, Any] = {"rounds": f"{len(quiet)} of {rounds}, {CALLS} calls each"}
    for share in QUANTILES:
        least, most = _quantile(within, share), _quantile(through, share)
        name = f"p{100 * share:.0f} ms"
        row |= {f"in process {name}": round(least, 2), f"through the release {name}": round(most, 2)}
        row[f"added {name}"] = round(most - least, 2)
    added = sorted(_quantile(sorted(there), 0.5) - _quantile(sorted(here), 0.5) for here, there in taken)
    row["added p50 ms, median of all rounds"] = round(statistics.median(added), 2)
    return row


async def _round(here: Call, there: Call, contexts: Sequence[str]) -> tuple[list[float], list[float]]:
    """Milliseconds in process and through the release, which take turns at being the first."""
    milliseconds: dict[Call, list[float]] = {here: [], there: []}
    for number, context in enumerate(contexts):
        for call in (here, there) if number % 2 else (there, here):
            begin = time.perf_counter()
            await call(context, number)
            milliseconds[call].append(1000 * (time.perf_counter() - begin))
    return milliseconds[here], milliseconds[there]


def _quantile(ordered: Sequence[float], share: float) -> float:
    return ordered[math.ceil(len(ordered) * share) - 1]


def main() -> int:
    """Measures and records."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--address", default="", help="host:port of refinement; empty installs a release")
    parser.add_argument("--rounds", type=int, default=24)
    parser.add_argument("--no-record", dest="record", action="store_false")
    options = parser.parse_args()
    if not options.address and (reason := missing()):
        print(f"not measured: {reason}")
        return 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.address:
            row = asyncio.run(measure(options.address, Security.from_environment(), options.rounds, folder))
        else:
            with own_release(folder) as (address, security):
                row = asyncio.run(measure(address, security, options.rounds, folder))
    print_table([row])
    if options.record:
        record("sdk_latency", [row], packages=("grpcio", "torch", "transformers"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
