"""Tiny real models: random weights, a tokenizer trained here, saved and loaded as any checkpoint is."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

_TEXT = "how to make a cake tell me the date июль помочь étapes कैसे बनाएँ كيف أصنع cannot help with that 7 3"
WORDS = tuple(_TEXT.split(" "))
SPECIAL = ("<pad>", "<s>", "</s>", "<|user|>", "<|assistant|>")
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}<|user|> {{ m['content'] }}"
    "{% else %}<|assistant|> {{ m['content'] }}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SHAPE: dict[str, Any] = {
    "vocab_size": 384,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}

ARCHITECTURES: dict[str, Callable[[], Any]] = {
    "llama": lambda **more: transformers.LlamaConfig(
        **{**SHAPE, **more}, num_key_value_heads=4, tie_word_embeddings=True
    ),
    # Grouped heads, own head, and a window shorter than the sequences.
    "mistral": lambda: transformers.MistralConfig(
        **SHAPE, num_key_value_heads=2, sliding_window=6, tie_word_embeddings=False
    ),
    # Soft-capped logits, alternating windows.
    "gemma2": lambda: transformers.Gemma2Config(**SHAPE, num_key_value_heads=2, head_dim=8, sliding_window=6),
    # Learned positions: padding on the left goes wrong without position ids.
    "gpt2": lambda: transformers.GPT2Config(
        vocab_size=384, n_embd=32, n_layer=2, n_head=4, n_positions=64, bos_token_id=1, eos_token_id=2
    ),
}


def sentences(count: int, seed: int, *, longest: int = 8) -> list[str]:
    """Random prompts of 1 to `longest` words."""
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=draw.randint(1, longest))) for _ in range(count)]


def tokenizer(*, template: bool = True) -> transformers.PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer that takes any text."""
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r" ?[\p{L}\p{M}]+| ?\p{N}| ?[^\s\p{L}\p{M}\p{N}]|\s+"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=384,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator([" " + text for text in sentences(300, 0)], trainer)
    made = transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )
    if template:
        made.chat_template = TEMPLATE
    return made


def write_model(
    folder: Path, architecture: str = "llama", *, seed: int = 0, template: bool = True, **shape: int
) -> Path:
    """A checkpoint whose responses differ between prompts and end after various lengths; `shape`: of a Llama."""
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(ARCHITECTURES[architecture](**shape))
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() == 2:
                weight.mul_(8)  # at the usual scale a random model repeats one token whatever the prompt
        # A long row makes the end token win now and then.
        model.get_output_embeddings().weight[2] *= 2.5
    model.save_pretrained(folder)
    tokenizer(template=template).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session", params=tuple(ARCHITECTURES))
def any_checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One checkpoint per architecture."""
    return write_model(tmp_path_factory.mktemp("models") / request.param, request.param)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama with tied embeddings and a chat template, as the demo's."""
    return write_model(tmp_path_factory.mktemp("models") / "tiny")
