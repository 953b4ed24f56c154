"""Writing: complete or absent, resumable, within the disk and within memory."""

from __future__ import annotations

import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from mergers._checkpoint import mapped as _mapped
from mergers._checkpoint.checkpoint import INDEX, SINGLE, open_checkpoint
from mergers._checkpoint.mapped import release, write_file
from mergers._checkpoint.output import RECORD, new_directory
from mergers._checkpoint.safetensors import Slot
from mergers._checkpoint.write import write_weights
from mergers._errors import InputError

SLOTS = [Slot(f"layers.{i}.weight", "float32", (64, 16)) for i in range(6)]


def value(slot: Slot) -> Tensor:
    generator = torch.Generator().manual_seed(int(slot.name.split(".")[1]))
    return torch.randn(slot.shape, generator=generator)


def fill(slot: Slot, out: Tensor) -> None:
    out.copy_(value(slot))


def check(folder: Path) -> None:
    checkpoint = open_checkpoint(folder)
    assert set(checkpoint.names) == {slot.name for slot in SLOTS}
    assert all(torch.equal(checkpoint.read(slot.name), value(slot)) for slot in SLOTS)


def test_every_type_and_shape_is_written_as_safetensors_reads_it(tmp_path: Path) -> None:
    tensors = {
        "a": torch.arange(5, dtype=torch.uint8),
        "b": torch.tensor([True, False, True]),
        "c": torch.randn(3, 7).bfloat16(),
        "d": torch.randn(3, 5).half(),
        "e": torch.randn(4),
        "f": torch.randn(2, 2, 2, dtype=torch.float64),
        "g": torch.tensor(7),
        "h": torch.zeros(0, 4),
        "i": torch.tensor(-2.5),
    }
    slots = [Slot(name, str(one.dtype).removeprefix("torch."), tuple(one.shape)) for name, one in tensors.items()]

    def fill(slot: Slot, out: Tensor) -> None:
        assert out.is_contiguous()
        assert out.data_ptr() % out.element_size() == 0
        assert not out.any()
        out.copy_(tensors[slot.name])

    for shard_bytes in (10**9, 20):
        folder = tmp_path / str(shard_bytes)
        folder.mkdir()
        assert write_weights(folder, slots, fill, shard_bytes=shard_bytes) == ()
        written = {name: one for file in folder.glob("*.safetensors") for name, one in load_file(file).items()}
        assert written.keys() == tensors.keys()
        for name, one in tensors.items():
            assert written[name].dtype == one.dtype
            assert torch.equal(written[name], one)
    assert len(list((tmp_path / "20").glob("*.safetensors"))) > 3


