"""A real sequence classifier behind the real service."""

from __future__ import annotations

import asyncio
import json
import math
import os
import random
import signal
import sys
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import torch
from ilf.reward.v1 import reward_service_pb2 as pb
from ilf.reward.v1 import reward_service_pb2_grpc as pb_grpc

from ilf_common.artifacts import ArtifactStore
from ilf_common.engine.prompt_encoder import PromptEncoder
from ilf_common.errors import FailedPreconditionError
from ilf_common.rewards.card import RewardCard, vocabulary_digest, write_card
from ilf_common.rewards.comparisons import Comparison
from ilf_common.rewards.inputs import RewardInputs
from ilf_common.rewards.kinds import RewardLoss
from ilf_common.rewards.transformers_model import TransformersRewardLoader
from ilf_common.rpc.client import ChannelSettings, call, open_channel, stream
from ilf_common.templates import PromptTemplate
from services.reward.adapters.artifact_checkpoints import ArtifactCheckpoints
from services.reward.adapters.json_memory import JsonMemory
from services.reward.models import CompareCall, CompareItem, Limits, ScoreCall, ScoreItem
from services.reward.service import RewardService, Surroundings
from services.reward.shelf import ModelShelf
from tests.fakes.reward import FakeWorld
from tests.tiny_models import build_tiny_model, tiny_sentence, tiny_tokenizer

pytestmark = pytest.mark.engine
ROOT = Path(__file__).resolve().parents[3]


def build_reward_model(folder: Path, *, architecture: str = "llama", chat: bool = False, labels: int = 1) -> Path:
    """A tiny random classifier with statistics, as the trainer publishes it."""
    from transformers import GPT2Config, GPT2ForSequenceClassification, LlamaConfig, LlamaForSequenceClassification

    tokenizer = tiny_tokenizer(chat=chat)
    shared: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "num_labels": labels,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "initializer_range": 0.3,
        "reward_mean": 0.5,
        "reward_std": 2.0,
    }
    with torch.random.fork_rng():
        torch.manual_seed(3)
        if architecture == "llama":
            model: Any = LlamaForSequenceClassification(
                LlamaConfig(
                    hidden_size=32,
                    intermediate_size=64,
                    num_hidden_layers=2,
                    num_attention_heads=2,
                    num_key_value_heads=2,
                    max_position_embeddings=256,
                    **shared,
                )
            )
        else:
            model = GPT2ForSequenceClassification(GPT2Config(n_embd=32, n_layer=2, n_head=2, n_positions=256, **shared))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def texts(count: int) -> list[ScoreItem]:
    lengths = random.Random(5)
    return [
        ScoreItem(str(n), tiny_sentence(n, lengths.randint(1, 60)), tiny_sentence(n + count, lengths.randint(1, 30)))
        for n in range(count)
    ]


@asynccontextmanager
async def service_with(folder: Path, work: Path, limits: Limits) -> AsyncIterator[RewardService]:
    store = ArtifactStore(str(work / "store"))
    store.publish_directory(folder, "rm/a")
    around = FakeWorld()
    with ThreadPoolExecutor(max_workers=1) as executor:
        models = ModelShelf(
            ArtifactCheckpoints(store),
            TransformersRewardLoader(device="cpu", threads=1),
            JsonMemory(work / "models.json"),
            lambda: datetime.now(UTC),
            executor,
            limits,
        )
        await models.start()
        try:
            await models.load("", "a", "rm/a")
            yield RewardService(models, Surroundings(around, around, around))
        finally:
            await models.stop()


@pytest.mark.parametrize(("architecture", "chat"), [("llama", False), ("gpt2", False), ("llama", True)])
async def test_200_texts_score_the_same_alone_and_in_any_batch(tmp_path: Path, architecture: str, chat: bool) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder = build_reward_model(tmp_path / "model", architecture=architecture, chat=chat)
    items = texts(200)

    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    encoder = PromptEncoder(AutoTokenizer.from_pretrained(folder), chat=True)
    alone = {}
    with torch.inference_mode():
        for item in items:
            ids = encoder.encode_prompt(item.context) + encoder.encode_completion(item.output, add_eos=True)
            alone[item.item_id] = float(model(input_ids=torch.tensor([ids])).logits)
    spread = torch.tensor(list(alone.values())).std()
    assert spread > 0.05, "rewards that are all alike would prove nothing"

    shuffled = random.Random(1).sample(items, len(items))
    for limits, order in ((Limits(), items), (Limits(batch_tokens=700, max_batch_size=7), shuffled)):
        async with service_with(folder, tmp_path, limits) as service:
            found = {
                outcome.item_id: outcome.result
                async for group in service.score_batch(ScoreCall(("a",), order))
                for outcome in group
            }
            assert service.models.get("a").card.statistics is not None
        assert found.keys() == alone.keys()
        for name, reward in found.items():
            assert reward is not None and reward.value == pytest.approx(alone[name], abs=1e-4)


