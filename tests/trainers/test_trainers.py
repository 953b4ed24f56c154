"""The contract of every trainer: a file in the folder is under test without a change here."""

import inspect
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import trainers
from tests.trainers.tiny import PLAIN, preferences, samples, source, spec, write_base, write_rows
from trainers._errors import InputError
from trainers._schema import COMMON, check_options, columns_of, load_trainer, options_of, run_trainer, trainer_names
from trainers._types import Columns

RECORD = {
    *("trainer", "spec", "placement", "steps", "step", "loss", "learning_rate", "curves", "tokens", "languages"),
    *("shares", "parameters", "flops", "seconds", "cpu_seconds", "gpu_seconds", "peak_rss_bytes"),
    *("peak_device_bytes", "resumed_at", "workers"),
}


def test_the_names_are_the_files() -> None:
    assert trainer_names() == ("dpo", "grpo", "remix", "sft")


def test_listing_them_loads_nothing_heavy() -> None:
    code = (
        "import sys; from trainers import _schema;"
        "[(_schema.options_of(n), _schema.columns_of(n)) for n in _schema.trainer_names()];"
        "_schema.check_options('grpo', {'reward': 'trainers.rewards:exact'});"
        "print([m for m in ('torch', 'ray', 'transformers', 'datasets', 'deepspeed', 'trl') if m in sys.modules])"
    )
    root = Path(trainers.__file__).parent.parent
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root, timeout=60
    )
    assert found.stdout.strip() == "[]"


def test_unknown_names_get_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean 'sft'"):
        load_trainer("stf")
    with pytest.raises(InputError, match="cannot be imported"):
        load_trainer("no_such_package:train")


def test_a_trainer_from_outside() -> None:
    assert load_trainer("trainers.sft:sft") is load_trainer("sft")
    assert columns_of("trainers.dpo:dpo") == Columns((("prompt", "chosen", "rejected"),))


