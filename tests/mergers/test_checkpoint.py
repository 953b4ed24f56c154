"""Reading checkpoints: what is accepted, what is refused and how."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from mergers._checkpoint import INDEX, SINGLE, Checkpoint, compare, open_checkpoint
from mergers._errors import InputError
from mergers._merge import Sources, merge_to_directory
from mergers._spec import Merge

AS_IT_IS = Merge("linear", (("weight", 1.0),))


def save(folder: Path, tensors: Mapping[str, Tensor]) -> Path:
    folder.mkdir()
    save_file(dict(tensors), folder / SINGLE, metadata={"format": "pt"})
    return folder


def llama(layers: int = 2, rows: int = 6, width: int = 4) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(layers + rows + width)
    names = [f"model.layers.{i}.mlp.up.weight" for i in range(layers)]
    tensors = {name: torch.randn(width, width, generator=generator) for name in names}
    return tensors | {"model.embed_tokens.weight": torch.randn(rows, width, generator=generator)}


def shard(source: Path, out: Path) -> Path:
    merge_to_directory(AS_IT_IS, Sources(str(source), (str(source),)), out, dtype="float32", shard_bytes=100)
    return out


def refused(folder: Path, says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        open_checkpoint(folder)
    assert "\n" not in str(caught.value)


def test_every_type_is_read_as_safetensors_reads_it(tmp_path: Path) -> None:
    types = (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool)
    tensors = {f"t.{i}": (torch.arange(6).reshape(2, 3) % 2).to(dtype) for i, dtype in enumerate(types)}
    tensors |= {"scalar": torch.tensor(2.5), "empty": torch.zeros(0, 3)}
    checkpoint = open_checkpoint(save(tmp_path / "m", tensors))
    for name, theirs in load_file(tmp_path / "m" / SINGLE).items():
        ours = checkpoint.read(name)
        assert ours.dtype == theirs.dtype
        assert ours.shape == theirs.shape == checkpoint.shape(name)
        assert torch.equal(ours, theirs)
        assert checkpoint.dtype(name) == str(theirs.dtype).removeprefix("torch.")
    assert checkpoint.is_float("scalar")
    assert not checkpoint.is_float("t.4")


def test_unaligned_tensors_are_read(tmp_path: Path) -> None:
    header = {
        "a": {"dtype": "U8", "shape": [3], "data_offsets": [0, 3]},
        "b": {"dtype": "F32", "shape": [2], "data_offsets": [3, 11]},
    }
    raw = json.dumps(header).encode()
    body = bytes([1, 2, 3]) + torch.tensor([0.5, -2.0]).numpy().tobytes()
    tmp_path.joinpath(SINGLE).write_bytes(len(raw).to_bytes(8, "little") + raw + body)
    assert open_checkpoint(tmp_path).read("b").tolist() == [0.5, -2.0]


def test_writing_into_a_read_tensor_leaves_the_file(tmp_path: Path) -> None:
    folder = save(tmp_path / "m", llama())
    before = (folder / SINGLE).read_bytes()
    open_checkpoint(folder).read("model.embed_tokens.weight").fill_(7)
    assert (folder / SINGLE).read_bytes() == before


def test_names_are_in_natural_order_whatever_the_shards(tmp_path: Path) -> None:
    folder = save(tmp_path / "m", llama(layers=11))
    sharded = shard(folder, tmp_path / "s")
    assert len(list(sharded.glob("*.safetensors"))) > 2
    names = open_checkpoint(folder).names
    assert names == open_checkpoint(sharded).names
    assert names.index("model.layers.2.mlp.up.weight") < names.index("model.layers.10.mlp.up.weight")


def test_digest_is_of_the_tensors_alone(tmp_path: Path) -> None:
    folder = save(tmp_path / "m", llama())
    digest = open_checkpoint(folder).digest()
    assert open_checkpoint(shard(folder, tmp_path / "s")).digest() == digest
    (folder / "config.json").write_text("{}")
    assert open_checkpoint(folder).digest() == digest
    changed = llama()
    changed["model.embed_tokens.weight"][0, 0] += 1e-6
    assert open_checkpoint(save(tmp_path / "c", changed)).digest() != digest
    renamed = {f"x.{name}": tensor for name, tensor in llama().items()}
    assert open_checkpoint(save(tmp_path / "r", renamed)).digest() != digest


def test_a_checkpoint_pickles_as_its_path(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(save(tmp_path / "m", llama()))
    checkpoint.read("model.embed_tokens.weight")
    again = pickle.loads(pickle.dumps(checkpoint))
    assert isinstance(again, Checkpoint)
    assert again.names == checkpoint.names
    assert again.digest() == checkpoint.digest()


def test_missing_and_foreign_directories_are_refused(tmp_path: Path) -> None:
    refused(tmp_path / "none", "not a directory")
    refused(tmp_path, f"holds no {SINGLE}")
    (tmp_path / "adapter_config.json").write_text("{}")
    refused(tmp_path, "not available yet: merging adapters")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "consolidated.00.pth", "model.pt"])
def test_pickles_are_refused_unread(tmp_path: Path, name: str) -> None:
    torch.save(llama(), tmp_path / name)
    refused(tmp_path, "pickled weights, which are never loaded")


def test_a_pickle_named_safetensors_is_refused(tmp_path: Path) -> None:
    torch.save(llama(), tmp_path / SINGLE)
    refused(tmp_path, "not a safetensors file")


def test_a_git_lfs_pointer_is_named_as_such(tmp_path: Path) -> None:
    (tmp_path / SINGLE).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    refused(tmp_path, "git lfs pull")


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    whole = (save(tmp_path / "m", llama()) / SINGLE).read_bytes()
    for size in (0, 5, 8, 9, 100, len(whole) // 2, len(whole) - 1):
        (tmp_path / "m" / SINGLE).write_bytes(whole[:size])
        refused(tmp_path / "m", "cut short|not a safetensors file")


@pytest.mark.parametrize(
    ("header", "says"),
    [
        (b"{not json", "unreadable safetensors header"),
        (b"[1, 2]  ", "unreadable safetensors header"),
        (b'{"a": {"dtype": "F32", "shape": [2]}}', "unreadable safetensors header"),
        (b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}', "do not fit shape"),
        (b'{"a": {"dtype": "F32", "shape": [-1], "data_offsets": [4, 0]}}', "do not fit shape"),
        (b'{"a": {"dtype": "F32", "shape": ["2"], "data_offsets": [0, 8]}}', "shape or offsets of a"),
        (b'{"a": {"dtype": "F8_E4M3", "shape": [2], "data_offsets": [0, 2]}}', "type F8_E4M3, which cannot be merged"),
        (b'{"a": {"dtype": "F32", "shape": [9], "data_offsets": [0, 36]}}', "cut short"),
        (b'{"__metadata__": {"format": "pt"}}', "holds no tensors"),
        (b"\xff\xfe{}    ", "unreadable safetensors header"),
    ],
)
def test_bad_headers_are_refused(tmp_path: Path, header: bytes, says: str) -> None:
    (tmp_path / SINGLE).write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    refused(tmp_path, says)


def test_bad_indexes_are_refused(tmp_path: Path) -> None:
    sharded = shard(save(tmp_path / "m", llama()), tmp_path / "s")
    good = json.loads((sharded / INDEX).read_text())
    lost = dict.fromkeys(good["weight_map"], good["weight_map"]["model.embed_tokens.weight"])
    (sharded / INDEX).write_text(json.dumps({"weight_map": lost}))
    refused(sharded, "which lacks it")
    (sharded / INDEX).write_text(json.dumps(good))
    next(sharded.glob("model-00002*")).unlink()
    refused(sharded, r"names shard model-00002-of-\d+\.safetensors, which is missing")
    for text in ("{", "[]", "{}", '{"weight_map": 3}', ""):
        (sharded / INDEX).write_text(text)
        refused(sharded, "not a readable index")


def expert(tmp_path: Path, tensors: Mapping[str, Tensor]) -> Checkpoint:
    shutil.rmtree(tmp_path / "x", ignore_errors=True)
    return open_checkpoint(save(tmp_path / "x", tensors))


def test_experts_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    ours = llama()
    base = open_checkpoint(save(tmp_path / "b", ours))
    other = "model.layers.1.mlp.up.weight"
    cases: list[tuple[Mapping[str, Tensor], str]] = [
        (llama(layers=3), "expert fr has 3 layers, the base 2"),
        (llama(rows=8), "expert fr has a vocabulary of 8 rows, the base of 6"),
        (llama(width=5), r"expert fr has shape \[6, 5\] for model.embed_tokens.weight, the base \[6, 4\]"),
        (ours | {"model.norm.weight": torch.ones(4)}, "expert fr has tensor model.norm.weight, which the base lacks"),
        (
            ours | {other: torch.ones(4, 4, dtype=torch.int64)},
            f"expert fr stores {other} as int64, the base as float32",
        ),
        (ours | {"lm_head.weight": torch.ones(6, 4)}, "expert fr has an output head of its own"),
        ({**llama(layers=1), "model.layers.1.other": torch.ones(4)}, f"expert fr lacks tensor {other}"),
    ]
    for tensors, says in cases:
        with pytest.raises(InputError, match=says):
            compare(base, expert(tmp_path, tensors), "expert fr")


def test_types_may_differ_and_tied_heads_may_be_stored(tmp_path: Path) -> None:
    ours = llama()
    base = open_checkpoint(save(tmp_path / "b", ours))
    compare(base, expert(tmp_path, {name: tensor.bfloat16() for name, tensor in ours.items()}), "x")
    copied = expert(tmp_path, ours | {"lm_head.weight": ours["model.embed_tokens.weight"].clone()})
    compare(base, copied, "x")
    compare(copied, base, "x")
