"""The vLLM engine: one live model on one device, in this process, its weights overwritten through vLLM's own loader.

vLLM needs an environment of its own: it pins another torch and another transformers. docs/evaluators.md says what of
this was run: on CPUs, with vLLM's build for them; on no GPU.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ._engine import Likelihood, Sampling, Stop
from ._errors import InputError
from ._files import tensor_files
from ._tokens import Encoder, Ids, check_fits

if TYPE_CHECKING:
    from torch import Tensor

VERSIONS = ("0.33.0", "0.32.0")
"""Whose loader, requests and answers are as this module takes them; the first is the one to install."""

SHARE = 0.9
"""Of the GPU's memory that vLLM and the second set of weights may take together."""


def vllm_engine(path: str, *, dtype: str) -> VllmEngine:
    """Load a checkpoint for scoring.

    Args:
        path: directory; safetensors only, no code of the checkpoint is run.
        dtype: "float32", "bfloat16" or "float16".

    Raises:
        InputError: vLLM is not installed, or not a version that this is written for; no device that it was built for;
            no safetensors.
    """
    # The worker must live here: its tensors are written into from outside.
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    try:
        import vllm
    except ImportError:
        raise InputError(
            f"engine vllm: not installed; pip install vllm=={VERSIONS[0]} in an environment of its own"
        ) from None
    if vllm.__version__.split("+")[0] not in VERSIONS:
        raise InputError(f"engine vllm: written for vLLM {' and '.join(VERSIONS)}, found {vllm.__version__}")
    files = tensor_files(path)
    llm = vllm.LLM(
        model=path,
        dtype=dtype,
        seed=0,
        trust_remote_code=False,
        load_format="safetensors",
        worker_extension_cls="evaluators._vllm_worker.Staging",
        enable_prefix_caching=True,
        # Penalties and temperatures of a generation config are not applied.
        generation_config="vllm",
        **_device(files),
    )
    return VllmEngine(llm, path, files, dtype)


def _device(files: Sequence[str]) -> dict[str, Any]:
    """What vLLM is told of the device that it was built for: room for the second set of weights on a GPU.

    Raises:
        InputError: there is none.
    """
    import torch
    from vllm.platforms import current_platform

    if current_platform.is_cpu():
        from ._vllm_worker import keep_weights

        keep_weights()
        return {"enforce_eager": True}  # compiling needs a compiler, and takes longer than a small model's items
    if not torch.cuda.is_available():
        raise InputError("engine vllm: needs a GPU, or vLLM's build for CPUs; choose engine: transformers")
    second = sum(os.path.getsize(file) for file in files) / torch.cuda.get_device_properties(0).total_memory
    return {"gpu_memory_utilization": SHARE - second}


