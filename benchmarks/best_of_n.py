"""Best of 64 over a dataset beside its generation alone.

`python -m benchmarks.best_of_n` starts the refinement service with the word-removal model and the reward service with a
classifier of that model's shape, as processes of their own. `best_of_n` of the SDK (sampling, scoring, choosing, all
kept on the disk) takes turns with a bare `BatchGenerate` of the same number of samples for the same contexts. Exit code
1 when the median of the ratios of their times is over the limit.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.recording import print_table, record
from benchmarks.serving import serving
from examples.word_removal.data import write_datasets
from ilf_client import AsyncClient, Endpoints, GenerateItem, SamplingParams
from ilf_client.evaluation.best_of_n import best_of_n
from ilf_client.models.evaluation import BestOfNSpec
from ilf_common.artifacts import ArtifactStore
from ilf_common.templates import PromptTemplate, load_template

LIMIT = 1.1
EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "word_removal"
POLICY, REWARD = "word-removal", "benchmark"
NEW_TOKENS = 24


async def main() -> int:
    """Measures and writes down; answers the exit code."""
    arguments = _arguments()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        build_reward_model(folder / "reward")
        ArtifactStore(f"{name}/artifacts").publish_directory(folder / "reward", REWARD)
        shared = {"STORE__ROOT": f"{name}/artifacts"}
        models = {POLICY: str(EXAMPLE / "model")}
        refinement = {**shared, "STATE_DIR": f"{name}/refinement", "MODELS": json.dumps(models)}
        with (
            serving("refinement", {**refinement, "ENGINE__KIND": "transformers"}) as refining,
            serving("reward", {**shared, "STATE_DIR": f"{name}/reward-state"}) as rewarding,
        ):
            async with AsyncClient(Endpoints(refinement=refining, reward=rewarding)) as client:
                await client.reward.load(REWARD, REWARD)
                row = await measure(client, folder, arguments)
    print_table([row])
    if arguments.record:
        record("best_of_n", [row], packages=("torch", "transformers", "grpcio"))
    return int(row["ratio"] > LIMIT)


async def measure(client: AsyncClient, folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """One row: seconds of both, and the median of the rounds' ratios."""
    template = load_template(EXAMPLE / "templates" / "policy.yaml")
    whole: list[float] = []
    alone: list[float] = []
    for number in range(arguments.rounds + 1):
        prompts = arguments.prompts if number else 8
        place = folder / f"round-{number}"
        place.mkdir()
        write_datasets(place, {"test": prompts}, seed=number)
        seconds: dict[bool, float] = {}
        for choosing in (True, False) if number % 2 else (False, True):
            started = time.perf_counter()
            if choosing:
                await chosen(client, place, template, arguments.n, seed=number)
            else:
                await generated(client, contexts(place / "test.jsonl"), template, arguments.n)
            seconds[choosing] = time.perf_counter() - started
        if number:
            whole.append(seconds[True])
            alone.append(seconds[False])
            print(f"round {number}: {whole[-1]:.1f} s, generation alone {alone[-1]:.1f} s", flush=True)
    ratios = [one / other for one, other in zip(whole, alone, strict=True)]
    return {
        "prompts": f"{arguments.prompts} x {arguments.n} samples",
        "best_of_n s": round(statistics.median(whole), 1),
        "BatchGenerate s": round(statistics.median(alone), 1),
        "ratio": round(statistics.median(ratios), 3),
        "least ratio": round(min(ratios), 3),
        "greatest ratio": round(max(ratios), 3),
    }


async def chosen(client: AsyncClient, folder: Path, template: PromptTemplate, n: int, *, seed: int) -> None:
    """The best of N for every context."""
    spec = BestOfNSpec(
        dataset=str(folder / "test.jsonl"),
        policy=POLICY,
        n=n,
        sampling=SamplingParams(max_new_tokens=NEW_TOKENS),
        template=template,
        seed=seed,
        reward_models=(REWARD,),
    )
    result = await best_of_n(client, spec, folder / "work")
    if result.dropped:
        raise RuntimeError(f"rows without a choice: {dict(result.dropped)}")


async def generated(client: AsyncClient, texts: Sequence[str], template: PromptTemplate, n: int) -> None:
    """The samples alone."""
    items = [GenerateItem(str(number), text, number) for number, text in enumerate(texts)]
    sampling = SamplingParams(n=n, max_new_tokens=NEW_TOKENS)
    async for outcome in client.batch_generate(POLICY, items, sampling=sampling, template=template):
        outcome.unwrap()


def contexts(file: Path) -> list[str]:
    """The contexts of a dataset."""
    return [json.loads(line)["context"] for line in file.read_text(encoding="utf-8").splitlines()]


def build_reward_model(folder: Path) -> None:
    """Writes the word-removal model with a scoring head of random weights."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    torch.manual_seed(1)
    model = AutoModelForSequenceClassification.from_pretrained(EXAMPLE / "model", num_labels=1)
    model.config.problem_type = "regression"
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(EXAMPLE / "model").save_pretrained(folder)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=500)
    parser.add_argument("--n", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-record", dest="record", action="store_false")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