def test_a_process_that_was_killed_is_gone_on_with(tmp_path: Path) -> None:
    out = tmp_path / "out"
    script = textwrap.dedent(
        """
        import sys, time
        from pathlib import Path
        from mergers._checkpoint.output import new_directory
        from mergers._checkpoint.write import write_weights
        from tests.mergers.test_write import SLOTS, fill

        def slow(slot, out):
            if slot is SLOTS[3]:
                print("half", flush=True)
                time.sleep(60)
            fill(slot, out)

        with new_directory(Path(sys.argv[1]), "this merge") as folder:
            write_weights(folder, SLOTS, slow, shard_bytes=4096)
        """
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(out)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "half\n"
    with pytest.raises(InputError, match=rf"is being written by another process \({process.pid}\); wait"):
        next(iter_directory(out))
    process.send_signal(signal.SIGKILL)
    process.wait()
    partial = tmp_path / ".out.partial"
    assert not out.exists()
    finished = {file.name: file.stat() for file in partial.glob("*.safetensors")}
    assert len(finished) == 3
    assert list(partial.glob("*.writing"))

    asked = []

    def resumed(slot: Slot, tensor: Tensor) -> None:
        asked.append(slot)
        fill(slot, tensor)

    with new_directory(out, "this merge") as folder:
        notes = write_weights(folder, SLOTS, resumed, shard_bytes=4096)
    assert notes == ("kept 3 of 6 weight files that an earlier run had finished",)
    assert asked == SLOTS[3:]
    for name, before in finished.items():
        after = (out / name).stat()
        assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    check(out)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    names = {file.name for file in out.iterdir()}
    assert names == {
        *(f"model-0000{i}-of-00006.safetensors" for i in range(1, 7)),
        INDEX,
    }


def iter_directory(out: Path) -> Iterator[Path]:
    with new_directory(out, "this merge") as folder:
        yield folder


def interrupted(out: Path, identity: str | None, error: type[BaseException], at: int = 3) -> None:
    def stop(slot: Slot, tensor: Tensor) -> None:
        if slot is SLOTS[at]:
            raise error("stop")
        fill(slot, tensor)

    with pytest.raises(error, match="stop"), new_directory(out, identity) as folder:
        write_weights(folder, SLOTS, stop, shard_bytes=4096)


def test_an_error_leaves_nothing(tmp_path: Path) -> None:
    interrupted(tmp_path / "out", "x", InputError)
    assert not any(tmp_path.iterdir())
    interrupted(tmp_path / "out", None, KeyboardInterrupt)
    assert not any(tmp_path.iterdir())
    interrupted(tmp_path / "out", "x", KeyboardInterrupt, at=0)
    assert not any(tmp_path.iterdir())


def test_an_interrupt_keeps_finished_files_for_the_same_merge_only(tmp_path: Path) -> None:
    for identity, kept in (("x", 3), ("y", 0), (None, 0)):
        interrupted(tmp_path / "out", "x", KeyboardInterrupt)
        assert [path.name for path in tmp_path.iterdir()] == [".out.partial"]
        with new_directory(tmp_path / "out", identity) as folder:
            notes = write_weights(folder, SLOTS, fill, shard_bytes=4096)
            assert (folder / RECORD).is_file()
        assert len(notes) == bool(kept)
        check(tmp_path / "out")
        shutil.rmtree(tmp_path / "out")


def test_finished_files_that_do_not_fit_are_written_again(tmp_path: Path) -> None:
    interrupted(tmp_path / "out", "x", KeyboardInterrupt, at=4)
    partial = tmp_path / ".out.partial"
    files = sorted(partial.glob("*.safetensors"))
    os.truncate(files[0], files[0].stat().st_size - 1)
    raw = bytearray(files[1].read_bytes())
    raw[20] ^= 1
    files[1].write_bytes(raw)
    files[2].rename(partial / "model-00009-of-00009.safetensors")
    (partial / "config.json").write_text("stale")
    (partial / "additional_chat_templates").mkdir()
    with new_directory(tmp_path / "out", "x") as folder:
        assert not (folder / "config.json").exists()
        assert write_weights(folder, SLOTS, fill, shard_bytes=4096) == (
            "kept 1 of 6 weight files that an earlier run had finished",
        )
    check(tmp_path / "out")
    assert len(list((tmp_path / "out").iterdir())) == 7


def test_other_shards_of_the_same_merge_are_dropped(tmp_path: Path) -> None:
    interrupted(tmp_path / "out", "x", KeyboardInterrupt)
    with new_directory(tmp_path / "out", "x") as folder:
        assert write_weights(folder, SLOTS, fill, shard_bytes=10**9) == ()
    assert [file.name for file in (tmp_path / "out").iterdir()] == [SINGLE]


def test_taken_outputs_are_refused(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("keep")
    (tmp_path / "file").write_text("keep")
    for out, says in ((tmp_path / "out", "exists already"), (tmp_path / "file", "exists already")):
        with pytest.raises(InputError, match=says):
            next(iter_directory(out))
    with pytest.raises(InputError, match="cannot write to"):
        next(iter_directory(tmp_path / "file" / "out"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "out"]


def test_a_disk_too_small_is_refused_before_anything_is_computed(tmp_path: Path) -> None:
    def never(slot: Slot, out: Tensor) -> None:
        raise AssertionError("nothing may be computed")

    with pytest.raises(InputError, match=r"needs 4000000\.00 GB, the disk of .* has \d+\.\d\d GB free"):
        write_weights(tmp_path, [Slot("w", "float32", (10**15,))], never, shard_bytes=10**9)
    assert not any(tmp_path.iterdir())


FULL_DISK = """
import sys
from pathlib import Path
import torch
from mergers._errors import InputError
from mergers._checkpoint.output import new_directory
from mergers._checkpoint.safetensors import Slot
from mergers._checkpoint.write import write_weights

disk = Path(sys.argv[1])
slots = [Slot(f"t.{i}", "float32", (1 << 16,)) for i in range(8)]  # 256 kB each: 2 MB, on a disk of 3 MB

def fill(slot, out):
    out.fill_(1)
    if slot is slots[2]:
        (disk / "somebody else").write_bytes(bytes(1_500_000))

try:
    with new_directory(disk / "out", "x") as folder:
        write_weights(folder, slots, fill, shard_bytes=1 << 18)
except InputError as error:
    print(error)
print(sorted(path.name for path in disk.iterdir()))
try:
    with new_directory(disk / "out", "x") as folder:
        (folder / "tokenizer.json").write_bytes(bytes(3_000_000))
except InputError as error:
    print(error)
print(sorted(path.name for path in disk.iterdir()))
"""


def test_a_disk_that_fills_up_half_way_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "script.py").write_text(FULL_DISK)
    mounted = f"mount -t tmpfs -o size=3m tmpfs {tmp_path / 'disk'} && exec {sys.executable} script.py disk"
    # In a name space of its own a user may mount, and the mount ends with the process.
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mounted]
    if shutil.which("unshare") is None or subprocess.run([*command[:-1], "true"], capture_output=True).returncode:
        pytest.skip("this system lets users make no name spaces, so no small disk can be mounted")
    done = subprocess.run(
        command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": os.getcwd()}, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    says, left, also, still = done.stdout.splitlines()
    assert re.fullmatch(
        r"writing model-00007-of-00008\.safetensors needs 2622\d\d bytes, the disk of .* has \d+ bytes free "
        r"\(No space left on device\); make room or choose another disk",
        says,
    )
    assert left == still == "['somebody else']"
    assert also == "cannot write disk/out: No space left on device; make room or choose another disk"


def test_a_limit_on_file_sizes_is_a_clear_line(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(InputError, match=r"needs 42\d\d bytes, .* \(File too large\); raise the limit"):
            write_file(tmp_path / SINGLE, SLOTS[:1], fill)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert not any(tmp_path.iterdir())


def test_file_systems_without_reservation_get_zeros_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No such file system can be mounted here, so its answer is given by hand; the rest is real."""

    def unsupported(descriptor: int, offset: int, length: int) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "posix_fallocate", unsupported)
    slots = [Slot("layers.0.weight", "float32", (1 << 19,))]  # two blocks of zeros and a bit
    write_file(tmp_path / SINGLE, slots, fill)
    assert (tmp_path / SINGLE).stat().st_blocks * 512 >= 1 << 21
    assert torch.equal(load_file(tmp_path / SINGLE)["layers.0.weight"], value(slots[0]))


MEMORY = """
import re, sys, threading, time
from pathlib import Path
import torch
from mergers._checkpoint.mapped import release
from mergers._checkpoint.safetensors import Slot
from mergers._checkpoint.write import write_weights

def resident():  # kB of maps of files
    return int(re.search(r"RssFile:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

slots = [Slot(f"t.{i}", "float32", (1 << 22,)) for i in range(12)] + [Slot("large", "float32", (1 << 25,))]
start, peak = resident(), 0

def fill(slot, out):
    global peak
    for block in out.split(1 << 22):
        block.fill_(1)
        peak = max(peak, resident())
        if slot.name == "large":
            release(block)

write_weights(Path(sys.argv[1]), slots, fill, shard_bytes=1 << 40)
print((peak - start) // 1024, (resident() - start) // 1024)
"""


def test_memory_does_not_grow_with_what_is_written(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(tmp_path)], capture_output=True, text=True, check=True, timeout=100
    )
    peak, after = map(int, done.stdout.split())
    assert (tmp_path / SINGLE).stat().st_size > 330_000_000
    assert 16 <= peak < 140  # 64 MiB handed over at a time, and the tensors that reach across
    assert after < 16
    assert load_file(tmp_path / SINGLE)["large"].min().item() == 1


def test_written_files_leave_the_page_cache(tmp_path: Path) -> None:
    import ctypes
    import mmap

    devices = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    if f"{os.major(tmp_path.stat().st_dev)}:{os.minor(tmp_path.stat().st_dev)}" in [
        fields[2] for fields in devices if "tmpfs" in fields
    ]:
        pytest.skip("temporary files lie in memory here")
    slots = [Slot("layers.0.weight", "float32", (1 << 22,))]
    write_file(tmp_path / SINGLE, slots, fill)
    with (tmp_path / SINGLE).open("r+b") as stream:
        mapped = mmap.mmap(stream.fileno(), 0)
        whole = torch.frombuffer(mapped, dtype=torch.uint8)
        pages = ctypes.create_string_buffer(len(whole) // mmap.PAGESIZE + 1)
        assert ctypes.CDLL(None).mincore(ctypes.c_void_p(whole.data_ptr()), ctypes.c_size_t(len(whole)), pages) == 0
    assert sum(byte & 1 for byte in pages.raw) < 100  # of 4097


def test_only_what_is_being_written_can_be_released(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="being written"):
        release(torch.zeros(10_000))

    def halves(slot: Slot, out: Tensor) -> None:
        for half in (out[: 1 << 13], out[1 << 13 :]):
            half.copy_(torch.arange(1 << 13))
            release(half)

    write_file(tmp_path / SINGLE, [Slot("layers.0.weight", "float32", (1 << 14,))], halves)
    assert load_file(tmp_path / SINGLE)["layers.0.weight"].tolist() == [*range(1 << 13)] * 2
    assert not _mapped._maps
