"""The vLLM engine: what runs without vLLM, and all of it with a Python that has it."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from evaluators._engines import load_engine
from evaluators._errors import InputError
from evaluators._files import ends_of, tensor_files
from evaluators._transformers import transformers_engine
from evaluators._vllm_worker import Staging, _bits

from .conftest import sentences, write_model

PYTHON = "MERGEFRONT_VLLM_PYTHON"


@pytest.mark.skipif(importlib.util.find_spec("vllm") is not None, reason="vLLM is installed here")
def test_without_vllm_the_engine_says_what_to_install(checkpoint: Path) -> None:
    with pytest.raises(InputError, match=r"engine vllm: not installed; pip install vllm==0\.33\.0 in an environment"):
        load_engine("vllm", str(checkpoint), dtype="float32")
    with pytest.raises(InputError, match="no engine 'vlm'; there are transformers, vllm"):
        load_engine("vlm", str(checkpoint), dtype="float32")


def test_ends_and_files_are_read_without_the_model(checkpoint: Path, tmp_path: Path) -> None:
    class Bare:
        eos_token_id = None

    assert ends_of(str(checkpoint), Bare()) == (2,)
    assert [Path(file).name for file in tensor_files(str(checkpoint))] == ["model.safetensors"]
    with pytest.raises(InputError, match=r"has no \.safetensors file"):
        tensor_files(str(tmp_path))
    with pytest.raises(InputError, match="no end-of-sequence token"):
        ends_of(str(tmp_path), Bare())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_sum_of_bits_knows_no_order_and_no_padding(dtype: torch.dtype) -> None:
    parts = [torch.randn(6, 4, generator=torch.Generator().manual_seed(seed)).to(dtype) for seed in range(3)]
    fused = torch.cat([*parts, torch.zeros(5, 4, dtype=dtype)])
    assert _bits(fused) % 2**64 == sum(map(_bits, parts)) % 2**64
    assert _bits(fused.T) == _bits(fused)
    moved = fused.clone()
    moved[0, 0] += 1
    assert _bits(moved) != _bits(fused)


class Fusing(Staging):
    """A worker whose live model is one fused tensor, loaded from the checkpoint's in order; `skip` is left out."""

    def __init__(self, files: tuple[str, ...], skip: str = "") -> None:
        self.device, self.skip = "cpu", skip
        tensors = load_file(files[0])
        self.names = [name for name, tensor in tensors.items() if tensor.dim() == 2]
        self.live = torch.nn.Parameter(torch.cat([tensors[name].flatten() for name in self.names]), requires_grad=False)
        self.model_runner = self

    def get_model(self) -> torch.nn.Module:
        return torch.nn.ParameterList([self.live])

    def reload_weights(self, weights_iterator: Iterator[tuple[str, Tensor]]) -> None:
        given = {name: tensor for name, tensor in weights_iterator if name in self.names}
        start = 0
        for name in self.names:
            stop = start + given[name].numel()
            if name != self.skip:
                self.live[start:stop] = given[name].flatten()
            start = stop


def test_a_tensor_that_is_not_taken_over_is_noticed(tmp_path: Path) -> None:
    files = tensor_files(str(write_model(tmp_path / "model")))
    sound = Fusing(files)
    staged = sound.staging_open(files, "float32")
    assert sound.staging_open(files, "float32") is staged
    for name in sound.names:
        staged[name].mul_(1.5)
    sound.staging_take()
    assert torch.equal(sound.live, torch.cat([staged[name].flatten() for name in sound.names]))
    broken = Fusing(files, skip=sound.names[1])
    staged = broken.staging_open(files, "float32")
    broken.staging_take()  # nothing was written yet, so nothing is missing
    staged[broken.names[1]].mul_(1.5)
    with pytest.raises(RuntimeError, match="live weights are not those that were written"):
        broken.staging_take()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(
    not os.environ.get(PYTHON), reason=f"{PYTHON} names no Python that has vLLM (see docs/evaluators.md)"
)
def test_on_a_real_vllm_answers_are_those_of_transformers_and_follow_the_weights(tmp_path: Path) -> None:
    paths = []
    for seed in (0, 3):  # vLLM's attention on CPUs wants heads of 32 and more
        path = write_model(tmp_path / str(seed), seed=seed, hidden_size=128, intermediate_size=128)
        paths.append(path)
    prompts = [f"{text} {number}" for number, text in enumerate(sentences(18, 5, longest=5))]
    engines = [transformers_engine(str(path), dtype="float32", device="cpu") for path in paths]
    expected = [engine.generate(prompts, max_new_tokens=8) for engine in engines]
    texts = [text.strip() for text in expected[1]]
    script = Path(__file__).with_name("vllm_run.py")
    process = subprocess.run(
        [os.environ[PYTHON], str(script), *map(str, paths)],
        input=json.dumps({"prompts": prompts, "texts": texts}),
        env={**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1"},
        capture_output=True,
        text=True,
        timeout=800,
        check=False,
    )
    assert process.returncode == 0, process.stderr[-3000:]
    line = next(line for line in process.stdout.splitlines() if line.startswith("ANSWERS "))
    found = json.loads(line.removeprefix("ANSWERS "))
    assert found["before"] == found["after"] == expected[0]
    assert found["other"] == expected[1] != expected[0]
    assert found["until"] == engines[1].generate(prompts, max_new_tokens=8, until=["e"])
    likely = engines[1].loglikelihood(prompts, texts)
    assert [value for value, _ in found["logprobs"]] == pytest.approx([one.logprob for one in likely], rel=1e-4)
    assert [greedy for _, greedy in found["logprobs"]] == [one.greedy for one in likely]
    assert found["matches"] == engines[1].matches(prompts, texts)
    assert found["drawn"][0] == found["drawn"][1] != found["other"]
    assert "live weights are not those that were written" in found["not taken over"]
