"""Vocabulary policies, against mergekit 0.1.5 and by their own promises."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import AddedToken, Tokenizer
from torch import Tensor
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from mergers._checkpoint.carry import carry_files
from mergers._checkpoint.checkpoint import SINGLE
from mergers._checkpoint.output import new_directory
from mergers._checkpoint.safetensors import Slot
from mergers._checkpoint.write import write_weights
from mergers._errors import InputError
from mergers._vocabulary.policy import Vocabulary, plan_vocabulary

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
WORDS = ("<unk>", "the", "cat", "sat", "on", "mat")


def model(
    folder: Path,
    words: Sequence[str] = WORDS,
    added: Sequence[str] = (),
    *,
    rows: int | None = None,
    tied: bool = True,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> Path:
    """A one-layer Llama whose tokenizer knows `words` and, behind them, the special tokens `added`."""
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace

    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.add_tokens([AddedToken(token, special=True) for token in added])
    count = rows or len(words) + len(added)
    config = LlamaConfig(
        vocab_size=count,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        tie_word_embeddings=tied,
    )
    torch.manual_seed(seed)
    LlamaForCausalLM(config).to(dtype).save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>").save_pretrained(folder)
    return folder


def ours(plan: Vocabulary, name: str, weights: Sequence[float]) -> Tensor:
    """The linear merge of `name` in the output's vocabulary."""
    total = torch.zeros(plan.rows, 8)
    for i, weight in enumerate(weights):
        checkpoint = plan.map.models[i]
        stored = checkpoint.read(name if name in checkpoint else EMBEDDING).float()
        total += weight * plan.tensor(i, name, stored)
    return total


def mergekit(out: Path, models: Sequence[Path], weights: Sequence[float], base: Path | None, **tokenizer: Any) -> Path:
    pytest.importorskip("mergekit")
    from mergekit.config import MergeConfiguration
    from mergekit.merge import run_merge
    from mergekit.options import MergeOptions

    settings: dict[str, Any] = {
        "merge_method": "linear",
        "models": [
            {"model": str(path), "parameters": {"weight": weight}} for path, weight in zip(models, weights, strict=True)
        ],
        "parameters": {"normalize": False},
        "dtype": "float32",
        "tokenizer": tokenizer,
    }
    if base is not None:
        settings["base_model"] = str(base)
    run_merge(MergeConfiguration.model_validate(settings), str(out), MergeOptions(quiet=True))
    return out


def compare(plan: Vocabulary, theirs: Path, weights: Sequence[float]) -> None:
    """Row by row of each token: mergekit numbers new tokens in the random order of a hash table."""
    tensors = load_file(theirs / SINGLE)
    known = AutoTokenizer.from_pretrained(theirs).get_vocab()
    assert set(known) == set(plan.tokens)
    names = [name for name in (EMBEDDING, HEAD) if name in tensors]
    assert names
    for name in names:
        merged = ours(plan, name, weights)
        for token, row in plan.tokens.items():
            torch.testing.assert_close(merged[row], tensors[name][known[token]], rtol=0, atol=1e-6)


def family(root: Path, *, tied: bool) -> list[Path]:
    """A base and two others: `dog` is one's alone, `<x>` both have, `<y>` is one's alone, `sat` a model lacks."""
    return [
        model(root / "base", tied=tied, seed=1, added=("<b>",)),
        model(root / "one", ("<unk>", "cat", "the", "on", "dog", "mat"), ("<x>",), tied=tied, seed=2),
        model(root / "two", (*WORDS, "bird"), ("<y>", "<x>"), tied=tied, seed=3),
    ]


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(
    ("policy", "with_base"),
    # "base" without a base: mergekit takes the first model in the random order of a set, we the first one given
    [("union", True), ("base", True), ("path", True), ("union", False), ("path", False)],
)
def test_rows_are_mergekits(policy: str, tied: bool, with_base: bool, tmp_path: Path) -> None:
    models = family(tmp_path, tied=tied)
    weights = (0.5, 0.3, -0.4)
    policy = str(models[1]) if policy == "path" else policy
    theirs = mergekit(tmp_path / "out", models, weights, models[0] if with_base else None, source=policy)
    plan = plan_vocabulary(policy, models, 0 if with_base else None)
    compare(plan, theirs, weights)
    assert plan.rows == len(load_file(theirs / SINGLE)[EMBEDDING])


