"""Options and items for the contract tests, of kinds that need some of their own; a new kind without needs is not here.

The base's answers (the demo's model) serve as responses, a classifier is trained here, a task of lm-eval is written.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers

from evaluators._types import Item

DEMO = Path(__file__).parents[2] / "search" / "demo" / "base"
SAFE = ("steps: oven, cake", "July 5", "étapes : four, gâteau", "two lamps and a car", "1 , 2 , 3", "thirty-three", "")
REFUSED = ("I cannot help with that.", "Je ne peux pas aider avec cela.", "No puedo ayudar con eso.")

BANK = {
    "en": ("number", "two three four five six seven"),
    "hi": ("संख्या", "दो तीन चार पाँच छह सात"),
    "ar": ("عدد", "اثنان ثلاثة أربعة خمسة ستة سبعة"),
    "fr": ("nombre", "deux trois quatre cinq six sept"),
    "es": ("número", "dos tres cuatro cinco seis siete"),
    "ru": ("число", "два три четыре пять шесть семь"),
}
"""Language -> how the demo's prompts ask for a number, and the answers from 2 on."""


def items() -> list[Item]:
    """Six languages with answers, choices, and groups of one number."""
    found = []
    for language, (asked, said) in BANK.items():
        words = said.split()
        for number, word in enumerate(words, 2):
            # The right one at every place.
            choices = tuple(words[(number - 2 + shift) % 6] for shift in ((0, 1, 2), (1, 0, 3), (4, 5, 0))[number % 3])
            prompt = f"{asked} {number}"
            found.append(Item(f"{language}{number}", prompt, word, language, str(number), "", "search", choices))
    return found


def programs() -> list[Item]:
    """Items whose answers are programs."""
    return [
        Item(str(row), f"number {row}", f"def f(x):\n    return x + {row}", "en", str(row), "", "search",
             tests=f"assert f(2) == {row + 2}")
        for row in range(3)
    ]  # fmt: skip


def sequence_classifier(folder: Path) -> Path:
    """A tiny classifier of refusals, trained for a second."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(DEMO)
    torch.manual_seed(0)
    names = {0: "answer", 1: "refusal"}
    config = transformers.DistilBertConfig(
        vocab_size=len(tokenizer), dim=32, n_layers=1, n_heads=2, hidden_dim=32, max_position_embeddings=64,
        dropout=0.0, pad_token_id=tokenizer.pad_token_id, id2label=names,
        label2id={name: key for key, name in names.items()},
    )  # fmt: skip
    model = transformers.DistilBertForSequenceClassification(config)
    inputs = tokenizer([*SAFE, *REFUSED], padding=True, return_tensors="pt")
    inputs = {name: inputs[name] for name in ("input_ids", "attention_mask")}
    labels = torch.tensor([0] * len(SAFE) + [1] * len(REFUSED))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(40):
        optimizer.zero_grad()
        model(**inputs, labels=labels).loss.backward()
        optimizer.step()
    model.eval().save_pretrained(folder)
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    tokenizer.save_pretrained(folder)
    return folder


def task_folder(folder: Path) -> Path:
    """Three tasks of lm-eval with local data: two of choices by likelihood, and generation until a line ends."""
    rows = []
    for number, item in enumerate(items()):
        # A wrong answer now and then, for the model makes few mistakes here.
        gold = (item.choices.index(item.answer) + (number % 4 == 3)) % 3
        spaced = [f" {choice}" for choice in item.choices]
        rows.append(
            {"q": item.prompt, "choices": item.choices, "spaced": spaced, "gold": gold, "a": item.choices[gold]}
        )
    folder.mkdir(exist_ok=True)
    data = folder / "rows.jsonl"
    data.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    source = f"dataset_path: json\ndataset_kwargs: {{data_files: {{test: {data}}}}}\ntest_split: test\n"
    for name, column in (("demo_choose", "choices"), ("demo_spaced", "spaced")):
        (folder / f"{name}.yaml").write_text(
            f"task: {name}\n{source}output_type: multiple_choice\ndoc_to_text: '{{{{q}}}}'\ndoc_to_target: gold\n"
            f"doc_to_choice: '{{{{{column}}}}}'\nmetric_list:\n  - metric: acc\n  - metric: acc_norm\n",
            encoding="utf-8",
        )
    (folder / "write.yaml").write_text(
        f"task: demo_write\n{source}output_type: generate_until\ndoc_to_text: '{{{{q}}}}'\ndoc_to_target: '{{{{a}}}}'\n"
        "generation_kwargs: {until: ['\\n'], max_gen_toks: 12, do_sample: false}\n"
        "metric_list:\n  - metric: exact_match\n"
        "filter_list: [{name: none, filter: [{function: remove_whitespace}, {function: take_first}]}]\n",
        encoding="utf-8",
    )
    return folder


OPTIONS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "classifier": lambda folder: {
        "model": str(sequence_classifier(folder / "classifier")),
        "label": "refusal",
        "positive": REFUSED[0],
        "inputs": "response",
        "max_new_tokens": 12,
    },
    "harness": lambda folder: {"tasks": {"demo_choose": "en"}, "include": str(task_folder(folder / "tasks"))},
    # The demo's context is 64 tokens.
    "chrf": lambda _: {"max_new_tokens": 12},
    "bleu": lambda _: {"max_new_tokens": 12},
    "output_language": lambda _: {"max_new_tokens": 12, "among": list(BANK)},
    "code_pass_at_k": lambda _: {"max_new_tokens": 12},
}
ITEMS: dict[str, Callable[[], list[Item]]] = {"code_pass_at_k": programs}
