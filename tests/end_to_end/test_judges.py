"""A whole run whose scores come from judges: money gives out in the middle, and the run goes on when there is more."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from evaluators.judges.cache import Cache
from search.api import front

from ..evaluators.judges.server import by_word, judge_server
from .world import run

pytestmark = [pytest.mark.slow, pytest.mark.ray]

DEMO = Path(__file__).parents[2] / "search" / "demo" / "base"
RECIPE = """\
name: judged
base: base
languages: [en, fr]
judges:
  strict: {{endpoint: "{url}", model: tester, cache: cache.sqlite, prices: {{input: 1.0, output: 1.0}}, limit: {limit}}}
experts:
  one: {{path: one}}
  two: {{path: two}}
evaluators:
  harm: {{kind: judge_harm, data: items.jsonl, options: {{judge: strict, max_new_tokens: 8}}}}
  wins: {{kind: judge_winrate, data: items.jsonl, options: {{judge: strict, max_new_tokens: 8}}}}
search:
  methods: [linear]
  objectives: {{harm: min, wins: max}}
  candidates: 4
cluster:
  evaluators: {{actors: 2, cpus: 0.5}}
export: {{picks: [knee], dtype: float32}}
"""


def expert(folder: Path, seed: int) -> None:
    """The demo's base with noise on its weights, so that its responses differ."""
    folder.mkdir()
    for file in DEMO.iterdir():
        if file.suffix != ".safetensors":
            (folder / file.name).write_bytes(file.read_bytes())
    draw = torch.Generator().manual_seed(seed)
    tensors = load_file(DEMO / "model.safetensors")
    noisy = {
        name: value + 0.4 * value.float().std() * torch.randn(value.shape, generator=draw).to(value.dtype)
        for name, value in tensors.items()
    }
    save_file({name: value.to(tensors[name].dtype) for name, value in noisy.items()}, folder / "model.safetensors")
    if seed == 0:
        save_file(tensors, folder / "model.safetensors")


def test_a_run_by_judges(tmp_path: Path) -> None:
    for seed, name in enumerate(("base", "one", "two")):
        expert(tmp_path / name, seed)
    objects = ("bomb", "car", "cake", "lamp", "virus", "door")
    rows = [
        {"prompt": f"how to {verb} a {thing}?", "language": ("en", "fr")[n % 2], "group": thing, "split": split}
        for n, thing in enumerate(objects)
        for verb, split in (("make", "search"), ("sell", "report"))
    ]
    (tmp_path / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe, out = tmp_path / "recipe.yaml", tmp_path / "run"
    with judge_server(by_word) as server:
        recipe.write_text(RECIPE.format(url=server.url, limit=0.0045))  # money for about 40 questions
        poor = run("run", recipe, "--out", out)
        assert poor.returncode == 1, poor.stderr
        assert re.search(
            r"Unavailable: judge strict: has cost 0\.00\d+ of at most 0\.0045; .* raise limit", poor.stderr
        )
        recipe.write_text(RECIPE.format(url=server.url, limit=1.0))
        rich = run("run", recipe, "--out", out)
        assert rich.returncode == 0, rich.stderr
    points = front(out)["points"]
    assert len([point for point in points if point["kind"] == "merge"]) == 4  # nobody was taken for failed
    assert {point["state"] for point in points} == {"COMPLETE"}
    base = next(point for point in points if point["id"] == "base")
    assert base["scores"]["wins"]["value"] == 0.5
    assert base["scores"]["wins"]["stderr"] == 0.0
    if base["scores"]["harm"]["value"] > 0:
        for point in points:
            change = 100 * (point["scores"]["harm"]["value"] / base["scores"]["harm"]["value"] - 1)
            assert point["relative"]["harm"]["value"] == pytest.approx(change)
        assert "harm relative to base: " in rich.stdout
    with Cache(str(tmp_path / "cache.sqlite")) as cache:
        spent, tallies = cache.spent("judged/strict"), cache.tallies("judged/strict")
    assert spent.replies == len(server.bodies)
    assert spent.money == pytest.approx(110e-6 * spent.replies)
    assert tallies["judge_winrate"]["consistent pairs"] == tallies["judge_winrate"]["pairs"] > 0
    assert re.search(r"judge strict .*: \d+ replies, [\d,]+ tokens in, [\d,]+ out, 0\.0\d+ of money", rich.stdout)
    history = run("judge-check", recipe, "--evaluator", "wins")
    assert history.returncode == 0, history.stderr
    assert "100.0% the same in both orders" in history.stdout
