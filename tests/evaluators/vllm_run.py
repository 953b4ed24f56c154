"""Run by a Python that has vLLM: what its engine answers before, with and after other weights, as one line of JSON.

PYTHON tests/evaluators/vllm_run.py MODEL OTHER < prompts.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

LIMIT = 8


def deaf(wrapper: Any) -> None:
    """A worker that takes no weights over."""
    wrapper.worker.reload_weights = lambda **_: None


def hearing(wrapper: Any) -> None:
    del wrapper.worker.reload_weights


def main() -> None:
    from safetensors.torch import load_file

    from evaluators._engine import Sampling
    from evaluators._engines import load_engine

    asked = json.load(sys.stdin)
    prompts, texts = asked["prompts"], asked["texts"]
    engine = load_engine("vllm", sys.argv[1], dtype="float32")
    live = engine.weights()
    own = {name: tensor.clone() for name, tensor in live.items()}
    drawn = Sampling(0.8, 0.9, 1, tuple(map(str, range(len(prompts)))))
    found: dict[str, object] = {"before": engine.generate(prompts, max_new_tokens=LIMIT)}
    for name, tensor in load_file(Path(sys.argv[2]) / "model.safetensors").items():
        live[name].copy_(tensor)
    engine.written()
    found["other"] = engine.generate(prompts, max_new_tokens=LIMIT)
    found["until"] = engine.generate(prompts, max_new_tokens=LIMIT, until=["e"])
    found["logprobs"] = [[one.logprob, one.greedy] for one in engine.loglikelihood(prompts, texts)]
    found["matches"] = engine.matches(prompts, texts)
    found["drawn"] = [engine.generate(prompts, max_new_tokens=LIMIT, sampling=drawn) for _ in range(2)]
    for name, tensor in own.items():
        live[name].copy_(tensor)
    llm: Any = engine._llm  # type: ignore[attr-defined]  # of this engine alone
    llm.collective_rpc(deaf)
    try:
        engine.written()
    except RuntimeError as error:
        found["not taken over"] = str(error)
    llm.collective_rpc(hearing)
    engine.written()
    found["after"] = engine.generate(prompts, max_new_tokens=LIMIT)
    found["tokens"] = engine.tokens
    engine.close()
    print("ANSWERS", json.dumps(found))


if __name__ == "__main__":
    main()
