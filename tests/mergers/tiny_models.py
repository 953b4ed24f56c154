"""Tiny Llama checkpoints with a tokenizer."""

from __future__ import annotations

from pathlib import Path

import torch


def save_models(
    root: Path,
    *,
    tied: bool,
    dtype: torch.dtype,
    names: tuple[str, ...] = ("base", "one", "two", "three"),
    layers: int = 2,
) -> None:
    """Write `root/NAME` for each of `names`: the first is the base, the others are it plus small noise."""
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
        num_hidden_layers=layers,
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
    for name in names:
        model.to(dtype).save_pretrained(root / name)
        tokenizer.save_pretrained(root / name)
        model.float()
        with torch.no_grad():
            for parameter, first in zip(model.parameters(), start, strict=True):
                parameter.copy_(first + 0.02 * torch.randn(first.shape, generator=generator))