async def test_served_rewards_are_those_of_the_trainer(tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from services.finetune.trainer.batching import PairCollator, pair_rows
    from services.finetune.trainer.encoding import encode_pairs

    folder = build_reward_model(tmp_path / "model")
    items = texts(20)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    pairs = [Comparison(n, item.context, item.output, "bad") for n, item in enumerate(items)]
    inputs = RewardInputs(RewardLoss.BRADLEY_TERRY, PromptEncoder(tokenizer, chat=True))
    encoded, _ = encode_pairs(pairs, inputs, max_length=256)
    batch = PairCollator(tokenizer.pad_token_id)(pair_rows(encoded)[:-1])
    with torch.inference_mode():
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits.squeeze(-1)
    chosen = logits[: len(items)].tolist()
    async with service_with(folder, tmp_path, Limits()) as service:
        for item, expected in zip(items, chosen, strict=True):
            assert (await service.score(["a"], item, normalize=False)).value == pytest.approx(expected, abs=1e-3)


def build_asked_model(folder: Path, loss: RewardLoss) -> Path:
    """A tiny random language model that is asked, as the trainer publishes it."""
    build_tiny_model(folder)
    from transformers import AutoTokenizer

    vocabulary = vocabulary_digest(AutoTokenizer.from_pretrained(folder))
    write_card(folder, RewardCard(loss, QUESTIONS[loss], temperature=2.0, vocabulary=vocabulary))
    return folder


QUESTIONS = {
    RewardLoss.YES_NO: PromptTemplate("q", "text {context} answer {candidate} is it good?", "", (" Yes",), (" No",)),
    RewardLoss.A_B: PromptTemplate(
        "q", "text {context} answer {output_a} and {output_b} is it", "", (" better",), (" worse",)
    ),
}


@pytest.mark.parametrize("loss", list(QUESTIONS))
async def test_200_answers_are_those_of_the_trainer_alone_and_in_any_batch(tmp_path: Path, loss: RewardLoss) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from services.finetune.trainer.batching import ItemCollator, item_columns
    from services.finetune.trainer.encoding import answer_items, encode_pairs

    folder = build_asked_model(tmp_path / "model", loss)
    items = texts(200)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    inputs = RewardInputs(loss, PromptEncoder(tokenizer, chat=True), QUESTIONS[loss])
    assert inputs.answers is not None
    pairs = [Comparison(n, item.context, item.output, tiny_sentence(900 + n, 5)) for n, item in enumerate(items)]
    encoded, _ = encode_pairs(pairs, inputs, max_length=512)
    columns = item_columns(answer_items(encoded, inputs.answers, prompt_loss_weight=0.0), tokenizer.pad_token_id)
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)][:-1]
    numbers = []
    for start in range(0, len(rows), 25):
        batch = ItemCollator(tokenizer.pad_token_id)(rows[start : start + 25])
        with torch.inference_mode():
            logprobs = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits.log_softmax(
                -1
            )
        before_answer = batch["attention_mask"].sum(1) - 2
        there = logprobs[torch.arange(len(before_answer)), before_answer]
        numbers += (there[:, inputs.answers[0]] - there[:, inputs.answers[1]]).tolist()
    trained = [(numbers[place], numbers[place + 1]) for place in range(0, len(numbers), 2)]
    assert torch.tensor(numbers).std() > 0.05, "answers that are all alike would prove nothing"

    compared = [CompareItem(str(row.number), row.context, row.chosen, row.rejected) for row in pairs]
    shuffled = random.Random(1).sample(compared, len(compared))
    for limits, order in ((Limits(), compared), (Limits(batch_tokens=700, max_batch_size=7), shuffled)):
        async with service_with(folder, tmp_path, limits) as service:
            found = {
                outcome.item_id: outcome.result
                async for group in service.compare_batch(CompareCall(("a",), order))
                for outcome in group
            }
            assert len(found) == 200
            for place, numbers_of_one in enumerate(trained):
                preference = found[str(place)]
                expected = torch.sigmoid(torch.tensor(inputs.advantage(*numbers_of_one) / 2.0)).item()
                assert preference is not None and preference.probability_a == pytest.approx(expected, abs=1e-4)
            if loss is RewardLoss.YES_NO:
                async for group in service.score_batch(ScoreCall(("a",), items)):
                    for outcome in group:
                        expected = trained[int(outcome.item_id)][0]
                        assert outcome.result is not None
                        assert outcome.result.value == pytest.approx(expected, abs=1e-3)
                        assert outcome.result.probability == pytest.approx(1 / (1 + math.exp(-expected)), abs=1e-3)
            else:
                with pytest.raises(FailedPreconditionError) as caught:
                    await service.score(["a"], items[0], normalize=False)
                assert caught.value.reason == "NO_SCALAR_REWARD"


