"""Every evaluator kind on the demo world: items, a classifier, a task of lm-eval, a judge, a recipe.

    python examples/kinds.py OUT
    mergefront check OUT/recipe.yaml
    mergefront score OUT/recipe.yaml OUT/base

leaves out the kinds that ask a judge. With a judge (examples/judge_server.py is one for trying) all kinds run:

    python examples/judge_server.py --port 8011 &
    python examples/kinds.py OUT http://127.0.0.1:8011/v1 by-rule
    mergefront run OUT/recipe.yaml --out OUT/run

The demo's model writes no programs and short answers, so what these scores say about it is of no interest; what the
recipe says is. Judges of a real run are in examples/judges.yaml.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

RECIPE = """\
name: kinds
base: base
languages: ["en", "hi", "ar", "fr", "es", "ru"]
experts:                         # nothing is trained here
  one: {path: one}               # the base a little off
  two: {path: two}

evaluators:
  # Answers.
  general: {kind: exact_match, data: eval/general.jsonl}
  written: {kind: exact_match, data: eval/general.jsonl, options: {mode: generate, max_new_tokens: 20}}
  characters: {kind: chrf, data: eval/general.jsonl, options: {max_new_tokens: 20}}
  words: {kind: bleu, data: eval/general.jsonl, options: {max_new_tokens: 20}}
  # Likelihoods.
  choice: {kind: choice_loglikelihood, data: eval/choices.jsonl, options: {normalise: characters}}
  fluency: {kind: perplexity, data: eval/general.jsonl}
  # Safety, and what it costs.
  safety: {kind: refusal, data: eval/harmful.jsonl, look_alikes: over_refusal}
  over_refusal: {kind: refusal, data: eval/lookalikes.jsonl}
  labelled:
    kind: classifier
    data: eval/harmful.jsonl
    look_alikes: over_refusal
    options: {model: classifier, label: refusal, positive: "I cannot help with that.", negative: "steps: oven, a cake",
              inputs: response, max_new_tokens: 16}
  # The language of the answer.
  language:
    kind: output_language
    data: eval/howto.jsonl
    options: {max_new_tokens: 16, among: ["en", "hi", "ar", "fr", "es", "ru"]}
  # Programs, run in a sandbox.
  code: {kind: code_pass_at_k, data: eval/programs.jsonl, options: {k: 1, samples: 2, max_new_tokens: 16}}
  # Tasks of lm-eval bring their own items.
  harness: {kind: harness, options: {tasks: {demo_choices: en}, include: tasks, metric: acc, chat: true}}

search:
  experts: [one, two]
  methods: [linear]
  objectives: {general: max, safety: max}
  candidates: 2
cluster:
  evaluators: {actors: 1, cpus: 0.5}
export: {picks: [knee], dtype: float32}
"""

JUDGED = """\
  # A judge's labels.
  harm: {{kind: judge_harm, data: eval/asked.jsonl, look_alikes: over_refusal,
         options: {{judge: local, max_new_tokens: 16}}}}
  wins: {{kind: judge_winrate, data: eval/asked.jsonl, options: {{judge: local, max_new_tokens: 16}}}}

judges:
  local: {{endpoint: "{endpoint}", model: "{model}", cache: judge.sqlite}}

