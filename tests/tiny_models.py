"""Builds tiny random models as Hugging Face directories, in well under a second and always the same for one seed."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

_WORD_LIST = (
    "the a cat dog bird fish tree house river road small big red blue old new good bad quick slow "
    "runs sleeps eats sees likes finds loses keeps and but not very is was are to of in on with "
    "write summary post text output answer feedback refinement question better worse helpful clear short long "
    "remove word words leave in Yes No yes no Does follow user assistant"
)
WORDS = tuple(_WORD_LIST.split())
"""Every word is one token, and one more with a space in front; anything else becomes the unknown token."""

_MARKS = tuple(".,:?!'\"-\n ")
_PAD, _BOS, _EOS, _UNKNOWN, _TURN_START, _TURN_END = "<pad>", "<bos>", "<eos>", "<unk>", "<|im_start|>", "<|im_end|>"
_CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tiny_tokenizer(*, chat: bool = False) -> Any:
    """A word-level tokenizer that decodes to exactly what it encoded.

    Without `chat` it puts <bos> before a prompt; with it, it has a chat template whose turns end with <|im_end|>.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    specials = [_PAD, _BOS, _EOS, _UNKNOWN, _TURN_START, _TURN_END]
    words = [form for word in dict.fromkeys(WORDS) for form in (word, f" {word}")]
    vocabulary = {token: index for index, token in enumerate([*specials, *_MARKS, *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=_UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r" ?\w+|[^\w\s]|\s"), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    if not chat:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{_BOS} $A", special_tokens=[(_BOS, vocabulary[_BOS])]
        )
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=_PAD,
        bos_token=_BOS,
        eos_token=_EOS,
        unk_token=_UNKNOWN,
        additional_special_tokens=[_TURN_START, _TURN_END],
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )
    if chat:
        wrapped.chat_template = _CHAT_TEMPLATE
    return wrapped


def build_tiny_model(
    directory: Path,
    *,
    chat: bool = False,
    seed: int = 0,
    hidden: int = 64,
    layers: int = 2,
    max_positions: int = 512,
) -> Path:
    """Writes a random float32 Llama (head_dim 32) with its tokenizer to `directory` and returns it.

    The weights are large enough for clear-cut next-token distributions, so that greedy decoding is the same in
    every engine.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = tiny_tokenizer(chat=chat)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 32,
        num_key_value_heads=hidden // 32,
        head_dim=32,
        max_position_embeddings=max_positions,
        initializer_range=0.2,
        tie_word_embeddings=False,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        dtype="float32",
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


def build_tiny_adapter(directory: Path, base: Path, *, seed: int = 0, rank: int = 4) -> Path:
    """Writes a random LoRA adapter of `base`, whose effect on the outputs is plain, and returns `directory`."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base)
    config = LoraConfig(
        r=rank,
        lora_alpha=2 * rank,
        target_modules=["q_proj", "v_proj", "o_proj", "down_proj"],
        init_lora_weights=False,
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        adapted = get_peft_model(model, config)
        for name, parameter in adapted.named_parameters():
            if "lora_" in name:
                torch.nn.init.normal_(parameter, std=0.2)
    adapted.save_pretrained(directory)
    return directory


def tiny_sentence(seed: int, words: int = 8) -> str:
    """A sentence of known words without unknown tokens."""
    return " ".join(random.Random(seed).choices(WORDS, k=words))
