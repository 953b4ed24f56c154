"""Items a second of the transformers engine, against lm-eval's Hugging Face model on the same model, items and batch.

    python -m benchmarks.evaluate --out benchmarks/results/evaluate.json

Both answer the same prompts (short generation), judge the same continuations (likelihoods), and choose among the same
three texts a prompt, in turns within one process, so that other work on the machine falls on both; the first two also
with two worked examples before every prompt (`, shots`), as few-shot tasks have them. Stated are seconds
on the wall and of the processor, the medians over rounds, and the ratio of theirs to ours; answers are compared, so a
fast wrong engine shows. `swap` is what writing a candidate into the live model takes of a whole evaluation, `several`
what evaluating K candidates in one batch gains over one after the other (`_several.py`), `products` what a single
matrix product takes in torch's own way and in the engine's (`_products.py`).

Sizes: `demo` is the demo's model on its own items; a number is a Llama of so many million random parameters in float32
with the demo's tokenizer, whose answers never end.
"""

from __future__ import annotations

import argparse
import io
import json
import logging
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stderr
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from benchmarks._models import make
from benchmarks._products import products
from benchmarks._several import several
from evaluators._items import load_items
from evaluators._transformers import TransformersEngine, transformers_engine
from search.demo.world import write_world
from search.results.history import machine

LANGUAGES = ("en", "hi", "ar", "fr", "es", "ru")
NEW_TOKENS = 16


def timed(call: Callable[[], Any]) -> tuple[Any, float, float]:
    """What the call returns, its seconds on the wall and of the processor."""
    start, busy = time.perf_counter(), time.process_time()
    found = call()
    return found, time.perf_counter() - start, time.process_time() - busy


def model_of(size: str, folder: Path, world: Path) -> Path:
    """The checkpoint of a size, with the demo's tokenizer."""
    if size == "demo":
        return world / "base"
    base, _, _ = make(folder / size, float(size) * 1e6, 0)
    for file in (world / "base").glob("*"):
        if file.suffix != ".safetensors" and file.name != "config.json":
            shutil.copy(file, base / file.name)
    config = json.loads((base / "config.json").read_text())
    ends = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    (base / "config.json").write_text(json.dumps(config | ends))
    return base


def requests_of(kind: str, arguments: list[tuple[Any, ...]]) -> list[Any]:
    from lm_eval.api.instance import Instance

    return [Instance(kind, {}, each, number) for number, each in enumerate(arguments)]


def compare(path: Path, items: list[Any], batch: int, rounds: int) -> dict[str, Any]:
    """Seconds of both on one model."""
    import transformers
    from lm_eval.models.huggingface import HFLM

    prompts = [item.prompt for item in items]
    answers = [item.answer for item in items]
    tokenizer = transformers.AutoTokenizer.from_pretrained(path)

    def render(prompt: str) -> str:
        turns = [{"role": "user", "content": prompt}]
        return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))

    header = "".join(f"{render(prompt)} {answer}" for prompt, answer in zip(prompts[:2], answers[:2], strict=True))
    rendered = [render(prompt) for prompt in prompts]
    shown = [header + text for text in rendered]

    def engine_of(texts: list[str]) -> TransformersEngine:
        widest = max(len(tokenizer(text)["input_ids"]) for text in texts)
        tokens, threads = batch * (widest + NEW_TOKENS), torch.get_num_threads()
        return transformers_engine(str(path), dtype="float32", device="cpu", batch_tokens=tokens, threads=threads)

    engine, wide = engine_of(rendered), engine_of(shown)
    live = transformers.AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
    live.generation_config.max_new_tokens = None  # it would outdo the limit that lm-eval asks for
    theirs = HFLM(
        pretrained=live, tokenizer=tokenizer, batch_size=batch, device="cpu", max_length=engine.context or 2048
    )
    settings = {"until": [], "max_gen_toks": NEW_TOKENS, "do_sample": False}
    others = [answers[(row + 1) % len(answers)] for row in range(len(answers))]
    more = [answers[(row + 2) % len(answers)] for row in range(len(answers))]
    triples = [
        (text, f" {choice}") for text, *three in zip(rendered, answers, others, more, strict=True) for choice in three
    ]

    def asked(engine: TransformersEngine, texts: list[str]) -> tuple[Callable[[], Any], Callable[[], Any]]:
        requests = [(text, settings) for text in texts]
        return (
            lambda: engine.generate(texts, max_new_tokens=NEW_TOKENS, chat=False),
            lambda: theirs.generate_until(requests_of("generate_until", requests)),
        )

    def judged(engine: TransformersEngine, pairs: list[tuple[str, str]]) -> tuple[Callable[[], Any], Callable[[], Any]]:
        return (
            lambda: engine.loglikelihood([head for head, _ in pairs], [tail for _, tail in pairs], chat=False),
            lambda: theirs.loglikelihood(requests_of("loglikelihood", list(pairs))),
        )

    endings = [f" {answer}" for answer in answers]
    tasks = {
        "generate": asked(engine, rendered),
        "loglikelihood": judged(engine, list(zip(rendered, endings, strict=True))),
        "choices": judged(engine, triples),
        "generate, shots": asked(wide, shown),
        "loglikelihood, shots": judged(wide, list(zip(shown, endings, strict=True))),
    }
    found: dict[str, Any] = {
        "items": len(items),
        "batch": batch,
        "parameters": sum(p.numel() for p in live.parameters()),
    }
    for name, both in tasks.items():
        walls: tuple[list[float], list[float]] = ([], [])
        busy: tuple[list[float], list[float]] = ([], [])
        answered: list[Any] = [None, None]
        for turn in range(rounds):
            for side in (0, 1) if turn % 2 else (1, 0):
                with redirect_stderr(io.StringIO()):
                    answered[side], wall, processor = timed(both[side])
                walls[side].append(wall)
                busy[side].append(processor)
        ours, other = (statistics.median(side) for side in walls)
        ours_busy, other_busy = (statistics.median(side) for side in busy)
        found[name] = {
            "ours_s": round(ours, 4),
            "lm_eval_s": round(other, 4),
            "ours_items_per_s": round(len(items) / ours, 1),
            "ratio_wall": round(other / ours, 2),
            "ratio_processor": round(other_busy / ours_busy, 2),
            "agree": agreement(name, *answered),
        }
    return found


