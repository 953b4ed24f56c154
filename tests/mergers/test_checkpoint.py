"""Reading checkpoints: what is accepted, what is refused and how."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from mergers._checkpoint.checkpoint import INDEX, SINGLE, Checkpoint, all_tied, compare, differences, open_checkpoint
from mergers._checkpoint.compare import is_buffer, refuse_duplicates
from mergers._checkpoint.reader import Reader
from mergers._checkpoint.safetensors import Slot
from mergers._checkpoint.write import write_weights
from mergers._errors import InputError
from mergers._merge import Sources, merge_to_directory
from mergers._spec import Merge


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
    tensors = load_file(source / SINGLE)

    def fill(slot: Slot, place: Tensor) -> None:
        place.copy_(tensors[slot.name])

    out.mkdir()
    slots = [Slot(name, "float32", tuple(tensor.shape)) for name, tensor in tensors.items()]
    write_weights(out, slots, fill, shard_bytes=100)
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
    refused(tmp_path, "holds a LoRA adapter, not a model; write BASE+")


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
    assert all_tied((base, copied))
    assert "stands in (tied head)" in differences(copied, base)[0]
    assert "which the base ties to its embedding; it is left out" in differences(base, copied)[0]
    assert differences(base, base) == ()


BUFFERS = {
    "model.layers.0.self_attn.rotary_emb.inv_freq": (2,),
    "model.rotary_emb.original_inv_freq": (2,),
    "model.layers.1.self_attn.rotary_emb.cos_cached": (1, 1, 8, 2),
    "gpt_neox.layers.0.attention.masked_bias": (),
    "gpt_neox.layers.0.attention.bias": (1, 1, 8, 8),
    "h.0.attn.bias": (1, 1, 8, 8),
    "embeddings.position_ids": (1, 8),
}
WEIGHTS = {
    "model.layers.0.self_attn.q_proj.bias": (8,),
    "h.0.attn.bias": (8,),
    "h.0.attn.c_attn.bias": (24,),
    "model.embed_positions.weight": (8, 4),
    "model.layers.0.mlp.bias": (1, 1, 8, 8),
}


def test_buffers_are_told_from_weights() -> None:
    assert all(is_buffer(name, shape) for name, shape in BUFFERS.items())
    assert not any(is_buffer(name, shape) for name, shape in WEIGHTS.items())


@pytest.mark.parametrize("name", ["model.layers.0.self_attn.rotary_emb.inv_freq", "model.layers.0.attn.bias"])
def test_buffers_may_be_missing_on_either_side(tmp_path: Path, name: str) -> None:
    plain, buffered = llama(), llama() | {name: torch.full(BUFFERS.get(name, (1, 1, 4, 4)), 3.0)}
    plainly, fully = save(tmp_path / "plain", plain), save(tmp_path / "full", buffered)
    one, two = open_checkpoint(plainly), open_checkpoint(fully)
    compare(one, two, "x")
    compare(two, one, "x")
    assert differences(one, two) == (
        f"{fully} has {name} that the base lacks (buffers that code makes anew); left out",
    )
    (note,) = differences(two, one)
    assert note.startswith(f"{plainly} lacks {name} of the base")
    assert "the base's values stand in" in note


def test_a_buffer_that_one_expert_lacks_is_the_bases(tmp_path: Path) -> None:
    name = "model.layers.0.self_attn.rotary_emb.inv_freq"
    plain, buffered = llama(), llama() | {name: torch.full((2,), 3.0)}
    plainly, fully = save(tmp_path / "plain", plain), save(tmp_path / "full", buffered)
    half = Merge("linear", (("weight", (0.25, 0.75)),))
    merge_to_directory(half, Sources(str(fully), (str(plainly), str(fully))), tmp_path / "a", dtype="float32")
    assert torch.equal(load_file(tmp_path / "a" / SINGLE)[name], buffered[name])
    merge_to_directory(half, Sources(str(plainly), (str(plainly), str(fully))), tmp_path / "b", dtype="float32")
    assert load_file(tmp_path / "b" / SINGLE).keys() == plain.keys()


def test_many_differences_make_one_line(tmp_path: Path) -> None:
    buffers = {f"model.layers.{i}.self_attn.rotary_emb.inv_freq": torch.ones(2) for i in range(2)}
    base = open_checkpoint(save(tmp_path / "b", llama()))
    (note,) = differences(base, expert(tmp_path, llama() | buffers))
    assert "has model.layers.0.self_attn.rotary_emb.inv_freq and 1 more that the base lacks" in note


def test_rows_may_differ_where_a_policy_maps_them(tmp_path: Path) -> None:
    base = open_checkpoint(save(tmp_path / "b", llama() | {"lm_head.weight": torch.ones(6, 4)}))
    more = {"model.embed_tokens.weight": torch.ones(8, 4), "lm_head.weight": torch.ones(8, 4)}
    other = expert(tmp_path, llama() | more)
    compare(base, other, "x", same_rows=False)
    wider = llama() | {"model.embed_tokens.weight": torch.ones(8, 5), "lm_head.weight": torch.ones(8, 4)}
    with pytest.raises(InputError, match=r"has shape \[8, 5\] for model.embed_tokens.weight"):
        compare(base, expert(tmp_path, wider), "x", same_rows=False)


def test_duplicate_experts_are_refused(tmp_path: Path) -> None:
    folder = save(tmp_path / "m", llama())
    (tmp_path / "link").symlink_to(folder)
    refuse_duplicates([folder, tmp_path / "other"])
    with pytest.raises(InputError, match=r"expert .*/m is listed twice; list it once"):
        refuse_duplicates([folder, folder])
    with pytest.raises(InputError, match=r"expert .*/link is listed twice, also as .*/m; list it once"):
        Sources(str(folder), (str(folder), str(tmp_path / "link"))).open()
    Sources(str(folder), (str(folder),)).open()  # the base may be an expert as well


def test_stamps_change_with_any_rewrite(tmp_path: Path) -> None:
    folder = save(tmp_path / "m", llama())
    stamp = open_checkpoint(folder).stamp()
    assert open_checkpoint(folder).stamp() == stamp
    os.utime(folder / SINGLE, ns=(0, 0))
    assert open_checkpoint(folder).stamp() != stamp
    assert open_checkpoint(save(tmp_path / "n", llama())).stamp() != stamp


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_stored_tensors_are_checked_block_by_block(tmp_path: Path, dtype: torch.dtype, bad: float) -> None:
    values = torch.zeros((1 << 22) + 5, dtype=dtype)
    values[[3, 1 << 22, (1 << 22) + 4]] = bad
    good = torch.arange(6, dtype=dtype).reshape(2, 3)
    folder = save(tmp_path / "m", {"bad": values, "good": good, "whole": torch.tensor([1, 2]), "none": torch.zeros(0)})
    reader = Reader(open_checkpoint(folder), "expert m")
    stored = reader.stored("good")
    assert torch.equal(stored, good)
    assert stored.dtype == dtype
    assert stored.is_contiguous()
    assert reader.stored("whole").tolist() == [1, 2]
    assert reader.stored("none").numel() == 0
    assert str(reader.blame("bad", 3)) == "expert m holds 3 NaN or infinite numbers in bad; train or save it again"
    assert torch.equal(reader.stored("bad"), values) or bad != bad


def test_a_number_that_float32_cannot_hold_is_refused(tmp_path: Path) -> None:
    tensors = {name: tensor.double() for name, tensor in llama().items()}
    base = save(tmp_path / "base", tensors)
    name = next(iter(tensors))
    tensors[name] = tensors[name].clone()
    tensors[name].view(-1)[2] = 1e300
    large = save(tmp_path / "large", tensors)
    merge = Merge("linear", (("weight", (0.0, 1.0)),))
    with pytest.raises(InputError, match=f"large holds 1 numbers beyond float32's range in {name}; train or save it"):
        merge_to_directory(merge, Sources(str(base), (str(large), str(base))), tmp_path / "out", dtype="float32")


def test_what_an_expert_may_lack_has_a_stand_in(tmp_path: Path) -> None:
    name = "model.layers.0.self_attn.rotary_emb.inv_freq"
    base = open_checkpoint(save(tmp_path / "b", llama() | {name: torch.ones(2), "lm_head.weight": torch.ones(6, 4)}))
    reader = Reader(expert(tmp_path, llama()), "expert x", base)
    assert reader.stored(name).tolist() == [1, 1]
    assert torch.equal(reader.stored("lm_head.weight"), llama()["model.embed_tokens.weight"])


def test_equal_bytes_are_told_without_a_difference_in_type(tmp_path: Path) -> None:
    tensors = {"a": torch.zeros(4), "b": torch.zeros(4), "c": torch.zeros(4, dtype=torch.int32), "d": torch.ones(4)}
    checkpoint = open_checkpoint(save(tmp_path / "m", tensors | {"e": torch.zeros(0), "f": torch.zeros(0)}))
    assert checkpoint.same_bytes("a", "b")
    assert checkpoint.same_bytes("e", "f")
    assert not checkpoint.same_bytes("a", "c")
    assert not checkpoint.same_bytes("a", "d")
