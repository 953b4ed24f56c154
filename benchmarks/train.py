"""Trainings: start-up, speed and memory against plain TRL, two at once, and a second start with nothing to train.

    python -m benchmarks.train --out benchmarks/results/train.json

Every figure comes from runs in processes of their own, ours and TRL's in turn, and is a median over repetitions. Wall
times hang on what else the machine does; CPU seconds and ratios of neighbouring runs hang on it far less.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

STEPS, WARM, BATCH, LENGTH = 12, 4, 16, 128
TRIAL_STEPS = 36
"""Of trials: two never start at the same moment, and what they do side by side must be most of what they do."""
PARAMETERS = 7_605_440
GOALS = {
    "seconds from fit to the first step": 12.0,
    "tokens per CPU second against plain TRL": 0.9,
    "throughput of two trials against one": 1.6,
    "peak memory beyond 1.2 x plain TRL, MB": 300.0,
    "seconds of a second run with nothing to train": 2.0,
}


def write_world(folder: Path) -> None:
    """A Llama of 7.5 M parameters with a byte vocabulary, and texts of about 90 tokens."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from tests.trainers.tiny import letters, write_base, write_rows

    write_base(folder / "base")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=261,
        hidden_size=320,
        intermediate_size=864,
        num_hidden_layers=6,
        num_attention_heads=5,
        max_position_embeddings=LENGTH,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    model = LlamaForCausalLM(config)
    assert model.num_parameters() == PARAMETERS, model.num_parameters()
    model.save_pretrained(folder / "base")
    rows = [{**row, "response": f"{row['response']} " * 24} for row in letters("alpha", 4 * BATCH)]
    write_rows(folder / "rows.jsonl", rows)


def spec(folder: Path, steps: int = STEPS) -> Any:
    from trainers._types import Source, TrainSpec

    rows = Source("a", "json", (str(folder / "rows.jsonl"),), (), 1.0)
    return TrainSpec(str(folder / "base"), (rows,), steps=steps, batch=BATCH, max_length=LENGTH, dtype="float32")


class Meter:
    """Wall and CPU seconds of this process from step WARM to the last."""

    def __init__(self) -> None:
        self.marks: list[tuple[float, float]] = []

    def __call__(self, *_: Any, **__: Any) -> None:
        """A step has ended."""
        used = resource.getrusage(resource.RUSAGE_SELF)
        self.marks.append((time.monotonic(), used.ru_utime + used.ru_stime))

    def figures(self, tokens: int) -> dict[str, float]:
        """Rates over the steps after the warm-up, `tokens` being those of all steps; peak memory in bytes."""
        share = (STEPS - WARM) / STEPS
        wall, cpu = (self.marks[-1][place] - self.marks[WARM - 1][place] for place in (0, 1))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        return {"tokens_per_s": tokens * share / wall, "tokens_per_cpu_s": tokens * share / cpu, "peak_rss": peak}


def ours(folder: Path, out: Path) -> dict[str, float]:
    """One training in this process, without Ray."""
    from trainers._schema import run_trainer
    from trainers._types import Placement

    meter = Meter()
    run_trainer("sft", spec(folder), out=str(out), work=f"{out}.work", report=meter, placement=Placement(zero=2))
    record = json.loads((out / "training.json").read_text())
    return meter.figures(record["tokens"]["a"]["tokens"])


def plain(folder: Path, out: Path) -> dict[str, float]:
    """The same model, rows and order with TRL alone: no DeepSpeed, its own data preparation."""
    import torch

    torch.set_num_threads(1)
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    from trainers._data import mixture
    from trainers.sft import COLUMNS

    meter = Meter()
    callback = type("Steps", (TrainerCallback,), {"on_step_end": lambda *_, **__: meter()})
    rows = mixture(spec(folder), COLUMNS).rows.remove_columns("group").rename_column("response", "completion")
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(folder / "base", dtype=torch.float32),
        args=SFTConfig(
            output_dir=str(out),
            max_steps=STEPS,
            per_device_train_batch_size=BATCH,
            learning_rate=5e-4,
            max_length=LENGTH,
            bf16=False,
            use_cpu=True,
            activation_checkpointing=False,
            train_sampling_strategy="sequential",
            shuffle_dataset=False,
            dataloader_pin_memory=False,
            logging_steps=1,
            save_strategy="no",
            disable_tqdm=True,
            report_to="none",
        ),
        train_dataset=rows.map(
            lambda row: {
                "prompt": [{"role": "user", "content": row["prompt"]}],
                "completion": [{"role": "assistant", "content": row["completion"]}],
            }
        ),
        processing_class=AutoTokenizer.from_pretrained(folder / "base"),
        callbacks=[callback()],
    )
    trainer.train()
    trainer.save_model(str(out))
    return meter.figures(int(trainer.state.log_history[-2]["num_tokens"]))


