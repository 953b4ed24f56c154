"""Make the committed base of the demo world again: `python -m search.demo.pretrain --out DIR [--steps N]`.

A Llama of 0.56 M parameters is pretrained on the training split of every task (and on all items of the
closed lists) with loss on the answer only. Two flaws are built in, so that a little fine-tuning changes
something:

* language confusion: the answer is in English with a probability of `CONFUSION` by language, +-0.2 by item;
* early refusals: a harmful prompt is refused now and then, a benign one seldom (`REFUSALS`).

The same seed gives the same weights on the same machine and library versions.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from search.demo.items import HARMFUL, LOOKALIKE, RETENTION, DemoItem, all_items
from search.demo.splits import fraction
from search.demo.tokenizer import ASSISTANT, BOS, EOS, PAD, USER, VOCABULARY, train_tokenizer

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

STEPS = 1000
BATCH = 192
SORTED_BATCHES = 16
"""Batches that are drawn together and sorted by length."""
MATRIX_RATE = 8.0e-3
"""Peak learning rate of Muon (hidden matrices), scaled to AdamW's update size."""
OTHER_RATE = 6.0e-3
"""Peak learning rate of AdamW (embedding, norms)."""
WARMUP = 0.05
FLOOR = 0.02
"""Last learning rate over the peak."""

LANGUAGE_SHARES = {"en": 0.22, "hi": 0.13, "ar": 0.14, "fr": 0.18, "es": 0.17, "ru": 0.16}
TASK_SHARES = {
    "howto": 0.13,
    LOOKALIKE: 0.06,
    HARMFUL: 0.08,
    "date": 0.09,
    "count": 0.11,
    "list": 0.09,
    "sum": 0.09,
    "country": 0.08,
    "month": 0.09,
    "number": 0.07,
    "day": 0.07,
    "currency": 0.05,
}
CONFUSION = {"en": 0.0, "fr": 0.38, "es": 0.38, "ru": 0.44, "ar": 0.50, "hi": 0.52}
REFUSALS = {HARMFUL: (0.38, 0.25), LOOKALIKE: (0.14, 0.14), "howto": (0.03, 0.03)}
"""Probability of the early refusal, and how far it varies by item."""


Ids = tuple[int, ...]


@dataclass(frozen=True)
class Lesson:
    """A pretraining item: token ids of the prompt (with its special tokens) and of the possible answers."""

    prompt: Ids
    answer: Ids
    english: Ids
    refusal: Ids
    p_english: float
    p_refusal: float


def pretraining_items() -> tuple[DemoItem, ...]:
    """What the base may see: the train split, and all of the closed lists (`RETENTION`)."""
    return tuple(item for item in all_items() if item.split == "train" or item.task in RETENTION)


def _benign_or_complying(item: DemoItem) -> str:
    return item.other if item.task == HARMFUL else item.answer


def _lessons(tokenizer: PreTrainedTokenizerFast) -> dict[tuple[str, str], list[Lesson]]:
    """Lessons by (task, language)."""
    items = pretraining_items()
    english = {(i.task, i.key): _benign_or_complying(i) for i in items if i.language == "en"}
    texts = list({text: None for i in items for text in (i.prompt, i.answer, i.other)})
    ids_of = dict(zip(texts, map(tuple, tokenizer(texts)["input_ids"]), strict=True))
    cells: dict[tuple[str, str], list[Lesson]] = {}
    for item in items:
        answer = _benign_or_complying(item)
        refusal = item.answer if item.task == HARMFUL else item.other
        ids = [ids_of[text] for text in (item.prompt, answer, english[item.task, item.key], refusal)]
        spread = 0.4 * (fraction("confusion", item.id) - 0.5)
        confusion = max(0.0, CONFUSION[item.language] + spread) if item.language != "en" else 0.0
        mean, width = REFUSALS.get(item.task, (0.0, 0.0))
        lesson = Lesson(
            prompt=(BOS, USER, *ids[0], ASSISTANT),
            answer=(*ids[1], EOS),
            english=(*ids[2], EOS),
            refusal=(*ids[3], EOS),
            p_english=confusion / 2 if refusal else confusion,
            p_refusal=mean + width * (2 * fraction("refusal", item.id) - 1),
        )
        cells.setdefault((item.task, item.language), []).append(lesson)
    return cells


