"""LoRA experts of a search: candidates in memory and written checkpoints, against folding each adapter first."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mergers._adapter.live import low_rank_of
from mergers._checkpoint.checkpoint import SINGLE
from mergers._errors import InputError
from mergers._merge import Materializer, Sources, merge_to_directory
from mergers._spec import Merge

from .peft_adapters import dense_sum, load, save_adapter

CPU = torch.device("cpu")
LINEAR = Merge("linear", (("weight", (0.3, 0.7)),))
MERGES = (
    LINEAR,
    Merge("task_arithmetic", (("weight", (0.6, -0.2)), ("lambda_", 0.9))),
    Merge("ties", (("weight", (0.4, 0.6)), ("density", 0.5))),
    Merge("dare_ties", (("weight", (0.4, 0.6)), ("density", 0.5)), 5),
    Merge("slerp", (("t", 0.4),)),
)


@pytest.fixture(scope="module")
def adapters(untied_models: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("adapters")
    base = untied_models / "base"
    return save_adapter(base, root / "one", 1), save_adapter(base, root / "two", 2, r=3, use_rslora=True)


@pytest.mark.parametrize("merge", MERGES, ids=lambda merge: merge.method)
@pytest.mark.parametrize("written", ["alone", "with the base"])
def test_a_candidate_has_the_bytes_of_the_written_checkpoint(
    untied_models: Path, adapters: tuple[Path, Path], tmp_path: Path, merge: Merge, written: str
) -> None:
    base = untied_models / "base"
    names = tuple(str(one) if written == "alone" else f"{base}+{one}" for one in adapters)
    sources = Sources(str(base), names)
    live = load(base).bfloat16().state_dict()
    Materializer(sources, live).apply(merge)
    merge_to_directory(merge, sources, tmp_path / "out", dtype="bfloat16")
    for name, tensor in load_file(tmp_path / "out" / SINGLE).items():
        assert torch.equal(tensor, live[name]), name
    assert (low_rank_of(sources.open(), merge.method, CPU) is not None) is (
        merge.method in ("linear", "task_arithmetic")
    )


def test_the_short_road_gives_the_dense_sum(untied_models: Path, adapters: tuple[Path, Path]) -> None:
    base = untied_models / "base"
    live = load(base).float().state_dict()
    Materializer(Sources(str(base), tuple(map(str, adapters))), live).apply(LINEAR)
    for name, wanted in dense_sum(base, adapters, (0.3, 0.7)).items():
        torch.testing.assert_close(live[name].double(), wanted, rtol=0, atol=1e-6)


def test_full_experts_and_magnitudes_take_the_long_road(
    untied_models: Path, adapters: tuple[Path, Path], tmp_path: Path
) -> None:
    base = untied_models / "base"
    dora = save_adapter(base, tmp_path / "dora", 3, use_dora=True)
    for experts in ((adapters[0], untied_models / "one"), (adapters[0], dora)):
        sources = Sources(str(base), tuple(map(str, experts)))
        assert low_rank_of(sources.open(), "linear", CPU) is None
        live = load(base).float().state_dict()
        Materializer(sources, live).apply(LINEAR)
        assert any(not torch.equal(tensor, load(base).state_dict()[name]) for name, tensor in live.items())


def test_one_adapter_twice_is_refused(untied_models: Path, adapters: tuple[Path, Path]) -> None:
    base = untied_models / "base"
    with pytest.raises(InputError, match="is listed twice"):
        Sources(str(base), (str(adapters[0]), f"{base}+{adapters[0]}")).open()


def test_a_changed_adapter_is_opened_again(untied_models: Path, adapters: tuple[Path, Path], tmp_path: Path) -> None:
    base = untied_models / "base"
    changing = save_adapter(base, tmp_path / "adapter", 4)
    sources = Sources(str(base), (str(changing),))
    alone = Merge("linear", (("weight", (1.0,)),))
    live = load(base).float().state_dict()
    kept = Materializer(sources, live)
    kept.apply(alone)
    before = {name: tensor.clone() for name, tensor in live.items()}
    save_adapter(base, tmp_path / "other", 5)
    for file in ("adapter_model.safetensors", "adapter_config.json"):
        (tmp_path / "other" / file).replace(changing / file)
    kept.apply(alone)
    assert any(not torch.equal(tensor, before[name]) for name, tensor in live.items())
