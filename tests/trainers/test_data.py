import math
from pathlib import Path

import numpy as np
import pytest

from tests.trainers.tiny import letters, source, spec, write_base, write_rows
from trainers._check import check_placement, check_spec
from trainers._data import load_source, mixture, plan
from trainers._errors import InputError
from trainers._types import Placement, spec_from_dict
from trainers.sft import COLUMNS


def test_shares_are_binomial() -> None:
    samples = 4000
    drawn = plan([50, 500], [0.15, 0.85], samples, seed=3)
    share = float((drawn[:, 0] == 0).mean())
    assert abs(share - 0.15) < 4 * math.sqrt(0.15 * 0.85 / samples)


def test_a_source_is_used_up_before_it_repeats() -> None:
    drawn = plan([7, 11], [0.5, 0.5], 200, seed=0)
    for number, size in enumerate((7, 11)):
        rows = drawn[drawn[:, 0] == number, 1]
        for start in range(0, len(rows) - size, size):
            assert sorted(rows[start : start + size]) == list(range(size))


def test_the_order_in_a_source_does_not_depend_on_the_weights() -> None:
    one = plan([30, 40], [0.2, 0.8], 500, seed=5)
    two = plan([30, 40], [0.6, 0.4], 500, seed=5)
    first, second = (drawn[drawn[:, 0] == 0, 1] for drawn in (one, two))
    shorter = min(len(first), len(second))
    assert shorter > 50
    assert np.array_equal(first[:shorter], second[:shorter])


def test_the_plan_is_a_function_of_the_seed() -> None:
    assert np.array_equal(plan([9, 9], [0.5, 0.5], 99, seed=1), plan([9, 9], [0.5, 0.5], 99, seed=1))
    assert not np.array_equal(plan([9, 9], [0.5, 0.5], 99, seed=1), plan([9, 9], [0.5, 0.5], 99, seed=2))


@pytest.mark.parametrize("probability", [0.1, 0.5, 0.9])
def test_the_number_of_samples_does_not_depend_on_the_weights(tmp_path: Path, probability: float) -> None:
    few, many = (
        write_rows(tmp_path / "few.jsonl", letters("few", 5)),
        write_rows(tmp_path / "many.jsonl", letters("many", 300)),
    )
    rows, groups, _ = mixture(
        spec("unused", source("few", few, probability), source("many", many, 1 - probability), steps=7, batch=6),
        COLUMNS,
    )
    assert len(rows) == 42
    assert all(row["prompt"].startswith(groups[row["group"]][0]) for row in rows)


def test_the_language_filter(tmp_path: Path) -> None:
    file = write_rows(tmp_path / "a.jsonl", letters("x", 90, ("en", "fr", "hi")))
    rows, kept, _ = load_source(source("a", file), COLUMNS, ("fr", "hi"))
    assert len(rows) == 90
    assert sorted(kept) == [row for row in range(90) if row % 3]
    drawn, groups, sizes = mixture(spec("unused", source("a", file), languages=("hi",), steps=3, batch=10), COLUMNS)
    assert groups == (("a", "en"), ("a", "fr"), ("a", "hi"))
    assert sizes == (0, 0, 30)
    assert set(drawn["group"]) == {2}
    assert set(drawn["prompt"]) == {
        row["prompt"] for row in letters("x", 90, ("en", "fr", "hi")) if row["language"] == "hi"
    }


@pytest.mark.parametrize("kind", ["json", "csv", "parquet"])
def test_formats_and_column_names(tmp_path: Path, kind: str) -> None:
    from datasets import Dataset

    # The hard case: the file calls the response "prompt".
    table = Dataset.from_dict({"question": ["a", "b"], "prompt": ["A", "B"], "lang": ["en", "fr"]})
    file = tmp_path / f"data.{kind}"
    {"json": table.to_json, "csv": table.to_csv, "parquet": table.to_parquet}[kind](str(file))
    mapped = source("a", str(file), columns=(("prompt", "question"), ("response", "prompt"), ("language", "lang")))
    mapped = type(mapped)(**{**vars(mapped), "path": kind})
    rows, kept, _ = load_source(mapped, COLUMNS, ("fr",))
    assert rows.column_names == ["prompt", "response"]
    assert [rows[int(row)] for row in kept] == [{"prompt": "b", "response": "B"}]


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    file = write_rows(tmp_path / "a.jsonl", [{"prompt": "a", "answer": "b"}])
    with pytest.raises(InputError, match=r"'a' has no column 'response'.*it has prompt, answer"):
        load_source(source("a", file), COLUMNS, ())


