"""Merging whole checkpoints: in place and to a directory, with the same bytes."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

from mergers._checkpoint.checkpoint import INDEX, SINGLE, open_checkpoint
from mergers._errors import InputError
from mergers._merge import Materializer, Sources, merge_in_place, merge_to_directory, write_blueprint
from mergers._mergekit import read_merges
from mergers._settings import Filters, Gradient
from mergers._spec import Merge
from mergers._types import Range

MERGES = (
    Merge("linear", (("weight", (0.3, 0.9)),)),
    Merge("slerp", (("t", 0.35),)),
    Merge("task_arithmetic", (("weight", (0.6, -0.2)), ("lambda_", 0.9))),
    Merge("ties", (("weight", (0.4, 0.6)), ("density", (0.5, 0.3)))),
    Merge("dare_ties", (("weight", (0.4, 0.6)), ("density", 0.5)), 4),
)
every = pytest.mark.parametrize("merge", MERGES, ids=lambda merge: merge.method)


def sources(root: Path, *experts: str) -> Sources:
    return Sources(str(root / "base"), tuple(str(root / name) for name in experts or ("one", "two")))


def load(path: Path, dtype: torch.dtype) -> LlamaForCausalLM:
    model: LlamaForCausalLM = AutoModelForCausalLM.from_pretrained(path, dtype=dtype)
    return model


def same_bytes(first: Tensor, second: Tensor) -> bool:
    pair = [tensor.detach().contiguous().reshape(-1).view(torch.uint8) for tensor in (first, second)]
    return first.dtype == second.dtype and torch.equal(*pair)


@every
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("fixture", ["tied_models", "untied_models", "bfloat16_models"])
def test_in_place_equals_the_written_model(
    merge: Merge, dtype: str, fixture: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    root: Path = request.getfixturevalue(fixture)
    live = load(root / "base", getattr(torch, dtype))
    merge_in_place(merge, sources(root), live.state_dict())
    merge_to_directory(merge, sources(root), tmp_path / "out", dtype=dtype)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out").state_dict()
    base = load(root / "base", getattr(torch, dtype)).state_dict()
    assert loaded.keys() == live.state_dict().keys()
    for name, tensor in live.state_dict().items():
        assert same_bytes(tensor, loaded[name]), name
        assert not torch.equal(tensor, base[name]), name


def test_parameters_and_partial_mappings_are_written(tied_models: Path) -> None:
    live = load(tied_models / "base", torch.float32)
    merge_in_place(MERGES[0], sources(tied_models), dict(live.named_parameters()))
    name = "model.norm.weight"
    only = {name: torch.zeros(16)}
    merge_in_place(MERGES[0], sources(tied_models), only)
    assert torch.equal(only[name], live.state_dict()[name])


def test_nothing_is_left_over_from_the_last_merge(tied_models: Path) -> None:
    live = load(tied_models / "base", torch.float32)
    weights = live.state_dict()
    merge_in_place(MERGES[3], sources(tied_models), weights)
    first = {name: tensor.clone() for name, tensor in weights.items()}
    merge_in_place(MERGES[4], sources(tied_models, "two", "one"), weights)
    merge_in_place(MERGES[3], sources(tied_models), weights)
    assert all(same_bytes(tensor, first[name]) for name, tensor in weights.items())


def test_one_expert_alone_is_reproduced(bfloat16_models: Path, tmp_path: Path) -> None:
    merge_to_directory(
        Merge("linear", (("weight", (1.0,)),)), sources(bfloat16_models, "two"), tmp_path / "out", dtype="bfloat16"
    )
    theirs = load_file(bfloat16_models / "two" / SINGLE)
    ours = load_file(tmp_path / "out" / SINGLE)
    assert ours.keys() == theirs.keys()
    assert all(same_bytes(tensor, theirs[name]) for name, tensor in ours.items())


def test_a_materializer_gives_what_a_fresh_merge_gives(bfloat16_models: Path) -> None:
    live = load(bfloat16_models / "base", torch.bfloat16).state_dict()
    kept = Materializer(sources(bfloat16_models), live)
    for merge in (*MERGES, *reversed(MERGES)):
        kept.apply(merge)
        fresh = load(bfloat16_models / "base", torch.bfloat16).state_dict()
        merge_in_place(merge, sources(bfloat16_models), fresh)
        assert all(same_bytes(tensor, fresh[name]) for name, tensor in live.items()), merge


def test_settings_vary_along_the_model(untied_models: Path) -> None:
    weight = Filters((("mlp", Gradient((0.0, 1.0))), ("*", 0.25)))
    merge = Merge("task_arithmetic", (("weight", (weight, 0.0)),))
    live = load(untied_models / "base", torch.float32).state_dict()
    merge_in_place(merge, sources(untied_models), live)
    base, one = (load(untied_models / name, torch.float32).state_dict() for name in ("base", "one"))
    for name, tensor in live.items():
        share = 0.25 if "mlp" not in name else 0.0 if ".0." in name else 1.0
        torch.testing.assert_close(tensor, base[name] + share * (one[name] - base[name]), rtol=0, atol=1e-7)


def test_tied_heads_are_written_once_and_merged_as_the_embedding(tied_models: Path) -> None:
    live = load(tied_models / "base", torch.float32)
    weights = live.state_dict()
    assert weights["lm_head.weight"].data_ptr() == weights["model.embed_tokens.weight"].data_ptr()
    reverse = dict(reversed(weights.items()))
    merge_in_place(MERGES[4], sources(tied_models), reverse)  # the head comes first: masks still are the embedding's
    embedding = {"model.embed_tokens.weight": torch.zeros(40, 16)}
    merge_in_place(MERGES[4], sources(tied_models), embedding)
    assert same_bytes(weights["lm_head.weight"], embedding["model.embed_tokens.weight"])


def store_head(source: Path, out: Path, head: Tensor | None = None) -> Path:
    out.mkdir(parents=True)
    tensors = load_file(source / SINGLE)
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone() if head is None else head
    save_file(tensors, out / SINGLE, metadata={"format": "pt"})
    (out / "config.json").write_bytes((source / "config.json").read_bytes())
    return out


def test_a_stored_tied_head_equals_the_merged_embedding(tied_models: Path, tmp_path: Path) -> None:
    for name in ("base", "one"):
        store_head(tied_models / name, tmp_path / name)
    mixed = Sources(str(tmp_path / "base"), (str(tmp_path / "one"), str(tied_models / "two")))
    merge_to_directory(MERGES[4], mixed, tmp_path / "out", dtype="float32")
    merge_to_directory(MERGES[4], sources(tied_models), tmp_path / "plain", dtype="float32")
    ours, plain = load_file(tmp_path / "out" / SINGLE), load_file(tmp_path / "plain" / SINGLE)
    assert same_bytes(ours["lm_head.weight"], plain["model.embed_tokens.weight"])
    assert all(same_bytes(ours[name], tensor) for name, tensor in plain.items())


def test_an_untied_base_takes_a_tied_experts_embedding_as_its_head(tied_models: Path, tmp_path: Path) -> None:
    head = torch.randn(40, 16, generator=torch.Generator().manual_seed(1))
    base = store_head(tied_models / "base", tmp_path / "base", head)
    merge = Merge("linear", (("weight", (1.0,)),))
    merge_to_directory(merge, Sources(str(base), (str(tied_models / "one"),)), tmp_path / "out", dtype="float32")
    theirs = load_file(tied_models / "one" / SINGLE)["model.embed_tokens.weight"]
    assert same_bytes(load_file(tmp_path / "out" / SINGLE)["lm_head.weight"], theirs)


def test_what_travels_with_the_weights(tied_models: Path, tmp_path: Path) -> None:
    source = tmp_path / "base"
    source.mkdir()
    for file in (tied_models / "base").iterdir():
        (source / file.name).write_bytes(file.read_bytes())
    for name in (
        "pytorch_model.bin",
        "optimizer.pt",
        "training_args.bin",
        "modeling_x.py",
        "README.md",
        "trainer.json",
    ):
        (source / name).write_bytes(b"must stay behind")
    config = json.loads((source / "config.json").read_text())
    config |= {"torch_dtype": "float32", "text_config": {"dtype": "float32", "depth": 2}}
    (source / "config.json").write_text(json.dumps(config))
    paths = Sources(str(source), sources(tied_models).experts)
    merge_to_directory(MERGES[0], paths, tmp_path / "out", dtype="bfloat16", extra={"merge.yaml": "é: 1\n"})
    wanted = {"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"}
    assert {file.name for file in (tmp_path / "out").iterdir()} == wanted | {SINGLE, "merge.yaml"}
    written = json.loads((tmp_path / "out" / "config.json").read_text())
    assert written["dtype"] == written["torch_dtype"] == written["text_config"]["dtype"] == "bfloat16"
    unchanged = {key: value for key, value in config.items() if key not in ("dtype", "torch_dtype", "text_config")}
    assert unchanged.items() <= written.items()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer("w3 w7")["input_ids"] == [3, 7]
    assert "message" in tokenizer.chat_template


def test_shards_load_and_hold_the_same_bytes(untied_models: Path, tmp_path: Path) -> None:
    merge_to_directory(MERGES[3], sources(untied_models), tmp_path / "one", dtype="bfloat16")
    merge_to_directory(MERGES[3], sources(untied_models), tmp_path / "many", dtype="bfloat16", shard_bytes=2000)
    index = json.loads((tmp_path / "many" / INDEX).read_text())
    files = sorted(file.name for file in (tmp_path / "many").glob("*.safetensors"))
    assert len(files) > 3
    assert set(index["weight_map"].values()) == set(files)
    whole = load_file(tmp_path / "one" / SINGLE)
    assert index["metadata"]["total_size"] == sum(tensor.numel() * 2 for tensor in whole.values())
    loaded = load(tmp_path / "many", torch.bfloat16).state_dict()
    assert all(same_bytes(loaded[name], tensor) for name, tensor in whole.items())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_non_finite_experts_are_refused(tied_models: Path, tmp_path: Path, value: float) -> None:
    tensors = load_file(tied_models / "one" / SINGLE)
    tensors["model.norm.weight"][[2, 5, 7]] = value
    (tmp_path / "bad").mkdir()
    save_file(tensors, tmp_path / "bad" / SINGLE)
    paths = Sources(str(tied_models / "base"), (str(tied_models / "two"), str(tmp_path / "bad")))
    says = r"expert .*bad holds 3 NaN or infinite numbers in model.norm.weight"
    with pytest.raises(InputError, match=says):
        merge_to_directory(MERGES[0], paths, tmp_path / "out", dtype="float32")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["bad"]  # nothing, not even the temporary directory
    with pytest.raises(InputError, match=says):
        merge_in_place(MERGES[0], paths, {"model.norm.weight": torch.zeros(16)})


def test_integers_in_place_of_weights_are_refused_in_files_too(tied_models: Path, tmp_path: Path) -> None:
    shutil.copytree(tied_models / "one", tmp_path / "whole")
    tensors = load_file(tmp_path / "whole" / SINGLE)
    name = "model.layers.0.mlp.up_proj.weight"
    save_file(tensors | {name: tensors[name].to(torch.int32)}, tmp_path / "whole" / SINGLE)
    models = tuple(str(path) for path in (tied_models / "base", tmp_path / "whole", tied_models / "two"))
    text = f"merge_method: ties\nbase_model: {models[0]}\nparameters: {{weight: 0.5}}\nmodels:\n"
    text += "".join(f"  - model: {model}\n" for model in models[1:])
    (merge,) = read_merges(text, resolve=open_checkpoint)
    with pytest.raises(InputError, match=f"tensor {name} of model .*whole holds int32, {name} of .* float32; convert"):
        write_blueprint(merge.blueprint, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["whole"]


def test_too_large_for_float16_is_refused(tied_models: Path, tmp_path: Path) -> None:
    merge = Merge("linear", (("weight", (1e9, 1e9)), ("normalize", False)))
    with pytest.raises(InputError, match="exceed float16's range"):
        merge_to_directory(merge, sources(tied_models), tmp_path / "out", dtype="float16")
    assert not any(tmp_path.iterdir())


def test_a_merge_that_is_not_finite_is_refused(tied_models: Path, tmp_path: Path) -> None:
    merge = Merge("linear", (("weight", (3e38, 3e38)), ("normalize", False)))
    with pytest.raises(InputError, match=r"tensor .*: the merge holds \d+ values that are not finite"):
        merge_to_directory(merge, sources(tied_models), tmp_path / "out", dtype="float32")
    assert not any(tmp_path.iterdir())
    with pytest.raises(InputError, match="not finite"):
        merge_in_place(merge, sources(tied_models), {"model.norm.weight": torch.zeros(16)})


def test_integer_buffers_are_copied_if_equal(tied_models: Path, tmp_path: Path) -> None:
    for name in ("base", "one", "two"):
        tensors = load_file(tied_models / name / SINGLE) | {"model.steps": torch.tensor([1, 2, 3])}
        (tmp_path / name).mkdir()
        save_file(tensors, tmp_path / name / SINGLE)
    merge_to_directory(MERGES[3], sources(tmp_path), tmp_path / "out", dtype="bfloat16")
    assert torch.equal(load_file(tmp_path / "out" / SINGLE)["model.steps"], torch.tensor([1, 2, 3]))
    live = {"model.steps": torch.zeros(3, dtype=torch.int64)}
    merge_in_place(MERGES[3], sources(tmp_path), live)
    assert live["model.steps"].tolist() == [1, 2, 3]
    tensors["model.steps"] = torch.tensor([1, 2, 4])
    save_file(tensors, tmp_path / "two" / SINGLE)
    with pytest.raises(InputError, match=r"two differs from the base in integer tensor model\.steps"):
        merge_in_place(MERGES[3], sources(tmp_path), live)


def test_a_replaced_checkpoint_is_opened_again(tied_models: Path, tmp_path: Path) -> None:
    tensors = load_file(tied_models / "one" / SINGLE)
    (tmp_path / "e").mkdir()
    save_file(tensors, tmp_path / "e" / SINGLE)
    paths = Sources(str(tied_models / "base"), (str(tmp_path / "e"),))
    live = {"model.norm.weight": torch.zeros(16)}
    merge_in_place(Merge("linear", (("weight", 1.0),)), paths, live)
    tensors["model.norm.weight"] += 1
    save_file(tensors, tmp_path / "new")
    os.replace(tmp_path / "new", tmp_path / "e" / SINGLE)
    merge_in_place(Merge("linear", (("weight", 1.0),)), paths, live)
    assert torch.equal(live["model.norm.weight"], tensors["model.norm.weight"])


def test_live_models_that_do_not_fit_are_refused(tied_models: Path) -> None:
    with pytest.raises(InputError, match=r"tensor model\.other of the live model is not in base"):
        merge_in_place(MERGES[0], sources(tied_models), {"model.other": torch.zeros(3)})
    with pytest.raises(InputError, match=r"live model\.norm\.weight is \[3\].*the base \[16\]"):
        merge_in_place(MERGES[0], sources(tied_models), {"model.norm.weight": torch.zeros(3)})


def test_bad_merges_and_outputs_are_refused_before_anything_is_written(tied_models: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(InputError, match="density"):
        merge_to_directory(
            Merge("ties", (("weight", 1.0), ("density", 2.0))), sources(tied_models), out, dtype="float32"
        )
    with pytest.raises(InputError, match="output type must be one of"):
        merge_to_directory(MERGES[0], sources(tied_models), out, dtype="int8")
    with pytest.raises(InputError, match="not a directory"):
        merge_to_directory(MERGES[0], sources(tied_models, "one", "none"), out, dtype="float32")
    assert not any(tmp_path.iterdir())
    out.mkdir()
    (out / "mine").write_text("keep")
    with pytest.raises(InputError, match="exists already"):
        merge_to_directory(MERGES[0], sources(tied_models), out, dtype="float32")
    assert [file.name for file in tmp_path.iterdir()] == ["out"]
    (out / "mine").unlink()
    merge_to_directory(MERGES[0], sources(tied_models), out, dtype="float32")  # an empty directory is filled
    assert (out / SINGLE).is_file()


def test_a_bad_config_leaves_nothing(tied_models: Path, tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / SINGLE).write_bytes((tied_models / "base" / SINGLE).read_bytes())
    (tmp_path / "base" / "config.json").write_text("{")
    with pytest.raises(InputError, match=r"config\.json is not JSON"):
        merge_to_directory(
            MERGES[0], Sources(str(tmp_path / "base"), sources(tied_models).experts), tmp_path / "out", dtype="float32"
        )
    assert [file.name for file in tmp_path.iterdir()] == ["base"]


def test_sources_pickle(tied_models: Path) -> None:
    opened = sources(tied_models)
    opened.open()
    assert pickle.loads(pickle.dumps(opened)) == opened


def test_a_method_from_outside_that_changes_the_shape_is_refused(tied_models: Path) -> None:
    with pytest.raises(InputError, match=r"tensor model\.norm\.weight: .* returned torch.float32 \[\]"):
        merge_in_place(
            Merge("tests.mergers.test_merge:total", (("weight", 1.0),)),
            sources(tied_models),
            {"model.norm.weight": torch.zeros(16)},
        )


def total(experts: Sequence[Tensor], *, weight: Annotated[float, Range(0, 1)]) -> Tensor:
    """A method that breaks its promise."""
    return experts[0].sum() * weight