def agreement(task: str, ours: list[Any], theirs: list[Any]) -> float:
    """Share of answers that are the same: texts, or log-probabilities to one part in a thousand."""
    if task.startswith("generate"):
        same = [a == b for a, b in zip(ours, theirs, strict=True)]
    else:
        same = [abs(a.logprob - b[0]) <= 1e-3 * max(1.0, abs(b[0])) for a, b in zip(ours, theirs, strict=True)]
    return round(float(sum(same) / len(same)), 4)


def expert(world: Path, seed: int) -> str:
    """The base a little off, as fine-tuning leaves it."""
    folder = world / f"expert-{seed}"
    shutil.copytree(world / "base", folder)
    draws = torch.Generator().manual_seed(seed)
    tensors = load_file(folder / "model.safetensors")
    moved = {name: t + 0.02 * t.std() * torch.randn(t.shape, generator=draws) for name, t in tensors.items()}
    save_file(moved, folder / "model.safetensors", metadata={"format": "pt"})
    return str(folder)


def swap(world: Path, items: list[Any], rounds: int) -> dict[str, Any]:
    """Seconds to write a candidate, and to score the items once with the demo's usual evaluator."""
    from evaluators.exact_match import exact_match
    from mergers._merge import Materializer, Sources
    from mergers._spec import Merge

    engine = transformers_engine(str(world / "base"), dtype="float32", device="cpu")
    weights = engine.weights()
    experts = (expert(world, 1), expert(world, 2))
    materializer = Materializer(Sources(str(world / "base"), experts), weights)
    scorer = exact_match()
    writes, scores = [], []
    for turn in range(rounds + 1):
        share = 0.3 + 0.01 * turn
        merge = Merge("linear", (("weight", (share, 1 - share)),))
        writes.append(timed(partial(materializer.apply, merge))[2])
        scores.append(timed(partial(scorer.score, engine, items))[2])
    write, score = statistics.median(writes[1:]), statistics.median(scores[1:])
    return {
        "items": len(items),
        "swap_s": round(write, 5),
        "score_s": round(score, 4),
        "share": round(write / (write + score), 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["demo", "350"])
    parser.add_argument("--items", type=int, default=600, help="of the demo's model; others take a twelfth")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--together", nargs="*", type=int, default=[48, 480], help="items of several candidates at once"
    )
    parser.add_argument("--out", type=Path, default=None)
    arguments = parser.parse_args()
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    torch.set_num_threads(arguments.threads)
    found: dict[str, Any] = {"machine": machine(), "threads": arguments.threads, "sizes": {}}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_world(folder / "world")
        every = load_items(folder / "world" / "eval" / "general.jsonl", LANGUAGES)
        for size in arguments.sizes:
            count = arguments.items if size == "demo" else max(8, arguments.items // 12)
            chosen = list(every[:: max(1, len(every) // count)][:count])
            batch = arguments.batch if size == "demo" else min(arguments.batch, 8)
            path = model_of(size, folder, folder / "world")
            found["sizes"][size] = compare(path, chosen, batch, arguments.rounds if size == "demo" else 2)
        found["products"] = products(arguments.rounds)
        found["swap"] = swap(folder / "world", list(every), arguments.rounds)
        found["several"] = {
            str(count): several(
                folder / "world" / "base",
                folder / f"adapters-{count}",
                every[:: len(every) // count][:count],
                timed,
                batch_tokens=None,
                rounds=arguments.rounds,
            )
            for count in arguments.together
        }
    text = json.dumps(found, indent=2)
    if arguments.out is not None:
        arguments.out.write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