def test_a_language_filter_needs_the_column(tmp_path: Path) -> None:
    file = write_rows(tmp_path / "a.jsonl", [{"prompt": "a", "response": "b"}])
    with pytest.raises(InputError, match="no column 'language'"):
        load_source(source("a", file), COLUMNS, ("en",))


def test_nothing_left_after_the_filter(tmp_path: Path) -> None:
    file = write_rows(tmp_path / "a.jsonl", letters("x", 4))
    with pytest.raises(InputError, match="'a' has nothing in ru; it has en, fr"):
        load_source(source("a", file), COLUMNS, ("ru",))


def test_rows_without_text_are_refused(tmp_path: Path) -> None:
    file = write_rows(tmp_path / "a.jsonl", [{"prompt": "a", "response": "b"}, {"prompt": "a", "response": None}])
    with pytest.raises(InputError, match="1 rows have no response"):
        load_source(source("a", file), COLUMNS, ())


def test_a_file_that_is_not_what_it_says(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text("{not json\n")
    with pytest.raises(InputError, match="'a' cannot be read as json"):
        load_source(source("a", str(file)), COLUMNS, ())


def test_sources_of_different_kinds_do_not_mix(tmp_path: Path) -> None:
    text = write_rows(tmp_path / "a.jsonl", letters("x", 4))
    messages = write_rows(
        tmp_path / "b.jsonl",
        [{"prompt": [{"role": "user", "content": "a"}], "response": "b", "language": "en"}],
    )
    with pytest.raises(InputError, match="different kinds"):
        mixture(spec("unused", source("a", text, 0.5), source("b", messages, 0.5)), COLUMNS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps must be at least 1"),
        ({"batch": 0}, "batch must be at least 1"),
        ({"dtype": "float16"}, "dtype must be float32 or bfloat16"),
        ({"warmup": 1.0}, "warmup is a share"),
        ({"learning_rate": 0.0}, "learning_rate must be between"),
        ({"schedule": "cosin"}, "schedule must be"),
        ({"sources": ()}, "mixture is empty"),
    ],
)
def test_settings_that_cannot_train(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    from dataclasses import replace

    good = spec("unused", source("a", write_rows(tmp_path / "a.jsonl", letters("x", 4))))
    check_spec(good)
    with pytest.raises(InputError, match=message):
        check_spec(replace(good, **changes))  # type: ignore[arg-type]  # wrong values are the point


def test_probabilities_must_sum_to_one(tmp_path: Path) -> None:
    file = write_rows(tmp_path / "a.jsonl", letters("x", 4))
    with pytest.raises(InputError, match=r"must sum to 1, got 0.9 \(a 0.4, b 0.5\)"):
        check_spec(spec("unused", source("a", file, 0.4), source("b", file, 0.5)))


def test_a_batch_that_workers_cannot_share() -> None:
    with pytest.raises(InputError, match="batch 9 does not divide by 2 workers"):
        check_placement(Placement(), 9, workers=2)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'a': there is no file .*gone.jsonl"):
        check_spec(spec("unused", source("a", str(tmp_path / "gone.jsonl"))))


def test_a_spec_survives_json(tmp_path: Path) -> None:
    import json
    from dataclasses import asdict

    made = spec("base", source("a", "a.jsonl", columns=(("prompt", "q"),)), languages=("en",))
    assert spec_from_dict(json.loads(json.dumps(asdict(made)))) == made
    with pytest.raises(InputError, match="has no setting 'step'"):
        spec_from_dict({**asdict(made), "step": 3})


@pytest.mark.parametrize("template", [True, False])
def test_sequences_are_those_of_trl(tmp_path: Path, template: bool) -> None:
    """TRL's own preparation is the oracle for ours, which works row by row without files."""
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    from trainers._encode import completions

    base = write_base(tmp_path / "base", template=template)
    file = write_rows(tmp_path / "a.jsonl", letters("alpha", 8))
    rows = mixture(spec(base, source("a", file), steps=2, batch=4), COLUMNS).rows
    tokenizer = AutoTokenizer.from_pretrained(base)
    ours = rows.with_transform(completions(tokenizer, 12))[:]
    rows = rows.rename_column("response", "completion")
    if template:
        rows = rows.map(
            lambda row: {
                "prompt": [{"role": "user", "content": row["prompt"]}],
                "completion": [{"role": "assistant", "content": row["completion"]}],
            }
        )
    theirs = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(base),
        args=SFTConfig(
            output_dir=str(tmp_path), max_length=12, bf16=False, use_cpu=True, shuffle_dataset=False, report_to="none"
        ),
        train_dataset=rows.remove_columns("group"),
        processing_class=tokenizer,
    ).train_dataset
    assert theirs is not None
    assert ours["input_ids"] == list(theirs["input_ids"])
    assert ours["labels"] == list(theirs["labels"])