class VllmEngine:
    """See `_engine.Engine`. `stop` is not asked: a predicate only saves work."""

    def __init__(self, llm: Any, path: str, files: tuple[str, ...], dtype: str) -> None:
        from ._files import ends_of

        self._llm, self._path, self._files, self._dtype = llm, path, files, dtype
        tokenizer = llm.get_tokenizer()
        self._ends = ends_of(path, tokenizer)
        self._encoder = Encoder(tokenizer, self._ends)
        self._context = int(llm.model_config.max_model_len)
        self._tokens = 0

    @property
    def tokens(self) -> int:
        """See `Engine.tokens`."""
        return self._tokens

    def weights(self) -> dict[str, Tensor]:
        """See `Engine.weights`. Call `written` after writing."""
        found: dict[str, Tensor] = self._llm.collective_rpc("staging_open", args=(self._files, self._dtype))[0]
        return found

    def written(self) -> None:
        """See `Engine.written`.

        Raises:
            RuntimeError: vLLM did not take the weights over, or kept its prefix cache.
        """
        self._llm.collective_rpc("staging_take")
        # Keys and values of the weights before would answer for prompts that begin alike.
        if not self._llm.reset_prefix_cache():
            raise RuntimeError("vLLM kept its prefix cache after its weights changed; this candidate has no score")

    def generate(
        self,
        prompts: Sequence[str],
        *,
        max_new_tokens: int,
        stop: Stop | None = None,
        until: Sequence[str] = (),
        sampling: Sampling | None = None,
        chat: bool = True,
    ) -> list[str]:
        """See `Engine.generate`."""
        from ._decoding import cut

        rows = [self._encoder.prompt(prompt, chat=chat) for prompt in prompts]
        check_fits(
            self._context, prompts, [len(row) + max_new_tokens for row in rows], f" with {max_new_tokens} new tokens"
        )
        common = {"max_tokens": max_new_tokens, "stop": list(until), "stop_token_ids": list(self._ends), "logprobs": 0}
        wishes = [{**common, **_drawn(sampling, index)} for index in range(len(rows))]
        outputs = self._run(rows, wishes)
        responses = []
        for output in outputs:
            written = output.outputs[0]
            _finite(
                sum(
                    _chosen(place, token).logprob
                    for place, token in zip(written.logprobs, written.token_ids, strict=True)
                )
            )
            ids = [token for token in written.token_ids if token not in self._ends]
            self._tokens += len(ids)
            responses.append(cut(self._encoder.texts([ids])[0], until))
        return responses

    def loglikelihood(
        self, prompts: Sequence[str], continuations: Sequence[str], *, chat: bool = True
    ) -> list[Likelihood]:
        """See `Engine.loglikelihood`."""
        pairs = [self._encoder.pair(p, c, chat=chat) for p, c in zip(prompts, continuations, strict=True)]
        return [found for found, _ in self._forced(prompts, pairs, " with the continuation")]

    def matches(self, prompts: Sequence[str], answers: Sequence[str]) -> list[bool]:
        """See `Engine.matches`."""
        pairs = [self._encoder.pair(prompt, answer) for prompt, answer in zip(prompts, answers, strict=True)]
        found = self._forced(prompts, pairs, " with the answer")
        return [likelihood.greedy and after in self._ends for likelihood, after in found]

    def render(self, turns: Sequence[Mapping[str, str]], *, more: bool = True) -> str:
        """See `Engine.render`."""
        if not self._encoder.template:
            raise InputError(f"{self._path}: has no chat template; leave `chat` out")
        return self._encoder.render(turns, more=more)

    def close(self) -> None:
        """See `Engine.close`."""
        self._llm.llm_engine.engine_core.shutdown()
        del self._llm

    def _forced(
        self, prompts: Sequence[str], pairs: Sequence[tuple[Ids, Ids]], what: str
    ) -> list[tuple[Likelihood, int]]:
        """The likelihood of each continuation, and the token that greedy decoding writes after it."""
        widths = [len(head) + len(tail) for head, tail in pairs]
        # One token is always generated.
        check_fits(self._context - 1, prompts, widths, what)
        rows = [[*head.tolist(), *tail.tolist()] for head, tail in pairs]
        outputs = self._run(rows, [{"max_tokens": 1, "prompt_logprobs": 0, "detokenize": False}] * len(rows))
        found = []
        for (head, tail), output in zip(pairs, outputs, strict=True):
            places = output.prompt_logprobs[len(head) :] if len(tail) else []
            chosen = [_chosen(place, token) for place, token in zip(places, tail.tolist(), strict=True)]
            value = _finite(sum(one.logprob for one in chosen))
            greedy = all(one.rank == 1 for one in chosen)
            found.append((Likelihood(value, len(tail), greedy), int(output.outputs[0].token_ids[0])))
        return found

    def _run(self, rows: Sequence[Any], wishes: Sequence[Mapping[str, Any]]) -> list[Any]:
        import vllm

        if not rows:
            return []
        self._tokens += sum(map(len, rows))
        inputs = [{"prompt_token_ids": list(map(int, row))} for row in rows]
        params = [vllm.SamplingParams(**{"temperature": 0.0, **wish}) for wish in wishes]
        found: list[Any] = self._llm.generate(inputs, params, use_tqdm=False)
        return found


def _drawn(sampling: Sampling | None, index: int) -> dict[str, Any]:
    if sampling is None:
        return {}
    text = f"{sampling.seed}\x1f{sampling.keys[index]}".encode()
    seed = int.from_bytes(hashlib.blake2b(text, digest_size=4).digest(), "little")
    return {"temperature": sampling.temperature, "top_p": sampling.top_p, "seed": seed}


def _chosen(place: Any, token: int) -> Any:
    return place[int(token)]


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise FloatingPointError("the log-probabilities of a response are not finite")
    return float(value)