def trials(folder: Path, out: Path, *, count: int) -> dict[str, float]:
    """`count` trainings at once as trials of Ray Tune, as a run makes them."""
    import ray

    from cluster.session import session
    from cluster.trials import run_trials
    from tests.cluster.helpers import train_body
    from trainers._types import Placement

    steps: dict[int, dict[int, float]] = {number: {} for number in range(count)}

    def seen(index: int, metrics: Mapping[str, Any]) -> None:
        if "step" in metrics:
            steps[index].setdefault(metrics["step"], time.monotonic())

    configs = [
        {
            "spec": asdict(spec(folder, TRIAL_STEPS)),
            "placement": asdict(Placement(zero=2)),
            "workers": 1,
            "out": str(out / str(number)),
            "work": str(out / "work" / str(number)),
        }
        for number in range(count)
    ]
    with session("local", cpus=2):
        ray.cluster_resources()
        started = time.monotonic()
        outcomes = run_trials(
            partial(train_body, storage=str(out / "train")),
            configs,
            name="train",
            storage=out / "tune",
            resources=[{"CPU": 0}],
            concurrency=count,
            time_limit_s=1200,
            on_report=seen,
        )
    failed = [outcome.error for outcome in outcomes if outcome.error]
    if failed:
        raise SystemExit(str(failed))
    records = [json.loads((out / str(number) / "training.json").read_text()) for number in range(count)]
    tokens = [record["tokens"]["a"]["tokens"] / TRIAL_STEPS for record in records]
    together = max(at[WARM] for at in steps.values()), min(at[TRIAL_STEPS] for at in steps.values())
    taken = [sum(together[0] < at <= together[1] for at in steps[number].values()) for number in range(count)]
    whole = max(at[TRIAL_STEPS] for at in steps.values()) - min(at[WARM] for at in steps.values())
    return {
        "first_step_s": max(at[1] for at in steps.values()) - started,
        # While all of them train; `whole_tokens_per_s` holds the start of those that start later as well.
        "tokens_per_s": sum(each * number for each, number in zip(tokens, taken, strict=True))
        / (together[1] - together[0]),
        "whole_tokens_per_s": sum(tokens) * (TRIAL_STEPS - WARM) / whole,
        "tokens_per_cpu_s": sum(tokens) * TRIAL_STEPS / sum(record["cpu_seconds"] for record in records),
        "peak_rss": max(record["peak_rss_bytes"] for record in records),
    }


def unchanged(folder: Path, out: Path) -> dict[str, float]:
    """`mergefront train` on the demo world (its steps cut to two) once more, as a whole command."""
    import mergefront

    del out
    world, run = folder / "demo", folder / "demo-run"
    command = [
        str(Path(sys.executable).with_name("mergefront")),
        "train",
        str(world / "recipe.yaml"),
        "--out",
        str(run),
    ]

    def train() -> str:
        done = subprocess.run(command, capture_output=True, text=True, timeout=1200, check=True)
        return done.stdout

    if not run.exists():
        mergefront.write_demo(world, candidates=4)
        recipe = world / "recipe.yaml"
        recipe.write_text(recipe.read_text().replace("steps: 60", "steps: 2"))
        train()
    started = time.monotonic()
    said = train()
    seconds = time.monotonic() - started
    if "nothing to train" not in said:
        raise SystemExit(f"there was something to train: {said}")
    return {"second_run_s": seconds}


KINDS: dict[str, Callable[[Path, Path], dict[str, float]]] = {
    "ours": ours,
    "plain": plain,
    "one": partial(trials, count=1),
    "two": partial(trials, count=2),
    "unchanged": unchanged,
}


