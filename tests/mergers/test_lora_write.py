"""Adapters as files: what is written, what PEFT makes of it, and merges that end as an adapter."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mergers._adapter.combine import adapter_weights, combine
from mergers._adapter.compress import compress
from mergers._adapter.fold import fold
from mergers._adapter.merge import merge_to_adapter
from mergers._adapter.open import open_adapter
from mergers._adapter.write import write_adapter
from mergers._checkpoint.checkpoint import open_checkpoint
from mergers._errors import InputError
from mergers._settings import Gradient, positions
from mergers._spec import Merge

from .peft_adapters import assert_same_logits, dense_sum, logits, logits_of, save_adapter, with_adapter

Q0 = "model.layers.0.self_attn.q_proj.weight"
WEIGHTS = (0.6, -0.4)


@pytest.fixture(scope="module")
def pair(untied_models: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two plain adapters of one rank, the second with rsLoRA."""
    root = tmp_path_factory.mktemp("pair")
    base = untied_models / "base"
    return save_adapter(base, root / "one", 1), save_adapter(base, root / "two", 2, use_rslora=True)


def test_one_adapter_written_again_is_the_same_adapter(
    untied_models: Path, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    base = untied_models / "base"
    write_adapter(open_adapter(pair[1]), tmp_path / "again", dtype="float32")
    ours, theirs = (load_file(folder / "adapter_model.safetensors") for folder in (tmp_path / "again", pair[1]))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert_same_logits(logits(with_adapter(base, tmp_path / "again")), logits(with_adapter(base, pair[1])))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_narrower_type_rounds_each_factor_once(
    untied_models: Path, pair: tuple[Path, Path], tmp_path: Path, dtype: str
) -> None:
    merged = combine([open_adapter(one) for one in pair], WEIGHTS)
    write_adapter(merged, tmp_path / "out", dtype=dtype)
    low = merged.changes[Q0].low_rank
    assert low is not None
    stored = load_file(tmp_path / "out/adapter_model.safetensors")
    for side, lazy in (("A", low.a), ("B", low.b)):
        found = stored[f"base_model.model.{Q0.removesuffix('.weight')}.lora_{side}.weight"]
        assert torch.equal(found, lazy.read().to(getattr(torch, dtype)))
    with_adapter(untied_models / "base", tmp_path / "out")


def test_compression_of_a_merge_loads_in_peft(untied_models: Path, pair: tuple[Path, Path], tmp_path: Path) -> None:
    base = untied_models / "base"
    merged = combine([open_adapter(one) for one in pair], WEIGHTS)
    smaller, errors = compress(merged, 3)
    write_adapter(smaller, tmp_path / "out", dtype="float32")
    assert all(0 < error < 1 for error in errors.values())
    assert errors.keys() == merged.changes.keys()
    config = json.loads((tmp_path / "out/adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"]) == (3, 3)
    folded = fold(open_checkpoint(base), smaller)
    ours = logits_of(base, {name: folded.read(name) for name in folded.names})
    assert_same_logits(ours, logits(with_adapter(base, tmp_path / "out")))
    same, errors = compress(merged, 8)
    assert set(errors.values()) == {0.0}
    assert same.changes == merged.changes
    with pytest.raises(InputError, match="rank must be at least 1, got 0"):
        compress(merged, 0)


def test_writing_leaves_nothing_half_done(pair: tuple[Path, Path], tmp_path: Path) -> None:
    merged = combine([open_adapter(one) for one in pair], WEIGHTS)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken/file").write_text("mine")
    with pytest.raises(InputError, match="exists already"):
        write_adapter(merged, tmp_path / "taken", dtype="float32")
    with pytest.raises(InputError, match="adapter type must be one of float32, bfloat16, float16, got 'int8'"):
        write_adapter(merged, tmp_path / "out", dtype="int8")
    huge = combine([open_adapter(one) for one in pair], (1e30, 1.0))
    with pytest.raises(InputError, match="of the adapter is not finite in float16"):
        write_adapter(huge, tmp_path / "out", dtype="float16")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["taken"]
    write_adapter(huge, tmp_path / "out", dtype="bfloat16")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "adapter_config.json", "adapter_model.safetensors",
    ]  # fmt: skip


def test_a_merge_is_written_as_an_adapter(untied_models: Path, pair: tuple[Path, Path], tmp_path: Path) -> None:
    base = str(untied_models / "base")
    experts = [str(pair[0]), f"{base}+{pair[1]}"]
    merge = Merge("task_arithmetic", (("weight", (Gradient((1.0, 0.2)), 0.5)),))
    position = positions(open_checkpoint(base).names)

    def weights_at(name: str) -> tuple[float, ...]:
        return adapter_weights(merge.method, merge.at(2, name, position(name)), 2)

    notes = merge_to_adapter(base, experts, weights_at, tmp_path / "out", dtype="float32")
    assert notes == (f"wrote an adapter of 6 tensors, rank at most 8, for base {base}",)
    folded = fold(open_checkpoint(base), open_adapter(tmp_path / "out"))
    for layer, weights in ((0, (1.0, 0.5)), (1, (0.2, 0.5))):
        name = Q0.replace("layers.0", f"layers.{layer}")
        expected = dense_sum(untied_models / "base", pair, weights)[name]
        torch.testing.assert_close(folded.read(name).double(), expected, rtol=0, atol=1e-6)
    notes = merge_to_adapter(base, experts, (0.5, 0.5), tmp_path / "small", dtype="bfloat16", rank=2)
    assert notes[0].startswith("rank 2: the largest loss is ")
    assert notes[1] == f"wrote an adapter of 6 tensors, rank at most 2, for base {base}"
    assert_same_logits(
        logits(with_adapter(untied_models / "base", tmp_path / "out")),
        logits_of(untied_models / "base", {name: folded.read(name) for name in folded.names}),
    )


def test_only_adapters_of_the_base_are_written_as_one(
    untied_models: Path, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    base, other = str(untied_models / "base"), str(untied_models / "one")
    one, two = (str(folder) for folder in pair)
    cases = [
        (base, [one, other], f"expert {other} is a full model"),
        (base, [one, f"{other}+{two}"], "adapts .*, not the merge's base"),
        (base, [one, f"{base}+{one}"], "is listed twice"),
        (f"{base}+{one}", [two], "is or has an adapter"),
        (base, [one, "nowhere+{two}"], "nowhere"),
    ]
    for place, experts, message in cases:
        with pytest.raises(InputError, match=message) as caught:
            merge_to_adapter(place, experts, (0.5, 0.5), tmp_path / "out", dtype="float32")
        assert "\n" not in str(caught.value)
    linear = Merge("linear", (("weight", 0.7), ("normalize", False)))
    with pytest.raises(InputError, match=r"sum to 1\.4, so the merge scales the base"):
        adapter_weights(linear.method, linear.at(2, Q0, 0.0), 2)
    assert not (tmp_path / "out").exists()
