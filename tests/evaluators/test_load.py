from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from evaluators._errors import InputError
from evaluators._transformers import transformers_engine


def pickled(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def truncated(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def without_a_tensor(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.norm.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def with_another_shape(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.weight"] = torch.ones(7)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def without_end(folder: Path) -> None:
    holders = {
        "config.json": "eos_token_id",
        "generation_config.json": "eos_token_id",
        "tokenizer_config.json": "eos_token",
    }
    for name, key in holders.items():
        content = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(content | {key: None}))


def unknown_architecture(folder: Path) -> None:
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(content | {"model_type": "nosuch"}))


def adapter(folder: Path) -> None:
    (folder / "config.json").unlink()
    (folder / "adapter_config.json").write_text("{}")


BROKEN: list[tuple[Callable[[Path], None], str]] = [
    (pickled, "has no .safetensors file; pickle checkpoints are never loaded"),
    (truncated, "cannot be loaded"),
    (without_a_tensor, "1 tensors are missing or of another shape: model.norm.weight"),
    (with_another_shape, "model.norm.weight"),
    (without_end, "no end-of-sequence token"),
    (unknown_architecture, "cannot be loaded"),
    (adapter, "is a LoRA adapter"),
]


@pytest.mark.parametrize(("damage", "text"), BROKEN, ids=[case[0].__name__ for case in BROKEN])
def test_broken_checkpoints(tmp_path: Path, checkpoint: Path, damage: Callable[[Path], None], text: str) -> None:
    folder = tmp_path / "model"
    shutil.copytree(checkpoint, folder)
    damage(folder)
    with pytest.raises(InputError, match=text) as caught:
        transformers_engine(str(folder), dtype="float32", device="cpu")
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


def test_bad_arguments(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="dtype: unknown 'int8'; choose one of float32, bfloat16, float16"):
        transformers_engine(str(checkpoint), dtype="int8")
    with pytest.raises(InputError, match="device 'abacus'"):
        transformers_engine(str(checkpoint), dtype="float32", device="abacus")
    with pytest.raises(InputError, match=r"has no config.json"):
        transformers_engine(str(tmp_path), dtype="float32")
    with pytest.raises(InputError, match="cannot be loaded"):
        transformers_engine(str(tmp_path / "nothing"), dtype="float32")


@pytest.mark.skipif(torch.cuda.is_available(), reason="is about machines without a GPU")
def test_cuda_without_a_gpu(checkpoint: Path) -> None:
    with pytest.raises(InputError, match="device 'cuda'"):
        transformers_engine(str(checkpoint), dtype="float32", device="cuda")


def test_tensors_under_other_names_cannot_be_merged_into(tmp_path: Path, checkpoint: Path) -> None:
    # A checkpoint of the bare decoder: transformers adds the prefix while loading, a merger does not know it.
    shutil.copytree(checkpoint, tmp_path / "model")
    file = tmp_path / "model" / "model.safetensors"
    save_file({name.removeprefix("model."): t for name, t in load_file(file).items()}, file, metadata={"format": "pt"})
    engine = transformers_engine(str(tmp_path / "model"), dtype="float32", device="cpu")
    assert len(engine.generate(["how to"], max_new_tokens=2)) == 1
    with pytest.raises(InputError, match="have no such name in the checkpoint"):
        engine.weights()
