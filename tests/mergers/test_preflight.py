"""Models by name, and what a merge takes, from headers: of directories, of the hub's cache and of a hub."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from mergers._checkpoint.checkpoint import INDEX, SINGLE, open_checkpoint
from mergers._checkpoint.hub import resolve
from mergers._checkpoint.mapped import free_bytes
from mergers._checkpoint.preflight import inspect
from mergers._checkpoint.safetensors import Slot
from mergers._checkpoint.write import write_weights
from mergers._errors import InputError

EMBEDDING = "model.embed_tokens.weight"


def weights(layers: int = 2, rows: int = 12, dtype: torch.dtype = torch.bfloat16) -> dict[str, Tensor]:
    made = {f"model.layers.{i}.mlp.up.weight": torch.ones(4, 4, dtype=dtype) for i in range(layers)}
    return made | {EMBEDDING: torch.ones(rows, 4, dtype=dtype), "model.norm.weight": torch.ones(4)}


WEIGHTS = weights()


def save(folder: Path, tensors: Mapping[str, Tensor] = WEIGHTS, *, shard_bytes: int = 10**9, tokens: int = 10) -> Path:
    folder.mkdir(parents=True)
    slots = [Slot(name, str(one.dtype).removeprefix("torch."), tuple(one.shape)) for name, one in tensors.items()]

    def fill(slot: Slot, out: Tensor) -> None:
        out.copy_(tensors[slot.name])

    write_weights(folder, slots, fill, shard_bytes=shard_bytes)
    config = {"architectures": ["LlamaForCausalLM"], "tie_word_embeddings": True}
    (folder / "config.json").write_text(json.dumps(config))
    vocabulary = {f"w{i}": i for i in range(tokens)}
    (folder / "tokenizer.json").write_text(json.dumps({"model": {"vocab": vocabulary}, "added_tokens": []}))
    return folder


@dataclass
class Hub:
    """A hub on the loopback: `root/owner/name` are its models."""

    root: Path
    endpoint: str = ""
    ranges: bool = True
    sent: dict[str, int] = field(default_factory=dict)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    state = Hub(tmp_path / "hub")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            match = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self.path)
            assert match is not None, self.path
            repo, revision, name = match.groups()
            missing = None if (state.root / repo).is_dir() else "RepoNotFound"
            missing = "RevisionNotFound" if missing is None and revision != "main" else missing
            missing = "EntryNotFound" if missing is None and not (state.root / repo / name).is_file() else missing
            missing = "GatedRepo" if repo == "owner/gated" else missing
            if missing is not None:
                self.send_response(403 if missing == "GatedRepo" else 404)
                self.send_header("X-Error-Code", missing)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            raw = (state.root / repo / name).read_bytes()
            wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
            assert wanted is not None, "nothing may be read whole"
            if state.ranges:
                part = raw[int(wanted[1]) : int(wanted[2]) + 1]
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {wanted[1]}-{int(wanted[1]) + len(part) - 1}/{len(raw)}")
            else:
                part = raw
                self.send_response(200)
            self.send_header("Content-Length", str(len(part)))
            self.end_headers()
            state.sent[name] = state.sent.get(name, 0) + len(part)
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                self.wfile.write(part)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def cache(root: Path, repo: str, commit: str = "a" * 40, revision: str = "main") -> Path:
    """A snapshot in a hub cache as huggingface_hub lays it out."""
    folder = root / f"models--{repo.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True, exist_ok=True)
    (folder / "refs" / revision).write_text(commit)
    return save(folder / "snapshots" / commit)


def test_directories_and_cached_hub_ids_resolve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    main = cache(tmp_path / "cache", "owner/name")
    other = cache(tmp_path / "cache", "owner/name", "b" * 40, "v2")
    assert resolve("owner/name") == main
    assert resolve("owner/name@v2") == other
    assert resolve(f"owner/name@{'b' * 40}") == other
    assert open_checkpoint(resolve("owner/name")).names
    local = save(tmp_path / "owner" / "name")
    assert resolve("owner/name") == Path("owner/name")  # a directory comes first, as everywhere
    assert resolve("~/owner/name") == local
    assert resolve(local) == local


def test_what_is_not_there_is_refused_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    (tmp_path / "file").write_text("")
    cases = {
        "owner/name": r"neither a directory nor in the hub cache; check it, or run `hf download owner/name`",
        "owner/name@v2": r"run `hf download owner/name --revision v2`",
        str(tmp_path / "none"): "is not a directory; give a directory or a hub id",
        str(tmp_path / "file"): "is not a directory",
        "../no such model": "is not a directory",
        "a/b/c": "is not a directory",
        "a--b/c": "nor in the hub cache",
    }
    for model, says in cases.items():
        with pytest.raises(InputError, match=says) as caught:
            resolve(model)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("shard_bytes", [10**9, 100])
@pytest.mark.parametrize("ranges", [True, False])
def test_a_model_on_the_hub_is_described_as_its_download(hub: Hub, ranges: bool, shard_bytes: int) -> None:
    hub.ranges = ranges
    folder = save(hub.root / "owner" / "model", shard_bytes=shard_bytes)
    found = inspect(["owner/model", "owner/model@main"], endpoint=hub.endpoint)
    local = inspect([folder, folder])
    assert found.problems == local.problems == ()
    there, here = found.models[0], local.models[0]
    assert there.remote
    assert not here.remote
    for name in ("architecture", "layers", "hidden", "types", "parameters", "size", "rows", "tokens", "tied", "notes"):
        assert getattr(there, name) == getattr(here, name), name
    assert (here.architecture, here.layers, here.hidden) == ("LlamaForCausalLM", 2, 4)
    assert here.types == (("bfloat16", 80), ("float32", 4))
    assert (here.parameters, here.size, here.rows, here.tokens, here.tied) == (84, 176, 12, 10, True)
    assert (
        (found.disk, found.memory, found.live) == (local.disk, local.memory, local.live) == (168, 12 * 4 * 4 * 4, 168)
    )
    assert any("2 padding: 12 rows for 10 tokens" in note for note in here.notes)


def test_weights_are_not_downloaded(hub: Hub) -> None:
    large = {f"model.layers.{i}.mlp.{'x' * 100}.weight": torch.zeros(64, 64) for i in range(1000)}
    folder = save(hub.root / "owner" / "model", large | {EMBEDDING: torch.zeros(1 << 16, 16)})
    assert (folder / SINGLE).stat().st_size > 20_000_000
    found = inspect(["owner/model"], endpoint=hub.endpoint)
    assert found.problems == ()
    assert found.models[0].layers == 1000
    assert 100_000 < hub.sent[SINGLE] < 300_000  # a header longer than the first read


def test_bad_models_on_the_hub_are_problems(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    save(hub.root / "owner" / "base")
    cut = save(hub.root / "owner" / "cut") / SINGLE
    os.truncate(cut, cut.stat().st_size - 1)
    lost = save(hub.root / "owner" / "lost", shard_bytes=100)
    next(lost.glob("model-00002*")).unlink()
    (hub.root / "owner" / "pickled").mkdir()
    (hub.root / "owner" / "pickled" / "pytorch_model.bin").write_bytes(b"")
    (save(hub.root / "owner" / "index", shard_bytes=100) / INDEX).write_text("{")
    (save(hub.root / "owner" / "config") / "config.json").unlink()
    cases = {
        "owner/none": "neither a directory nor on the hub",
        "owner/base@v9": "neither a directory nor on the hub",
        "owner/gated": "asks to accept its terms",
        "owner/cut": r"owner/cut/model\.safetensors is cut short: its header promises",
        "owner/lost": r"names shard model-00002-of-\d+\.safetensors, which is missing",
        "owner/pickled": "on the hub has no model.safetensors",
        "owner/index": "is not a readable index",
        "owner/config": "has no readable config.json",
        "no such/thing at all": "is not a directory|neither a directory nor a hub id",
    }
    for name, says in cases.items():
        problems = inspect(["owner/base", name], endpoint=hub.endpoint).problems
        assert len(problems) == 1, (name, problems)
        assert re.search(says, problems[0]), problems
        assert "\n" not in problems[0]
    (problem,) = inspect(["owner/base"], endpoint="http://127.0.0.1:9").problems
    assert "owner/base cannot be read from the hub (ConnectError" in problem
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    (problem,) = inspect(["owner/base"], endpoint=hub.endpoint).problems
    assert problem.endswith("hub access is off (HF_HUB_OFFLINE)")


def test_experts_are_compared_with_the_base(tmp_path: Path, hub: Hub) -> None:
    base = save(tmp_path / "base")
    save(hub.root / "owner" / "deeper", weights(layers=3))
    wider = save(tmp_path / "wider", weights(rows=16))
    other = save(tmp_path / "other")
    (other / "config.json").write_text('{"architectures": ["MistralForCausalLM"]}')
    headed = save(tmp_path / "headed", weights() | {"lm_head.weight": torch.zeros(12, 4, dtype=torch.bfloat16)})
    buffered = save(
        tmp_path / "buffered", weights() | {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(2)}, tokens=12
    )
    found = inspect([base, "owner/deeper", wider, other, headed, buffered, buffered], endpoint=hub.endpoint)
    says = [
        "listed twice",
        "expert owner/deeper has 3 layers, the base 2",
        "wider has a vocabulary of 16 rows, the base of 12",
        "other is a MistralForCausalLM, the base a LlamaForCausalLM",
        r"headed has an output head of its own \(lm_head\.weight\)",
    ]
    assert len(found.problems) == len(says), found.problems
    for problem, pattern in zip(found.problems, says, strict=True):
        assert re.search(pattern, problem)
    assert any("left out" in note for note in found.models[5].notes)
    assert inspect([base, wider], same_rows=False).problems == ()


def test_a_head_on_the_hub_may_be_tied_or_not(hub: Hub) -> None:
    folder = save(hub.root / "owner" / "m", weights() | {"lm_head.weight": torch.zeros(12, 4, dtype=torch.bfloat16)})
    assert inspect([folder]).models[0].tied is False
    assert inspect(["owner/m"], endpoint=hub.endpoint).models[0].tied is True  # as its configuration says
    (folder / "config.json").write_text("{}")
    found = inspect(["owner/m"], endpoint=hub.endpoint)
    assert found.models[0].tied is None
    assert any("only the weights tell" in line for line in found.lines())


def test_needs_follow_the_output_type_and_the_disk(tmp_path: Path) -> None:
    base = save(tmp_path / "base", weights() | {"steps": torch.tensor([1, 2])})
    assert inspect([base], dtype="float32").disk == 84 * 4 + 16
    assert inspect([base], dtype="float16").disk == 84 * 2 + 16
    assert inspect([base]).dtype == "bfloat16"
    assert inspect([base], out=tmp_path / "a" / "b").problems == ()


def test_a_disk_too_small_is_a_problem(tmp_path: Path) -> None:
    count = free_bytes(tmp_path) // 2  # in float32 twice what is free
    header = json.dumps({"w": {"dtype": "F32", "shape": [count], "data_offsets": [0, 4 * count]}}).encode()
    huge = save(tmp_path / "huge")
    with (huge / SINGLE).open("wb") as stream:
        stream.write(len(header).to_bytes(8, "little") + header)
        stream.truncate(8 + len(header) + 4 * count)  # sparse: takes no room
    (problem,) = inspect([huge], out=tmp_path / "out").problems
    assert re.match(r"the output needs \d+\.\d\d GB, the disk of .* has \d+\.\d\d GB free; make room", problem)


def test_lines_are_for_people(tmp_path: Path) -> None:
    base = save(tmp_path / "base")
    lines = inspect([base, tmp_path / "none"]).lines()
    assert lines[0] == f"{base}: LlamaForCausalLM, 84 parameters in bfloat16 and float32, 0.00 GB"
    assert lines[1] == "  2 layers, width 4, 12 rows for 10 tokens, tied head"
    assert any(line.startswith("output in bfloat16: ") for line in lines)
    assert lines[-1].startswith(f"problem: checkpoint {tmp_path / 'none'} is not a directory")


def test_the_endpoint_of_the_environment_is_used_and_torch_is_not_loaded(hub: Hub, tmp_path: Path) -> None:
    save(hub.root / "owner" / "model")
    script = "import sys; from mergers._checkpoint.preflight import inspect; "
    script += "print(*inspect(['owner/model']).lines(), sep='\\n');"
    script += "assert not {'torch', 'numba', 'transformers'} & set(sys.modules)"
    environment = os.environ | {"HF_ENDPOINT": hub.endpoint, "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path / "home")}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("owner/model (on the hub): LlamaForCausalLM, 84 parameters")


def test_mixed_types_and_shards_are_described(tmp_path: Path) -> None:
    mixed = {
        f"model.layers.{i}.w": torch.ones(4, 4, dtype=kind) for i, kind in enumerate((torch.float16, torch.float32))
    }
    (tmp_path / "m").mkdir()
    save_file(mixed, tmp_path / "m" / SINGLE)
    found = inspect([tmp_path / "m"])
    assert found.models[0].types == (("float16", 16), ("float32", 16))
    assert found.models[0].rows is None
    assert any("has no readable config.json" in problem for problem in found.problems)