def test_tokens_that_no_model_has_are_zeros(tmp_path: Path) -> None:
    models = family(tmp_path, tied=True)
    foreign = model(tmp_path / "foreign", (*WORDS, "zebra"), seed=9)
    theirs = mergekit(tmp_path / "out", models, (1.0, 1.0, 1.0), models[0], source=str(foreign))
    plan = plan_vocabulary(str(foreign), models)
    compare(plan, theirs, (1.0, 1.0, 1.0))
    assert not ours(plan, EMBEDDING, (1.0, 1.0, 1.0))[plan.tokens["zebra"]].any()


def test_padding_to_a_multiple_is_mergekits(tmp_path: Path) -> None:
    models = family(tmp_path, tied=False)
    weights = (0.5, 0.3, -0.4)
    theirs = mergekit(tmp_path / "out", models, weights, models[0], source="union", pad_to_multiple_of=16)
    plan = plan_vocabulary("union", models, pad_to_multiple_of=16)
    assert plan.rows == 16
    compare(plan, theirs, weights)
    for name in (EMBEDDING, HEAD):
        padding = load_file(theirs / SINGLE)[name][len(plan.tokens) :]
        torch.testing.assert_close(ours(plan, name, weights)[len(plan.tokens) :], padding, rtol=0, atol=1e-6)


def test_tokens_beyond_the_embedding_are_left_out_as_in_mergekit(tmp_path: Path) -> None:
    """A padding token that was added without growing the embedding, as in many Llama 2 fine-tunes."""
    models = [model(tmp_path / "base", seed=1), model(tmp_path / "one", added=("<pad>",), rows=len(WORDS), seed=2)]
    theirs = mergekit(tmp_path / "out", models, (0.5, 0.5), models[0], source="union")
    plan = plan_vocabulary("union", models)
    assert "<pad>" not in plan.tokens
    compare(plan, theirs, (0.5, 0.5))


@pytest.mark.parametrize("policy", ["base", "union", "same"])
def test_padded_vocabularies_are_kept(policy: str, tmp_path: Path) -> None:
    models = [model(tmp_path / name, rows=16, seed=i) for i, name in enumerate(("base", "one"))]
    plan = plan_vocabulary(policy, models)
    assert plan.rows == 16
    for i, path in enumerate(models):
        stored = load_file(path / SINGLE)[EMBEDDING]
        assert plan.unchanged(i)
        assert torch.equal(plan.tensor(i, EMBEDDING, stored), stored)


def test_new_tokens_take_padding_rows_first_and_padding_of_another_length_is_mapped(tmp_path: Path) -> None:
    base = model(tmp_path / "base", rows=10, seed=1)
    one = model(tmp_path / "one", (*WORDS, "dog"), rows=9, seed=2)
    plan = plan_vocabulary("union", [base, one])
    theirs, others = load_file(base / SINGLE)[EMBEDDING], load_file(one / SINGLE)[EMBEDDING]
    assert plan.rows == 10
    assert plan.tokens["dog"] == 6
    mapped = plan.tensor(0, EMBEDDING, theirs), plan.tensor(1, EMBEDDING, others)
    assert torch.equal(mapped[0][[*range(6), 7, 8, 9]], theirs[[*range(6), 7, 8, 9]])
    assert torch.equal(mapped[0][6], others[6])  # the only owner's
    assert torch.equal(mapped[1][:9], others)
    assert torch.equal(mapped[1][9], theirs[9])  # the base's padding where the model has none
    assert plan_vocabulary("base", [base, one]).rows == 10


