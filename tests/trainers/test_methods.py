"""The parts that are our own: domain weights, draws, conversations, pairs, rewards. Known answers, no trainings."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.trainers.tiny import letters, preferences, source, spec, write_base, write_rows
from trainers import _dro as dro
from trainers import dpo, rewards
from trainers._data import load_source, mixture
from trainers._draw import Draw, uniform
from trainers._encode import IGNORED, completions, conversation
from trainers._errors import InputError, TrainingError
from trainers._mixture import Domain, domains_of, read_mixture
from trainers._policy import check_prompts, rewarded


def remix_step(
    alpha: Any, average: Any, step: int, proxy: Any, reference: Any, domain: Any, prior: Any, eta: float, c: float
) -> tuple[Any, Any, float]:
    """doremi_step of jhejna/remix (scripts/train_remix.py, lines 165 to 220), in numpy: the oracle."""

    def per_domain(losses: Any) -> Any:
        one_hot = (np.arange(len(prior))[:, None] == domain[None, :]).astype(float)
        return one_hot @ losses / np.maximum(one_hot @ (losses != 0), 1.0)

    excess = proxy - reference
    alpha = alpha * np.exp(eta * per_domain(np.clip(excess, 0, None)))
    alpha /= alpha.sum()
    alpha = (1 - c) * alpha + prior * c
    return alpha, average + (alpha - average) / (step + 1), float(alpha @ per_domain(excess))


def test_domain_weights_are_those_of_the_public_code() -> None:
    rng = np.random.default_rng(0)
    prior = np.array([0.5, 0.3, 0.2])
    alpha, average, ours = prior, prior, dro.start(prior.tolist())
    for step in range(20):
        proxy, reference = rng.normal(3, 1, 16), rng.normal(2.5, 1, 16)
        domain = rng.integers(0, 3 if step % 3 else 2, 16)  # at times a domain has no sample
        alpha, average, loss = remix_step(alpha, average, step, proxy, reference, domain, prior, 0.7, 0.05)
        total = dro.sums(proxy - reference, domain, 3)
        ours = dro.updated(ours, dro.means(total)[0].tolist(), 0.7, 0.05)
        assert ours.alpha == pytest.approx(alpha, rel=1e-12)
        assert ours.mean == pytest.approx(average, rel=1e-12)
        weights = dro.sample_weights(ours, total, domain)
        assert float(weights @ (proxy - reference)) == pytest.approx(loss, rel=1e-9)
    assert sum(ours.mean) == pytest.approx(1)


def test_sums_of_parts_are_the_sum_of_the_whole() -> None:
    rng = np.random.default_rng(1)
    excess, domain = rng.normal(size=12), rng.integers(0, 4, 12)
    parts = dro.sums(excess[:5], domain[:5], 4) + dro.sums(excess[5:], domain[5:], 4)
    assert parts == pytest.approx(dro.sums(excess, domain, 4))


def test_a_diverging_proxy_does_not_overflow() -> None:
    ours = dro.updated(dro.start([0.5, 0.5]), [5000.0, 1.0], 1.0, 0.1)
    assert ours.alpha == pytest.approx((0.95, 0.05))


def test_domains_of_a_mixture(tmp_path: Path) -> None:
    made = spec("unused", source("a", "a", 0.8), source("b", "b", 0.2))
    groups, sizes = (("a", "en"), ("a", "fr"), ("b", "en")), (30, 10, 5)
    assert domains_of(made, groups, sizes, "source").domains == (Domain("a", (), 0.8), Domain("b", (), 0.2))
    layout = domains_of(made, groups, sizes, "language")
    assert [domain.name for domain in layout.domains] == ["a/en", "a/fr", "b/en"]
    assert [domain.probability for domain in layout.domains] == pytest.approx([0.6, 0.2, 0.2])
    assert layout.of_group == (0, 1, 2)
    with pytest.raises(InputError, match="remix weighs domains against each other, and there is 1"):
        domains_of(spec("unused", source("a", "a")), groups[:2], sizes[:2], "source")
    with pytest.raises(InputError, match="'a' has no column language"):
        domains_of(spec("unused", source("a", "a")), (("a", ""),), (3,), "language")


def test_a_mixture_is_read_back(tmp_path: Path) -> None:
    entry = {"source": "a", "languages": ["en"], "probability": 0.25, "prior": 0.5, "last": 0.2}
    (tmp_path / "mixture.json").write_text(json.dumps({"domains": [entry]}))
    assert read_mixture(str(tmp_path)) == (Domain("a", ("en",), 0.25),)
    with pytest.raises(InputError, match="holds no mixture"):
        read_mixture(str(tmp_path / "none"))


def test_draws_are_uniform_and_hang_on_the_sample_alone() -> None:
    drawn = uniform(3, range(20_000), 5)
    assert abs(drawn.mean() - 0.5) < 4 / np.sqrt(12 * 20_000)
    assert np.histogram(drawn, 10, (0, 1))[0].std() < 4 * np.sqrt(2000)
    assert uniform(3, [7], 5)[0] == drawn[7]
    assert len({uniform(s, [n], p)[0] for s, n, p in ((3, 7, 5), (4, 7, 5), (3, 8, 5), (3, 7, 6))}) == 4


def test_tokens_are_drawn_with_the_probabilities_of_the_model() -> None:
    import torch

    logits = torch.tensor([0.0, 1.0, -torch.inf, 2.0]).expand(20_000, 4)
    wanted = torch.softmax(logits[0] / 0.5, 0).numpy()
    scores = Draw(0, range(20_000), 0.5, start=3)(torch.zeros(20_000, 5), logits)
    tokens = scores.argmax(1)
    found = np.bincount(tokens.numpy(), minlength=4) / 20_000
    assert found == pytest.approx(wanted, abs=4 * 0.5 / np.sqrt(20_000))
    assert found[2] == 0
    few = Draw(0, [11, 4], 0.5, start=1)(torch.zeros(2, 3), logits[:2]).argmax(1)  # padded otherwise, the same position
    assert few.tolist() == [tokens[11], tokens[4]]


def test_every_turn_of_the_assistant_is_trained_on_and_nothing_else(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(write_base(tmp_path / "base"))
    turns = [("user", "a"), ("assistant", "bc"), ("user", "d"), ("assistant", "ef")]
    ids, labels = conversation(tokenizer, [{"role": role, "content": text} for role, text in turns])
    assert tokenizer.decode(ids) == "<s><|user|> a<|assistant|> bc</s><|user|> d<|assistant|> ef</s>"
    trained = [label for label in labels if label != IGNORED]
    assert tokenizer.decode(trained) == " bc</s> ef</s>"
    assert all(label in (IGNORED, token) for label, token in zip(labels, ids, strict=True))


def test_a_conversation_of_one_turn_is_prompt_and_response(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(write_base(tmp_path / "base"))
    encode = completions(tokenizer, 32)
    turns = [{"role": "user", "content": "alpha c"}, {"role": "assistant", "content": "ad"}]
    one = encode({"messages": [turns], "group": [0]})
    two = encode({"prompt": ["alpha c"], "response": ["ad"], "group": [0]})
    assert one == two


def test_templates_that_rewrite_turns_are_refused(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(write_base(tmp_path / "base"))
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m['content'] if loop.last or m['role'] == 'user' else '' }}{% endfor %}"
    )
    turns = [{"role": role, "content": text} for role, text in (("user", "a"), ("assistant", "b"), ("user", "c"))]
    with pytest.raises(InputError, match="writes a turn of the assistant otherwise"):
        conversation(tokenizer, turns)
    tokenizer.chat_template = None
    with pytest.raises(InputError, match="no chat template"):
        conversation(tokenizer, turns)


def test_messages_without_an_answer_are_refused(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"messages": [{"role": "user", "content": "a"}]}]
    from trainers.sft import COLUMNS

    with pytest.raises(InputError, match="row 1 has no message of the assistant"):
        load_source(source("a", write_rows(tmp_path / "a.jsonl", rows)), COLUMNS, ())


def test_preferences_need_both_answers(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"prompt": "a", "chosen": "b", "language": "en"}]
    with pytest.raises(InputError, match=r"'a' has no column 'rejected' \(for rejected\); it has prompt, chosen"):
        load_source(source("a", write_rows(tmp_path / "a.jsonl", rows)), dpo.COLUMNS, ())


@pytest.mark.parametrize("template", [True, False])
def test_pairs_are_those_of_trl(tmp_path: Path, template: bool) -> None:
    """TRL's own preparation is the oracle for ours, which works row by row without files."""
    from transformers import AutoTokenizer
    from trl import DPOConfig, DPOTrainer

    base = write_base(tmp_path / "base", template=template)
    tokenizer = AutoTokenizer.from_pretrained(base)
    file = write_rows(tmp_path / "a.jsonl", preferences("alpha", 8))
    rows = mixture(spec(base, source("a", file), steps=2, batch=4), dpo.COLUMNS).rows
    ours = rows.with_transform(dpo._pairs(tokenizer))[:]
    if template:
        roles = {"prompt": "user", "chosen": "assistant", "rejected": "assistant"}
        rows = rows.map(lambda row: {k: [{"role": role, "content": row[k]}] for k, role in roles.items()})
    from transformers import AutoModelForCausalLM

    theirs = DPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(base),
        args=DPOConfig(output_dir=str(tmp_path), bf16=False, use_cpu=True, report_to="none"),
        train_dataset=rows.remove_columns("group"),
        processing_class=tokenizer,
    ).train_dataset
    for name in ("prompt_ids", "chosen_ids", "rejected_ids"):
        assert ours[name] == list(theirs[name])


def test_rewards_get_texts_and_must_be_finite() -> None:
    given = rewarded("trainers.rewards:exact", conversational=False)
    said = [[{"role": "assistant", "content": " ad "}], [{"role": "assistant", "content": "xx"}]]
    assert given(["p", "p"], said, answer=["ad", "ad"]) == [1.0, 0.0]
    assert rewards.contains([], ["the answer is 4"], answer=["4"]) == [1.0]
    with pytest.raises(TrainingError, match=r"the reward tests.trainers.rewards:broken gave nan for 'x'"):
        rewarded("tests.trainers.rewards:broken", conversational=False)(["p"], ["x"])
    with pytest.raises(TrainingError, match="rewards:raising raised KeyError: 'the sandbox is gone'"):
        rewarded("tests.trainers.rewards:raising", conversational=False)(["p"], ["x"])


def test_prompts_that_leave_no_room_are_refused(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(write_base(tmp_path / "base"))
    prompts = [row["prompt"] for row in letters("alpha", 4)]
    check_prompts(tokenizer, prompts, 20)
    with pytest.raises(InputError, match=r"4 of 4 prompts have more than the 5 tokens .*the longest \d+"):
        check_prompts(tokenizer, prompts, 5)
