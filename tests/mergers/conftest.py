"""Tiny Llama checkpoints with a tokenizer: a base and two experts, tied and untied."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch


def save_models(root: Path, *, tied: bool, dtype: torch.dtype) -> None:
    """Write `root/base`, `root/one` and `root/two`; the experts are the base plus small noise."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    vocabulary = {"<unk>": 0, "<eos>": 1} | {f"w{i}": i for i in range(2, 40)}
    words = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    words.pre_tokenizer = Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>", eos_token="<eos>")
    tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    config = LlamaConfig(
        vocab_size=40,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=32,
        tie_word_embeddings=tied,
        eos_token_id=1,
        bos_token_id=1,
    )
    generator = torch.Generator().manual_seed(3)
    torch.manual_seed(3)
    model = LlamaForCausalLM(config)
    start = [parameter.detach().clone() for parameter in model.parameters()]
    for name in ("base", "one", "two", "three"):
        model.to(dtype).save_pretrained(root / name)
        tokenizer.save_pretrained(root / name)
        model.float()
        with torch.no_grad():
            for parameter, first in zip(model.parameters(), start, strict=True):
                parameter.copy_(first + 0.02 * torch.randn(first.shape, generator=generator))


def _models(tmp_path_factory: pytest.TempPathFactory, *, tied: bool, dtype: torch.dtype) -> Path:
    root = tmp_path_factory.mktemp("models")
    save_models(root, tied=tied, dtype=dtype)
    return root


@pytest.fixture(scope="session")
def tied_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _models(tmp_path_factory, tied=True, dtype=torch.float32)


@pytest.fixture(scope="session")
def untied_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _models(tmp_path_factory, tied=False, dtype=torch.float32)


@pytest.fixture(scope="session")
def bfloat16_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _models(tmp_path_factory, tied=True, dtype=torch.bfloat16)