def measured(kind: str, folder: Path, number: int) -> dict[str, float] | None:
    """One run in a process of its own; None if it failed, with its reason on standard error."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    out = folder / f"{kind}-{number}"
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.train", "--kind", kind, "--world", str(folder), "--out", str(out)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=1800,
        check=False,
    )
    if done.returncode:
        print(f"{kind} failed: {done.stderr[-500:]}", file=sys.stderr, flush=True)
        return None
    found: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    print(kind, found, flush=True)
    return found


def summary(rounds: list[dict[str, dict[str, float] | None]]) -> dict[str, Any]:
    """Medians over the rounds in which all that a figure needs ran, and the goals."""

    def each(kinds: tuple[str, ...], figure: Callable[..., float]) -> list[float]:
        return [figure(*(entry[kind] for kind in kinds)) for entry in rounds if all(entry.get(kind) for kind in kinds)]

    def ratio(key: str) -> Callable[..., float]:
        return lambda top, bottom: float(top[key] / bottom[key])

    found = {
        "seconds from fit to the first step": each(("one",), lambda one: float(one["first_step_s"])),
        "tokens per CPU second against plain TRL": each(("ours", "plain"), ratio("tokens_per_cpu_s")),
        "tokens per second against plain TRL": each(("ours", "plain"), ratio("tokens_per_s")),
        "throughput of two trials against one": each(("two", "one"), ratio("tokens_per_s")),
        "the same with the later one's start": each(("two", "one"), ratio("whole_tokens_per_s")),
        "tokens per CPU second of two trials against one": each(("two", "one"), ratio("tokens_per_cpu_s")),
        "peak memory beyond 1.2 x plain TRL, MB": each(
            ("one", "plain"), lambda one, plain: float(one["peak_rss"] - 1.2 * plain["peak_rss"]) / 1e6
        ),
        "peak memory beyond 1.2 x plain TRL without Ray, MB": each(
            ("ours", "plain"), lambda ours, plain: float(ours["peak_rss"] - 1.2 * plain["peak_rss"]) / 1e6
        ),
        "seconds of a second run with nothing to train": each(("unchanged",), lambda one: float(one["second_run_s"])),
    }
    return {
        name: {"median": statistics.median(values) if values else None, "runs": values, "goal": GOALS.get(name)}
        for name, values in found.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS)
    parser.add_argument("--kind", choices=KINDS)
    parser.add_argument("--world", type=Path)
    given = parser.parse_args()
    if given.kind:
        print(json.dumps(KINDS[given.kind](given.world, given.out)))
        return
    rounds: list[dict[str, dict[str, float] | None]] = []
    loads = []
    rest = ("one", "two", "unchanged")
    with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor(2) as pool:
        folder = Path(name)
        write_world(folder)
        for number in range(given.repetitions):
            loads.append(os.getloadavg()[0])
            # One thread each, at the same time: whatever else the machine does, it does it to both.
            pair = [kind for kind in ("ours", "plain") if kind in given.kinds]
            started = [pool.submit(measured, kind, folder, number) for kind in pair]
            found = {kind: run.result() for kind, run in zip(pair, started, strict=True)}
            rounds.append({**found, **{k: measured(k, folder, number) for k in rest if k in given.kinds}})
            write(given.out, rounds, loads)
    print(json.dumps(summary(rounds), indent=1))


def write(out: Path, rounds: list[dict[str, dict[str, float] | None]], loads: list[float]) -> None:
    """The JSON, after every round."""
    loaded = statistics.median(loads) > 1.5 * (os.cpu_count() or 1)
    result = {
        "machine": {"cpus": os.cpu_count(), "python": platform.python_version(), "platform": platform.platform()},
        "load before each round": loads,
        "note": "other work ran beside this (see the loads): seconds and tokens per second are not those of a free "
        "machine, and only ratios of what ran together and CPU seconds speak of the program; null is not measured"
        if loaded
        else "",
        "setting": {
            "steps": STEPS,
            "steps of trials": TRIAL_STEPS,
            "warm": WARM,
            "batch": BATCH,
            "max_length": LENGTH,
            "parameters": PARAMETERS,
        },
        "summary": summary(rounds),
        "rounds": rounds,
    }
    out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
