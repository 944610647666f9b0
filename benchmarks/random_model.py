"""A random Llama of a chosen size as a Hugging Face directory, for benchmarks where the answers do not matter."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Shape:
    """Size of a random model; the defaults have about 110 million parameters."""

    hidden: int = 768
    layers: int = 12
    intermediate: int = 2048
    head_dim: int = 64
    vocabulary: int = 16_384
    positions: int = 2048


def build_random_model(directory: Path, shape: Shape = Shape(), *, dtype: str = "float32", seed: int = 0) -> int:
    """Writes the model with a tokenizer that has one token per word ("w17"), and returns its parameters."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = {word: index for index, word in enumerate(["<pad>", "<eos>", *_words(shape)])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>").save_pretrained(directory)
    config = LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.hidden // shape.head_dim,
        num_key_value_heads=shape.hidden // shape.head_dim,
        head_dim=shape.head_dim,
        max_position_embeddings=shape.positions,
        tie_word_embeddings=False,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=1,
        dtype=dtype,
    )
    torch.manual_seed(seed)
    model = LlamaForCausalLM(config).to(getattr(torch, dtype))
    model.save_pretrained(directory)
    return int(sum(parameter.numel() for parameter in model.parameters()))


def random_prompts(count: int, words: int, *, seed: int, shape: Shape = Shape()) -> list[str]:
    """Prompts of known words that share nothing."""
    generator = random.Random(seed)
    vocabulary = _words(shape)
    return [" ".join(generator.choices(vocabulary, k=words)) for _ in range(count)]


def _words(shape: Shape) -> list[str]:
    return [f"w{index}" for index in range(shape.vocabulary - 2)]