def test_options_come_complete_and_in_order() -> None:
    assert check_options("sft", {}) == ()
    assert check_options("dpo", {"loss_type": "ipo", "beta": 1}) == (
        ("beta", 1.0),
        ("loss_type", "ipo"),
        ("label_smoothing", 0.0),
    )
    assert [option.name for option in options_of("grpo") if option.required] == ["reward"]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("sft", {"beta": 0.1}, "the trainer sft has no option 'beta'; it has none of its own"),
        ("dpo", {"betta": 0.1}, "the trainer dpo has no option 'betta'; did you mean 'beta'?"),
        ("dpo", {"beta": 0}, "beta of the trainer dpo must be a number above 0 and at most 10, got 0"),
        ("dpo", {"beta": True}, "must be a number above 0 and at most 10, got True"),
        ("dpo", {"beta": math.nan}, "got nan"),
        ("dpo", {"loss_type": "sigmoyd"}, "loss_type of the trainer dpo must be sigmoid or hinge or ipo"),
        ("grpo", {}, "the trainer grpo needs the option 'reward': a function, written package.module:function"),
        ("grpo", {"reward": "exact"}, "reward of the trainer grpo must be written package.module:function"),
        ("grpo", {"reward": "trainers.rewards:exakt"}, "reward of the trainer grpo cannot be imported"),
        (
            "grpo",
            {"reward": "trainers.rewards:exact", "generations": 2.5},
            "a whole number at least 2 and at most 1,024",
        ),
        ("remix", {"domains": "lang"}, "domains of the trainer remix must be source or language, got 'lang'"),
    ],
)
def test_options_that_a_trainer_refuses(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as refused:
        check_options(name, options)
    assert message in str(refused.value)


@pytest.fixture(scope="module", params=trainer_names())
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder, name = tmp_path_factory.mktemp(request.param), request.param
    rows = preferences("alpha", 60) if name == "dpo" else samples("alpha", 60)
    others = preferences("beta", 40) if name == "dpo" else samples("beta", 40)
    options = {"grpo": {"reward": "trainers.rewards:contains", "generations": 4, "completion_tokens": 4}}
    made = spec(
        write_base(folder / "base"),
        source("a", write_rows(folder / "a.jsonl", rows), 0.5),
        source("b", write_rows(folder / "b.jsonl", others), 0.5),
        steps=3,
        options=check_options(name, options.get(name, {})),
    )
    reports: list[dict[str, float]] = []
    out, work = folder / "out", folder / "work"
    run_trainer(name, made, out=str(out), work=str(work), report=lambda m: reports.append(dict(m)), placement=PLAIN)
    record = json.loads((out / "training.json").read_text())
    return {"name": name, "spec": made, "folder": folder, "reports": reports, "record": record}


def again(trained: dict[str, Any], out: Path) -> None:
    work = str(trained["folder"] / "work")
    run_trainer(trained["name"], trained["spec"], out=str(out), work=work, report=_no_step, placement=PLAIN)


def _no_step(metrics: Any) -> None:
    raise AssertionError(f"it trained: {metrics}")


def test_it_has_the_signature_and_says_what_it_does(trained: dict[str, Any]) -> None:
    trainer = load_trainer(trained["name"])
    names = list(inspect.signature(trainer).parameters)
    assert names[:6] == list(COMMON)
    text = inspect.getdoc(trainer) or ""
    assert all(f"{name}:" in text for name in names)


def test_it_reports_every_step(trained: dict[str, Any]) -> None:
    steps = trained["record"]["steps"]
    assert steps == (6 if trained["name"] == "remix" else 3)
    assert [entry["step"] for entry in trained["reports"]] == list(range(1, steps + 1))
    for entry in trained["reports"]:
        assert set(entry) == {"step", "steps", "loss", "learning_rate", "tokens_per_s"}
        assert entry["steps"] == steps
        assert all(isinstance(value, (int, float)) for value in entry.values())


def test_its_record_has_what_every_record_has(trained: dict[str, Any]) -> None:
    record = trained["record"]
    assert set(record) == RECORD
    assert record["trainer"] == trained["name"]
    assert record["step"] == [entry["step"] for entry in trained["reports"]]
    assert record["loss"] == [entry["loss"] for entry in trained["reports"]]
    # Two sources in two languages each; what is counted by one is counted by the other.
    assert set(record["tokens"]) == {"a", "b"}
    assert set(record["languages"]) == {"en", "fr"}
    for key in ("samples", "tokens", "loss_tokens", "truncated"):
        by_source = sum(counts[key] for counts in record["tokens"].values())
        assert by_source == sum(counts[key] for counts in record["languages"].values())
        if key in record["shares"]:
            assert sum(record["shares"][key].values()) == pytest.approx(1)
            assert record["shares"][key]["a"] == pytest.approx(record["tokens"]["a"][key] / by_source)
    assert sum(counts["samples"] for counts in record["tokens"].values()) == record["steps"] * trained["spec"].batch
    assert 0 < record["cpu_seconds"] < 60 * record["seconds"]
    assert record["gpu_seconds"] == 0
    assert record["peak_device_bytes"] is None


def test_its_flops_are_those_of_its_passes(trained: dict[str, Any]) -> None:
    """6 N for each trained token, 2 N more for each further forward pass."""
    record = trained["record"]
    size = record["parameters"]["all"]  # tied: the table of the embedding multiplies in the head
    tokens = sum(counts["tokens"] for counts in record["tokens"].values())
    passes = {"sft": 6.0, "dpo": 8.0, "grpo": 8.0, "remix": (6.0 + 10.0) / 2}
    assert record["flops"] == pytest.approx(passes[trained["name"]] * size * tokens)


def test_its_result_has_the_tensors_of_the_base(trained: dict[str, Any]) -> None:
    from safetensors import safe_open

    if trained["name"] == "remix":
        pytest.skip("its result is a mixture")
    shapes = []
    for folder in (trained["folder"] / "base", trained["folder"] / "out"):
        with safe_open(folder / "model.safetensors", "pt") as file:
            shapes.append({name: file.get_slice(name).get_shape() for name in file.keys()})  # noqa: SIM118  # no mapping
    assert shapes[0] == shapes[1]


def test_its_result_is_no_pickle(trained: dict[str, Any]) -> None:
    names = {path.name for path in (trained["folder"] / "out").iterdir()}
    model = {"config.json", "generation_config.json", "tokenizer.json"}
    assert names >= {"training.json"} | ({"mixture.json"} if trained["name"] == "remix" else model)
    assert not [name for name in names if name.endswith((".bin", ".pt", ".pkl"))]


def test_it_leaves_a_finished_result_alone(trained: dict[str, Any]) -> None:
    made = trained["folder"] / "out" / "training.json"
    before = made.stat().st_mtime_ns
    again(trained, made.parent)
    assert made.stat().st_mtime_ns == before


def test_it_overwrites_nothing_else(trained: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(InputError, match="is not a finished training"):
        again(trained, tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "keep"