@pytest.mark.parametrize("policy", ["base", "union"])
def test_blocks_are_the_tensor(policy: str, tmp_path: Path) -> None:
    models = family(tmp_path, tied=True)
    plan = plan_vocabulary(policy, models, None)
    for i in range(3):
        whole = plan.tensor(i, HEAD, plan.map.models[i].read(EMBEDDING))
        blocks = [plan.block(i, HEAD, start, min(start + 4, plan.rows)) for start in range(0, plan.rows, 4)]
        assert torch.equal(torch.cat(blocks), whole)
    assert plan.covers(EMBEDDING)
    assert not plan.covers("model.norm.weight")


def test_half_precision_rows_are_read_as_float32(tmp_path: Path) -> None:
    models = [
        model(tmp_path / "base", seed=1, dtype=torch.bfloat16),
        model(tmp_path / "one", (*WORDS, "dog"), seed=2, dtype=torch.float16),
    ]
    plan = plan_vocabulary("union", models)
    stored = load_file(models[0] / SINGLE)[EMBEDDING].float()
    mapped = plan.tensor(0, EMBEDDING, stored)
    assert mapped.dtype == torch.float32
    assert torch.equal(mapped[plan.tokens["dog"]], load_file(models[1] / SINGLE)[EMBEDDING][6].float())


def test_the_written_tokenizer_gives_each_token_its_row(tmp_path: Path) -> None:
    models = family(tmp_path, tied=True)
    plan = plan_vocabulary("union", models)
    out = tmp_path / "out"
    out.mkdir()
    (out / "vocab.json").write_text("{}")
    plan.write_tokenizer(out)
    tokenizer = AutoTokenizer.from_pretrained(out)
    assert tokenizer.get_vocab() == dict(plan.tokens)
    assert not (out / "vocab.json").exists()
    assert tokenizer("the cat <y> dog")["input_ids"] == [plan.tokens[token] for token in ("the", "cat", "<y>", "dog")]
    assert tokenizer.decode([plan.tokens["<y>"]], skip_special_tokens=True) == ""
    kept = {token: row for token, row in plan.tokens.items() if row < 7}
    assert kept == AutoTokenizer.from_pretrained(models[0]).get_vocab()


@pytest.mark.parametrize("policy", ["base", "path", "same"])
def test_the_tokenizer_of_other_policies_is_copied(policy: str, tmp_path: Path) -> None:
    models = [model(tmp_path / "base", seed=1), model(tmp_path / "one", seed=2)]
    (models[1] / "chat_template.jinja").write_text("one's")
    plan = plan_vocabulary(str(models[1]) if policy == "path" else policy, models)
    out = tmp_path / "out"
    out.mkdir()
    (out / "chat_template.jinja").write_text("stale")
    plan.write_tokenizer(out)
    origin = models[policy == "path"]
    assert (out / "tokenizer.json").read_bytes() == (origin / "tokenizer.json").read_bytes()
    assert (out / "chat_template.jinja").exists() == (policy == "path")