@pytest.mark.parametrize("flaw", ["classifier", "vocabulary", "more_tokens", "answers", "question"])
def test_what_cannot_be_asked_is_refused(tmp_path: Path, flaw: str) -> None:
    folder = build_asked_model(tmp_path / "model", RewardLoss.YES_NO)
    if flaw == "classifier":
        build_reward_model(folder)
        write_card(folder, RewardCard(RewardLoss.YES_NO, QUESTIONS[RewardLoss.YES_NO]))
    if flaw == "vocabulary":
        tiny_tokenizer(chat=True).save_pretrained(folder)
        content = json.loads((folder / "tokenizer.json").read_text())
        words = content["model"]["vocab"]
        words["good"], words["bad"] = words["bad"], words["good"]
        (folder / "tokenizer.json").write_text(json.dumps(content))
    if flaw == "more_tokens":
        edit_config(folder, reward_vocabulary="")
        tokenizer = tiny_tokenizer()
        tokenizer.add_tokens(["more"])
        tokenizer.save_pretrained(folder)
    if flaw == "answers":
        unknown = replace(QUESTIONS[RewardLoss.YES_NO], positive_answers=(" Ay",), negative_answers=(" Nay",))
        write_card(folder, RewardCard(RewardLoss.YES_NO, unknown))
    if flaw == "question":
        edit_config(folder, reward_question={"text": "{context}"})
    with pytest.raises(FailedPreconditionError) as caught:
        TransformersRewardLoader(device="cpu").load(folder)
    assert caught.value.reason == "CHECKPOINT_UNSUPPORTED"


@pytest.mark.parametrize("flaw", ["labels", "no_pad", "pad_is_eos", "no_head", "not_a_model"])
def test_what_is_no_reward_model_is_refused(tmp_path: Path, flaw: str) -> None:
    if flaw == "no_head":
        folder = build_tiny_model(tmp_path / "model")
        edit_config(folder, num_labels=1, id2label={"0": "LABEL_0"}, label2id={"LABEL_0": 0})
    else:
        folder = build_reward_model(tmp_path / "model", labels=2 if flaw == "labels" else 1)
    if flaw == "no_pad":
        edit_config(folder, pad_token_id=None)
    if flaw == "pad_is_eos":
        edit_config(folder, pad_token_id=2, eos_token_id=2)
    if flaw == "not_a_model":
        (folder / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(FailedPreconditionError) as caught:
        TransformersRewardLoader(device="cpu").load(folder)
    assert caught.value.reason == "CHECKPOINT_UNSUPPORTED"


def edit_config(folder: Path, **values: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@asynccontextmanager
async def process(work: Path) -> AsyncIterator[tuple[asyncio.subprocess.Process, int]]:
    environment = {
        **os.environ,
        "ILF_REWARD__SERVER__PORT": "0",
        "ILF_REWARD__SERVER__METRICS_PORT": "0",
        "ILF_REWARD__STORE__ROOT": str(work / "store"),
        "ILF_REWARD__STATE_DIR": str(work / "state"),
        "ILF_REWARD__MODEL__THREADS": "1",
    }
    running = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.reward", cwd=ROOT, env=environment, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert running.stdout is not None
        async for line in running.stdout:
            if b'"serving"' in line:
                yield running, int(json.loads(line)["address"].rpartition(":")[2])
                break
    finally:
        if running.returncode is None:
            running.kill()
        await running.wait()


async def test_a_process_serves_what_it_served_before_its_restart(tmp_path: Path) -> None:
    ArtifactStore(str(tmp_path / "store")).publish_directory(build_reward_model(tmp_path / "model"), "rm/a")
    request = pb.BatchScoreRequest(
        models=["a"], items=[pb.ScoreItem(item_id=i.item_id, context=i.context, output=i.output) for i in texts(20)]
    )
    seen = []
    for first in (True, False):
        async with process(tmp_path) as (running, port):
            async with open_channel(ChannelSettings(address=f"127.0.0.1:{port}")) as channel:
                stub = pb_grpc.RewardServiceStub(channel)
                if first:
                    await call(stub.LoadRewardModel, pb.LoadRewardModelRequest(name="a", uri="rm/a"), timeout=60)
                messages = [message async for message in stream(stub.BatchScore, request, timeout=60)]
            rewards = {row.item_id: row.result.reward for message in messages for row in message.outcomes}
            assert len(rewards) == 20
            seen.append(rewards)
            running.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(running.wait(), 30) == 0
    assert seen[0] == seen[1]
