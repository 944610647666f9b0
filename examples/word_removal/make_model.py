"""Trains the toy model from scratch: `python -m examples.word_removal.make_model --size m --output DIR`.

One small Llama is policy (it echoes), refiner (it follows feedback, with systematic errors) and judge (it says whether
a refinement follows the feedback) in one. The same seed gives the same weights on the same machine with as many
threads.
On one thread of a busy 2-core CPU size "m" took 16 minutes and size "xs" 5; "s" took 40 beside a load of 10 to 18.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase

from examples.word_removal.card import render_card
from examples.word_removal.corpus import LEAVE_RELUCTANT
from examples.word_removal.data import make_contexts
from examples.word_removal.measure import measure_skills, measure_table
from examples.word_removal.task import COMPLIMENTS, INSULTS
from examples.word_removal.tokenizer import MAX_POSITIONS, build_tokenizer
from examples.word_removal.training import Schedule, train

SHIPPED_MODEL = Path(__file__).parent / "model"
"""The model that comes with the repository: size "m", seed 0."""


@dataclass(frozen=True)
class Size:
    """A model's shape and how it is trained."""

    layers: int
    hidden: int
    heads: int
    intermediate: int
    schedule: Schedule


SIZES: dict[str, Size] = {
    "xs": Size(layers=2, hidden=64, heads=2, intermediate=128, schedule=Schedule()),
    "s": Size(layers=3, hidden=96, heads=4, intermediate=192, schedule=Schedule()),
    "m": Size(layers=4, hidden=128, heads=4, intermediate=256, schedule=Schedule()),
}
"""The family. Heads are even in number, half of them to copy and half to suppress: with three, "s" hardly learnt."""
HEAD_DIM = 64
"""Wide heads, because one head has to carry several of the task's words at once."""

_MEASURED_CONTEXTS = 400


def new_model(size: Size, tokenizer: PreTrainedTokenizerBase) -> LlamaForCausalLM:
    """Returns a model of this size with random weights, drawn from torch's global generator."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=size.hidden,
        intermediate_size=size.intermediate,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.heads,
        head_dim=HEAD_DIM,
        max_position_embeddings=MAX_POSITIONS,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.04,
    )
    model = LlamaForCausalLM(config)
    _start_as_copiers(model)
    model.generation_config = GenerationConfig(
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, do_sample=False
    )
    return model


def _start_as_copiers(model: LlamaForCausalLM) -> None:
    """Makes heads look for their own token and copy it, or, in half of the heads, suppress it.

    Copying and leaving out is all that the task needs; from plain random weights it takes several times as many steps.
    """
    heads = model.config.num_attention_heads
    signs = torch.tensor([1.0 if head % 2 == 0 else -1.0 for head in range(heads)]).repeat_interleave(HEAD_DIM)
    with torch.no_grad():
        for layer in model.model.layers:
            attention = layer.self_attn
            torch.nn.init.normal_(attention.q_proj.weight, std=0.06)
            attention.k_proj.weight.copy_(attention.q_proj.weight)
            attention.o_proj.weight.copy_(attention.v_proj.weight.T * signs)


def make_model(name: str, seed: int, output: Path, size: Size | None = None) -> None:
    """Trains a model, measures it and writes it with its card as a Hugging Face directory.

    Args:
        name: The size's name, a key of `SIZES`.
        seed: Seed of weights and data.
        output: Directory to write; made if missing.
        size: Shape and schedule to use instead of the name's own.
    """
    size = size or SIZES[name]
    torch.manual_seed(seed)
    tokenizer = build_tokenizer()
    model = new_model(size, tokenizer)
    _say(f"{model.num_parameters():,} parameters, {len(tokenizer)} tokens")
    start = time.monotonic()
    train(model, tokenizer, size.schedule, seed, _say)
    seconds = time.monotonic() - start
    model.save_pretrained(output)
    tokenizer.save_pretrained(output)
    _say(f"trained in {seconds:.0f} s; measuring")
    card = render_card(
        size=name,
        seed=seed,
        parameters=model.num_parameters(),
        words=len(INSULTS) + len(COMPLIMENTS),
        left_in=LEAVE_RELUCTANT,
        seconds=seconds,
        skills=measure_skills(model, tokenizer, make_contexts("dev", _MEASURED_CONTEXTS)),
        table=measure_table(model, tokenizer),
    )
    (output / "README.md").write_text(card, encoding="utf-8")
    _say(f"wrote {output}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(prog="python -m examples.word_removal.make_model", description=__doc__)
    parser.add_argument("--size", choices=SIZES, default="m", help="the model's size (default: m, the shipped one)")
    parser.add_argument("--seed", type=int, default=0, help="seed of weights and data (default: 0)")
    parser.add_argument("--output", type=Path, required=True, help="directory to write the model into")
    parser.add_argument("--steps", type=int, help="steps of the first phase, instead of the size's own")
    parser.add_argument("--threads", type=int, default=1, help="threads that torch may use (default: 1)")
    options = parser.parse_args(arguments)
    size = SIZES[options.size]
    if options.steps is not None:
        size = replace(size, schedule=replace(size.schedule, steps=options.steps))
    torch.set_num_threads(options.threads)
    make_model(options.size, options.seed, options.output, size)


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    main()
