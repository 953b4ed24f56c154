"""Several candidates in one pass answer what each answers alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from evaluators._engine import Sampling
from evaluators._errors import InputError
from evaluators._several import Adapters, Candidates, Stacked
from evaluators._transformers import TransformersEngine, transformers_engine
from evaluators._types import Evaluator, Item
from evaluators.choice_loglikelihood import choice_loglikelihood
from evaluators.exact_match import exact_match
from evaluators.refusal import refusal

from .conftest import sentences, write_model

K, LIMIT = 3, 8
PROMPTS = sentences(24, 41)
DEMO = Path(__file__).parents[2] / "search" / "demo" / "base"
SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("llama", "mistral", "gemma2")]
Case = tuple[Path, Candidates, list[dict[str, Tensor]]]


def engine_of(path: Path, **options: Any) -> TransformersEngine:
    return transformers_engine(str(path), dtype="float32", device="cpu", **options)


def adapters(path: Path) -> Case:
    """Two LoRA experts of ranks 2 and 3 on the layers' matrices, and candidates as their weights."""
    draw = torch.Generator().manual_seed(8)
    base = load_file(path / "model.safetensors")
    names = [name for name in base if name.endswith(("q_proj.weight", "down_proj.weight", "o_proj.weight"))]
    weights = torch.tensor([[0.0, 0.0], [1.0, 0.5], [-0.4, 1.2]])
    factors, scales = {}, {}
    for name in names:
        out, into = base[name].shape
        factors[name] = torch.randn(5, into, generator=draw), torch.randn(out, 5, generator=draw) * 0.3
        scales[name] = weights[:, [0, 0, 1, 1, 1]]
    merged = []
    for k in range(K):
        tensors = dict(base)
        for name, (a, b) in factors.items():
            tensors[name] = base[name] + (b * scales[name][k]) @ a
        merged.append(tensors)
    return path, Adapters(factors, scales), merged


def stacked(path: Path, tmp: Path, architecture: str) -> Case:
    every = [load_file(path / "model.safetensors")]
    for seed in range(1, K):
        every.append(load_file(write_model(tmp / str(seed), architecture, seed=seed) / "model.safetensors"))
    live = engine_of(path).weights()
    return path, Stacked({name: torch.stack([one[name] for one in every]) for name in live}), every


def noisy(path: Path) -> Case:
    """The demo's base, which answers and ends, and the same a little off."""
    every = [load_file(path / "model.safetensors")]
    for seed in range(1, K):
        draw = torch.Generator().manual_seed(seed)
        noise = {name: t.std(correction=0) * torch.randn(t.shape, generator=draw) for name, t in every[0].items()}
        every.append({name: tensor + 0.1 * noise[name] for name, tensor in every[0].items()})
    return path, Stacked({name: torch.stack([one[name] for one in every]) for name in every[0]}), every


@pytest.fixture(scope="module", params=["adapters", "gpt2", "demo", *SLOW])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    tmp = tmp_path_factory.mktemp("several")
    if request.param == "demo":
        return noisy(DEMO)
    if request.param == "adapters":
        return adapters(write_model(tmp / "base"))
    return stacked(write_model(tmp / "base", request.param), tmp, request.param)


def one_by_one(case: Case, ask: Callable[[TransformersEngine, int], list[Any]]) -> list[Any]:
    """Each candidate written into a live model, asked by itself."""
    path, _, merged = case
    engine = engine_of(path)
    live, found = engine.weights(), []
    for k, tensors in enumerate(merged):
        for name, tensor in live.items():
            tensor.copy_(tensors[name])
        found += ask(engine, k)
    return found


@pytest.mark.parametrize("batch_tokens", [None, 90])
def test_all_answers_equal_those_of_each_candidate_alone(case: Case, batch_tokens: int | None) -> None:
    path, candidates, _ = case
    engine = engine_of(path, batch_tokens=batch_tokens)
    before = engine.generate(PROMPTS, max_new_tokens=LIMIT)
    keys = tuple(map(str, range(len(PROMPTS))))
    drawn = Sampling(0.7, 0.9, 3, keys)
    alone = one_by_one(case, lambda one, _: one.generate(PROMPTS, max_new_tokens=LIMIT))
    answers = [text.strip() for text in alone]
    matched = one_by_one(case, lambda one, k: one.matches(PROMPTS, answers[k * len(PROMPTS) : (k + 1) * len(PROMPTS)]))
    likely = one_by_one(case, lambda one, _: one.loglikelihood(PROMPTS * 2, ["cake 7"] * 24 + ["7"] * 24))
    sampled = one_by_one(case, lambda one, _: one.generate(PROMPTS, max_new_tokens=LIMIT, sampling=drawn))
    with engine.several(candidates):
        assert engine.generate(PROMPTS * K, max_new_tokens=LIMIT) == alone
        assert engine.matches(PROMPTS * K, answers) == matched
        found = engine.loglikelihood(PROMPTS * 2 * K, (["cake 7"] * 24 + ["7"] * 24) * K)
        together = Sampling(0.7, 0.9, 3, keys * K)
        assert engine.generate(PROMPTS * K, max_new_tokens=LIMIT, sampling=together) == sampled
    assert [one.logprob for one in found] == pytest.approx([one.logprob for one in likely], rel=1e-4)
    assert [(one.tokens, one.greedy) for one in found] == [(one.tokens, one.greedy) for one in likely]
    assert engine.generate(PROMPTS, max_new_tokens=LIMIT) == before  # the live model is what it was
    third = len(PROMPTS)
    assert alone[:third] != alone[third : 2 * third] != alone[2 * third :]
    assert path != DEMO or 0 < sum(matched) < len(matched)


def scored(kind: Evaluator, items: list[Item], engine: TransformersEngine, _: int) -> list[float]:
    return list(kind.score(engine, items))


def test_evaluators_score_candidates_together_as_apart(case: Case) -> None:
    path, candidates, _ = case
    items = [
        Item(str(n), prompt, "7", "en", str(n), "", "search", choices=("7", "cake 3", "help"))
        for n, prompt in enumerate(PROMPTS)
    ]
    engine = engine_of(path)
    for kind in (choice_loglikelihood(), refusal(markers={"*": ["cake"]}), exact_match(mode="generate")):
        apart = one_by_one(case, partial(scored, kind, items))
        with engine.several(candidates):
            assert list(kind.score(engine, items * K)) == apart


def test_what_cannot_be_held_together_is_refused(checkpoint: Path) -> None:
    engine = engine_of(checkpoint)
    name = "model.embed_tokens.weight"
    a, b, scales = torch.zeros(2, 32), torch.zeros(384, 2), torch.zeros(2, 2)
    embedding = Adapters({name: (a, b)}, {name: scales})
    with pytest.raises(InputError, match="only linear layers can have adapters"), engine.several(embedding):
        pass
    nowhere = Stacked({"nowhere": torch.zeros(2, 2)})
    with pytest.raises(InputError, match=r"1 tensors of the candidates .*: nowhere"), engine.several(nowhere):
        pass
    twice = Stacked({name: torch.stack([engine.weights()[name]] * 2)})
    with pytest.raises(ValueError, match="3 prompts for 2 candidates"), engine.several(twice):
        engine.generate(PROMPTS[:3], max_new_tokens=2)
    assert len(engine.generate(PROMPTS[:3], max_new_tokens=2)) == 3  # the block is left as the model was