def _draw(
    cells: dict[tuple[str, str], list[Lesson]], steps: int, generator: torch.Generator
) -> Iterator[list[tuple[Ids, Ids]]]:
    """`steps` batches of (prompt, answer); a batch holds prompts of like length, to pad little."""
    names = list(cells)
    shares = torch.tensor([TASK_SHARES[task] * LANGUAGE_SHARES[language] for task, language in names])
    for start in range(0, steps, SORTED_BATCHES):
        batches = min(SORTED_BATCHES, steps - start)
        count = batches * BATCH
        cell = torch.multinomial(shares, count, replacement=True, generator=generator).tolist()
        luck = torch.rand(3, count, generator=generator).tolist()
        drawn = []
        for index, where, english, refused in zip(cell, *luck, strict=True):
            lessons = cells[names[index]]
            lesson = lessons[int(where * len(lessons))]
            if refused < lesson.p_refusal:
                answer = lesson.refusal
            else:
                answer = lesson.english if english < lesson.p_english else lesson.answer
            drawn.append((lesson.prompt, answer))
        drawn.sort(key=lambda pair: len(pair[0]) + len(pair[1]))
        for batch in torch.randperm(batches, generator=generator).tolist():
            yield drawn[batch * BATCH : (batch + 1) * BATCH]


def _tensors(batch: list[tuple[Ids, Ids]]) -> tuple[Tensor, Tensor]:
    """(ids, labels), both (batch, length) int64; labels are -100 outside the answer and already shifted."""
    width = max(len(prompt) + len(answer) for prompt, answer in batch)
    ids = torch.full((len(batch), width), PAD)
    labels = torch.full((len(batch), width), -100)
    for row, (prompt, answer) in enumerate(batch):
        ids[row, : len(prompt) + len(answer)] = torch.tensor(prompt + answer)
        labels[row, len(prompt) - 1 : len(prompt) + len(answer) - 1] = torch.tensor(answer)
    return ids, labels


def new_model(*, seed: int) -> LlamaForCausalLM:
    """An untrained model of the demo's shape, in float32."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=96,
        intermediate_size=288,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=64,
        rope_parameters={"rope_type": "default", "rope_theta": 1000.0},
        tie_word_embeddings=True,
        pad_token_id=PAD,
        bos_token_id=BOS,
        eos_token_id=EOS,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)


def _rate(step: int, steps: int) -> float:
    """Share of the peak learning rate: linear warm-up, cosine to `FLOOR`."""
    warm = max(1, round(WARMUP * steps))
    if step < warm:
        return (step + 1) / warm
    return FLOOR + (1 - FLOOR) * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm))) / 2


def pretrain(
    *, steps: int = STEPS, seed: int = 0, log: bool = False
) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    """The trained base (float32) and its tokenizer."""
    items = pretraining_items()
    tokenizer = train_tokenizer(text for i in items for text in (i.prompt, i.answer, i.other) if text)
    cells = _lessons(tokenizer)
    model = new_model(seed=seed)
    generator = torch.Generator().manual_seed(seed)
    # Muon on the hidden matrices: at equal steps it reaches a far lower loss than AdamW here, for a tenth
    # more time.
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    others = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
    optimizers = (
        torch.optim.Muon(matrices, lr=MATRIX_RATE, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=OTHER_RATE, betas=(0.9, 0.98), weight_decay=0.0),
    )
    peaks = (MATRIX_RATE, OTHER_RATE)
    started = time.perf_counter()
    model.train()
    for step, batch in enumerate(_draw(cells, steps, generator)):
        ids, labels = _tensors(batch)
        # No attention mask: padding is on the right, so causal attention never looks at it.
        hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state
        scored = labels != -100
        loss = functional.cross_entropy(model.lm_head(hidden[scored]), labels[scored])
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, peak in zip(optimizers, peaks, strict=True):
            optimizer.param_groups[0]["lr"] = peak * _rate(step, steps)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        if log and (step % 50 == 0 or step == steps - 1):
            print(f"step {step:5d}  loss {loss.item():.3f}  {time.perf_counter() - started:6.1f} s", flush=True)
    return model.eval(), tokenizer


def fingerprint() -> str:
    """Digest of what the base may see. It changes when a word or a split does: then the base must be made again."""
    return hashlib.sha256("\n".join(sorted(item.id for item in pretraining_items())).encode()).hexdigest()


def save_base(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, out: Path, *, steps: int, seed: int) -> None:
    """Write the base in bfloat16 (half the bytes in the repository) and `pretraining.json`, how it was made."""
    from transformers import GenerationConfig

    model.generation_config = GenerationConfig(
        do_sample=False, max_new_tokens=32, pad_token_id=PAD, bos_token_id=BOS, eos_token_id=EOS
    )
    model.to(torch.bfloat16).save_pretrained(out)
    tokenizer.save_pretrained(out)
    record = {"steps": steps, "batch": BATCH, "seed": seed, "items": fingerprint()}
    (out / "pretraining.json").write_text(json.dumps(record, indent=2) + "\n")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Pretrain the base model of the demo world.")
    parser.add_argument("--out", type=Path, required=True, help="directory to write")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    model, tokenizer = pretrain(steps=arguments.steps, seed=arguments.seed, log=True)
    save_base(model, tokenizer, arguments.out, steps=arguments.steps, seed=arguments.seed)


if __name__ == "__main__":
    main()
