"""Likelihoods and divergences through the real refinement service, against the models' own probabilities."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import torch
from prometheus_client import CollectorRegistry
from transformers import AutoModelForCausalLM, AutoTokenizer

from ilf_client import Arm, AsyncClient, Divergence, Endpoints, EvaluationSpec, Figure
from ilf_common.engine.settings import EngineSettings
from ilf_common.settings import StoreSettings
from services.refinement.settings import RefinementSettings
from services.refinement.wiring import COMPONENT, build
from tests.support import running_server
from tests.tiny_models import build_tiny_model, tiny_sentence

pytestmark = pytest.mark.engine

ROWS = 200


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {name: build_tiny_model(folder / name, seed=seed) for name, seed in (("base", 0), ("policy", 1))}


@pytest.fixture
async def client(tmp_path: Path, models: dict[str, Path]) -> AsyncIterator[AsyncClient]:
    settings = RefinementSettings(
        store=StoreSettings(root=str(tmp_path / "artifacts")),
        state_dir=tmp_path / "state",
        models={name: str(path) for name, path in models.items()},
        engine=EngineSettings(kind="transformers", threads=1),
    )
    service = build(settings, registry=CollectorRegistry())
    await service.start()
    try:
        async with (
            running_server(service.register, component=COMPONENT) as address,
            AsyncClient(Endpoints.at(address)) as client,
        ):
            yield client
    finally:
        await service.stop()


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    rows = [{"id": f"r{k}", "context": tiny_sentence(k), "reference": tiny_sentence(k + ROWS)} for k in range(ROWS)]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def figure(result: Any, measure: str) -> Figure:
    (found,) = [one for one in result.figures if one.measure == measure]
    return found


def next_token_logprobs(path: Path, contexts: list[str]) -> torch.Tensor:
    """(contexts, vocabulary) log-probabilities of the first new token."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(path), AutoTokenizer.from_pretrained(path)
    with torch.no_grad():
        rows = [model(torch.tensor([tokenizer.encode(text)])).logits[0, -1].log_softmax(-1) for text in contexts]
    return torch.stack(rows).double()


async def test_divergences_are_those_of_the_models_next_token(
    client: AsyncClient, models: dict[str, Path], dataset: Path, tmp_path: Path
) -> None:
    spec = EvaluationSpec(
        str(dataset), [Arm("policy", policy="policy")], divergence=Divergence("base", samples=8, max_new_tokens=1)
    )
    result = await client.evaluation.evaluate(spec, tmp_path / "work")

    contexts = [tiny_sentence(k) for k in range(ROWS)]
    logprobs = {name: next_token_logprobs(path, contexts) for name, path in models.items()}
    tokenizer = AutoTokenizer.from_pretrained(models["base"])
    # A special token other than the end leaves no text behind; such a sample cannot be scored, and its row is left out.
    silent = [one for one in tokenizer.all_special_ids if one != tokenizer.eos_token_id]
    for name, sampler, other in (("kl forward", "base", "policy"), ("kl reverse", "policy", "base")):
        weights = logprobs[sampler].exp()
        weights[:, silent] = 0
        gaps = (weights * (logprobs[sampler] - logprobs[other])).sum(-1) / weights.sum(-1)
        found = figure(result, name).estimate
        assert found.n > ROWS / 4
        assert found.value == pytest.approx(float(gaps.mean()), abs=4 * found.standard_error)
        assert found.standard_error < float(gaps.mean()) / 5
    assert figure(result, "kl forward").estimate.value != pytest.approx(figure(result, "kl reverse").estimate.value)


async def test_the_divergence_from_itself_is_nothing(client: AsyncClient, dataset: Path, tmp_path: Path) -> None:
    spec = EvaluationSpec(
        str(dataset), [Arm("base", policy="base")], limit=20, divergence=Divergence("base", max_new_tokens=6)
    )
    result = await client.evaluation.evaluate(spec, tmp_path / "work")
    for name in ("kl forward", "kl reverse"):
        assert figure(result, name).estimate.value == pytest.approx(0, abs=1e-6)


async def test_likelihoods_are_the_models_own(
    client: AsyncClient, models: dict[str, Path], dataset: Path, tmp_path: Path
) -> None:
    spec = EvaluationSpec(str(dataset), [Arm("policy", policy="policy")], limit=30, nll_columns=["reference"])
    result = await client.evaluation.evaluate(spec, tmp_path / "work")
    model = AutoModelForCausalLM.from_pretrained(models["policy"])
    tokenizer = AutoTokenizer.from_pretrained(models["policy"])
    total = 0.0
    for k in range(30):
        prompt = tokenizer.encode(tiny_sentence(k))
        target = [*tokenizer.encode(tiny_sentence(k + ROWS), add_special_tokens=False), tokenizer.eos_token_id]
        with torch.no_grad():
            logprobs = model(torch.tensor([prompt + target])).logits[0].log_softmax(-1)
        total -= sum(float(logprobs[len(prompt) - 1 + i, token]) for i, token in enumerate(target))
    assert figure(result, "nll reference").estimate.value == pytest.approx(total / 30, rel=1e-4)
