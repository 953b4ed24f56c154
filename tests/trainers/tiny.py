"""A tiny Llama with a byte-level tokenizer, and data that it can learn in seconds."""

import json
from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from tokenizers.pre_tokenizers import ByteLevel

from trainers._types import Placement, Source, TrainSpec

PLAIN = Placement(zero=0)

SPECIAL = ("<pad>", "<s>", "</s>", "<|user|>", "<|assistant|>")
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'user' %}<|user|> {{ message['content'] }}"
    "{% else %}<|assistant|> {{ message['content'] }}{{ eos_token }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def write_base(folder: Path, *, template: bool = True, tied: bool = True) -> str:
    """Write the model; returns its path."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    vocabulary = {token: place for place, token in enumerate((*SPECIAL, *sorted(ByteLevel.alphabet())))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        additional_special_tokens=["<|user|>", "<|assistant|>"],
    )
    if template:
        fast.chat_template = TEMPLATE
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=64,
        tie_word_embeddings=tied,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    fast.save_pretrained(folder)
    return str(folder)


def write_rows(file: Path, rows: Sequence[dict[str, object]]) -> str:
    """Write JSON lines; returns the path."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return str(file)


def letters(prefix: str, count: int, languages: Sequence[str] = ("en", "fr")) -> list[dict[str, object]]:
    """Rows whose answer is a function of the prompt's last letter: learnable in a few dozen steps."""
    return [
        {
            "prompt": f"{prefix} {chr(97 + place % 5)}",
            "response": prefix[0] + chr(98 + place % 5),
            "language": languages[place % len(languages)],
        }
        for place in range(count)
    ]


def samples(prefix: str, count: int) -> list[dict[str, object]]:
    """As `letters`, with the answer under its own name too, for rewards."""
    return [{**row, "answer": row["response"]} for row in letters(prefix, count)]


def preferences(prefix: str, count: int) -> list[dict[str, object]]:
    """Pairs: the answer of `letters` is better than one that is always the same."""
    return [
        {"prompt": row["prompt"], "chosen": row["response"], "rejected": "zz", "language": row["language"]}
        for row in letters(prefix, count)
    ]


def source(name: str, file: str, probability: float = 1.0, columns: tuple[tuple[str, str], ...] = ()) -> Source:
    return Source(name=name, path="json", files=(file,), columns=columns, probability=probability)


def spec(base: str, *sources: Source, **changes: object) -> TrainSpec:
    settings: dict[str, object] = {
        "steps": 4,
        "batch": 8,
        "learning_rate": 3e-3,
        "max_length": 32,
        "dtype": "float32",
        **changes,
    }
    return TrainSpec(base=base, sources=sources, **settings)  # type: ignore[arg-type]  # settings are checked by the trainer