def refused(policy: str, models: Sequence[Path], says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        plan_vocabulary(policy, models)
    assert "\n" not in str(caught.value)


def test_same_names_the_model_and_the_token_that_differ(tmp_path: Path) -> None:
    base = model(tmp_path / "base")
    swapped = model(tmp_path / "one", ("<unk>", "cat", "the", "sat", "on", "mat"))
    refused("same", [base, swapped], r"one has another vocabulary: token 'the' is 2 there, 1 in the base")
    other = model(tmp_path / "two", ("<unk>", "the", "cat", "sat", "on", "rug"))
    refused("same", [base, other], r"two has another vocabulary: token 'mat' is missing there, 5 in the base")
    refused("same", [base, model(tmp_path / "three", rows=8)], r"three has a vocabulary of 8 rows, the base of 6")


def test_tokens_without_a_row_do_not_make_vocabularies_differ(tmp_path: Path) -> None:
    models = [model(tmp_path / "base"), model(tmp_path / "one", added=("<pad>",), rows=6)]
    assert plan_vocabulary("same", models).rows == 6


def test_slow_tokenizers(tmp_path: Path) -> None:
    models = [model(tmp_path / name) for name in ("base", "one")]
    for path in models:
        (path / "tokenizer.json").unlink()
        (path / "tokenizer.model").write_bytes(b"sentencepiece")
    assert plan_vocabulary("same", models).tokens == {}
    refused("union", models, r"base has tokenizer\.model but no tokenizer\.json, which is needed to match tokens")
    (models[1] / "tokenizer.model").write_bytes(b"another")
    refused("same", models, r"one has another tokenizer\.model than the base")


def test_models_without_a_tokenizer_are_taken_to_have_the_bases(tmp_path: Path) -> None:
    models = [model(tmp_path / "base", added=("<b>",)), model(tmp_path / "one", added=("<b>",), seed=4)]
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (models[1] / name).unlink()
    plan = plan_vocabulary("union", models)
    assert plan.unchanged(1)
    assert any("one has no tokenizer; taken to have that of" in note for note in plan.notes)
    (models[0] / "tokenizer.json").unlink()
    refused("base", models, r"base has no tokenizer\.json, which vocabulary 'base' needs")


@pytest.mark.parametrize("text", ["{", "[]", '{"model": {}}', '{"model": {"vocab": {"a": "x"}}}'])
def test_unreadable_tokenizers_are_refused(text: str, tmp_path: Path) -> None:
    models = [model(tmp_path / "base"), model(tmp_path / "one")]
    (models[1] / "tokenizer.json").write_text(text)
    refused("base", models, r"one/tokenizer\.json is not")


def test_tokenizers_of_other_kinds_are_read(tmp_path: Path) -> None:
    """Unigram keeps its vocabulary as a list; tokens may be added in tokenizer_config.json alone."""
    models = [model(tmp_path / name, rows=4) for name in ("base", "one")]
    vocabulary = [["<unk>", 0.0], ["a", -1.0], ["b", -2.0]]
    for path in models:
        text = json.dumps({"model": {"type": "Unigram", "vocab": vocabulary}, "added_tokens": []})
        (path / "tokenizer.json").write_text(text)
        settings = {"added_tokens_decoder": {"3": {"content": "<s>", "special": True}}}
        (path / "tokenizer_config.json").write_text(json.dumps(settings))
    assert plan_vocabulary("union", models).tokens == {"<unk>": 0, "a": 1, "b": 2, "<s>": 3}


def test_notes_say_what_was_done(tmp_path: Path) -> None:
    notes = plan_vocabulary("union", family(tmp_path, tied=True)).notes
    assert any("vocabulary: the base's and 4 tokens more ('dog', 'bird', '<x>', ...)" in note for note in notes)
    assert any(note.startswith(f"{tmp_path / 'one'}: lacks 4 tokens ('sat', '<b>', 'bird'") for note in notes)
    notes = plan_vocabulary("base", family(tmp_path / "again", tied=True)).notes
    assert any("loses 2 tokens ('dog', '<x>')" in note for note in notes)


def test_a_model_of_the_union_is_loaded_by_transformers(tmp_path: Path) -> None:
    models = family(tmp_path, tied=False)
    plan = plan_vocabulary("union", models)
    base = plan.map.models[0]
    slots = [Slot(name, "float32", (plan.rows, 8) if plan.covers(name) else base.shape(name)) for name in base.names]

    def fill(slot: Slot, out: Tensor) -> None:
        stored = base.read(slot.name)
        out.copy_(plan.tensor(0, slot.name, stored) if plan.covers(slot.name) else stored)

    with new_directory(tmp_path / "out") as folder:
        write_weights(folder, slots, fill, shard_bytes=10**9)
        carry_files(base.path, folder, "float32", changes={"vocab_size": plan.rows})
        plan.write_tokenizer(folder)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    loaded, first = (LlamaForCausalLM.from_pretrained(path) for path in (tmp_path / "out", models[0]))
    assert loaded.get_input_embeddings().weight.shape == (plan.rows, 8) == (len(tokenizer), 8)
    words = tokenizer("the cat <b> sat", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        assert torch.equal(loaded(words).logits[..., :7], first(words).logits)  # the base's tokens keep their rows
        assert loaded(tokenizer("dog <y>", return_tensors="pt")["input_ids"]).logits.isfinite().all()