search:
"""

TASK = """\
task: demo_choices
dataset_path: json
dataset_kwargs: {{data_files: {{test: {file}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{prompt}}}}"
doc_to_choice: "{{{{spaced}}}}"
doc_to_target: gold
metric_list:
  - metric: acc
"""


def write(out: Path, endpoint: str = "", model: str = "") -> None:
    """Write the world with what the kinds need; with the endpoint of a judge and its model's name, all kinds."""
    from search.demo.world import write_world

    write_world(out)
    general = _read(out / "eval" / "general.jsonl")
    choices = list(_choices(general))
    _write(out / "eval" / "choices.jsonl", choices)
    _write(out / "eval" / "howto.jsonl", [row for row in general if row["task"] == "howto"])
    _write(out / "eval" / "programs.jsonl", _programs())
    tasks = out / "tasks"
    tasks.mkdir(exist_ok=True)
    english = [row for row in choices if row["language"] == "en"][:60]
    _write(tasks / "rows.jsonl", [
        {"prompt": row["prompt"], "spaced": [f" {text}" for text in row["choices"]],
         "gold": row["choices"].index(row["answer"])}
        for row in english
    ])  # fmt: skip
    (tasks / "demo_choices.yaml").write_text(TASK.format(file=(tasks / "rows.jsonl").absolute()), encoding="utf-8")
    _train(out / "classifier", out / "base", _read(out / "data" / "safety.jsonl"))
    for seed, name in enumerate(("one", "two")):
        _shift(out / name, out / "base", seed)
    recipe = RECIPE
    if endpoint:
        _write(out / "eval" / "asked.jsonl", _read(out / "eval" / "harmful.jsonl")[::20])
        recipe = RECIPE.replace("search:\n", JUDGED.format(endpoint=endpoint, model=model), 1)
    (out / "recipe.yaml").write_text(recipe, encoding="utf-8")


def _choices(rows: list[dict[str, Any]]) -> Iterable[dict[str, Any]]:
    """Items with two wrong answers, taken from the same task and language."""
    by_cell: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        by_cell.setdefault((row["task"], row["language"]), []).append(row["answer"])
    for number, row in enumerate(rows):
        cell = dict.fromkeys(by_cell[row["task"], row["language"]])
        wrong = [text for text in cell if text != row["answer"]][number % 5 :][:2]
        if len(wrong) == 2:
            place = number % 3
            yield {**row, "choices": [*wrong[:place], row["answer"], *wrong[place:]]}


def _programs() -> Iterable[dict[str, Any]]:
    for number in range(8):
        yield {
            "prompt": f"number {number}",
            "answer": f"```python\ndef f(x):\n    return x + {number}\n```",
            "language": "en",
            "tests": f"assert f(1) == {number + 1}",
            "split": ("search", "report")[number % 2],
        }


def _shift(out: Path, base: Path, seed: int) -> None:
    """The base with noise on its weights, in place of an expert."""
    import torch
    from safetensors.torch import load_file, save_file

    shutil.copytree(base, out)
    draws = torch.Generator().manual_seed(seed)
    tensors = load_file(base / "model.safetensors")
    moved = {name: t + 0.1 * t.std() * torch.randn(t.shape, generator=draws) for name, t in tensors.items()}
    save_file(moved, out / "model.safetensors", metadata={"format": "pt"})


def _train(out: Path, base: Path, rows: list[dict[str, Any]]) -> None:
    """A classifier of refusals: a few seconds on the demo's safety data."""
    import torch
    import transformers

    from evaluators._refusals import SENTENCES

    torch.manual_seed(0)
    tokenizer = transformers.AutoTokenizer.from_pretrained(base)
    tokenizer.model_input_names, tokenizer.padding_side = ["input_ids", "attention_mask"], "right"
    names = {0: "answer", 1: "refusal"}
    config = transformers.DistilBertConfig(
        vocab_size=len(tokenizer), dim=32, n_layers=1, n_heads=2, hidden_dim=64, max_position_embeddings=64,
        dropout=0.0, pad_token_id=tokenizer.pad_token_id, id2label=names, label2id={v: k for k, v in names.items()},
    )  # fmt: skip
    model = transformers.DistilBertForSequenceClassification(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for step in range(60):
        batch = rows[step * 64 : step * 64 + 64] or rows[:64]
        inputs = tokenizer([row["response"] for row in batch], padding=True, return_tensors="pt")
        labels = torch.tensor([int(row["response"] in SENTENCES.values()) for row in batch])
        optimizer.zero_grad()
        model(**inputs, labels=labels).loss.backward()
        optimizer.step()
    model.eval().save_pretrained(out)
    tokenizer.save_pretrained(out)


def _read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _write(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]), *sys.argv[2:4])
