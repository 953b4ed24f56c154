"""The contract of every trainer: a file in the folder is under test without a change here."""

import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import trainers
from tests.trainers.tiny import letters, source, spec, write_base, write_rows
from trainers._errors import InputError
from trainers._schema import COMMON, load_trainer, trainer_names


def test_the_names_are_the_files() -> None:
    assert "sft" in trainer_names()
    assert not [name for name in trainer_names() if name.startswith("_")]


def test_listing_them_loads_nothing_heavy() -> None:
    code = (
        "import sys; from trainers import _schema; _schema.trainer_names(); _schema.load_trainer('sft');"
        "print([m for m in ('torch', 'ray', 'transformers', 'datasets', 'deepspeed') if m in sys.modules])"
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


@pytest.fixture(scope="module", params=trainer_names())
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp(request.param)
    made = spec(write_base(folder / "base"), source("a", write_rows(folder / "a.jsonl", letters("alpha", 60))), steps=3)
    reports: list[dict[str, float]] = []
    trainer = load_trainer(request.param)
    trainer(
        made, out=str(folder / "out"), work=str(folder / "work"), report=lambda metrics: reports.append(dict(metrics))
    )
    return {"name": request.param, "trainer": trainer, "spec": made, "folder": folder, "reports": reports}


def test_it_has_the_signature_and_says_what_it_does(trained: dict[str, Any]) -> None:
    parameters = inspect.signature(trained["trainer"]).parameters
    assert list(parameters)[:6] == list(COMMON)
    assert inspect.getdoc(trained["trainer"])


def test_it_reports_every_step(trained: dict[str, Any]) -> None:
    assert [entry["step"] for entry in trained["reports"]] == [1, 2, 3]
    for entry in trained["reports"]:
        assert set(entry) == {"step", "steps", "loss", "learning_rate", "tokens_per_s"}
        assert all(isinstance(value, (int, float)) for value in entry.values())


def test_its_result_has_the_tensors_of_the_base(trained: dict[str, Any]) -> None:
    from safetensors import safe_open

    shapes = []
    for folder in (trained["folder"] / "base", trained["folder"] / "out"):
        with safe_open(folder / "model.safetensors", "pt") as file:
            shapes.append({name: file.get_slice(name).get_shape() for name in file.keys()})  # noqa: SIM118  # no mapping
    assert shapes[0] == shapes[1]


def test_its_result_is_no_pickle(trained: dict[str, Any]) -> None:
    names = {path.name for path in (trained["folder"] / "out").iterdir()}
    assert names >= {"config.json", "generation_config.json", "tokenizer.json", "training.json"}
    assert not [name for name in names if name.endswith((".bin", ".pt", ".pkl"))]


def test_it_leaves_a_finished_result_alone(trained: dict[str, Any]) -> None:
    weights = trained["folder"] / "out" / "model.safetensors"
    before = weights.stat().st_mtime_ns
    trained["trainer"](
        trained["spec"], out=str(trained["folder"] / "out"), work=str(trained["folder"] / "work"), report=pytest.fail
    )
    assert weights.stat().st_mtime_ns == before


def test_it_overwrites_nothing_else(trained: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(InputError, match="is not a finished training"):
        trained["trainer"](trained["spec"], out=str(tmp_path), work=str(tmp_path / "work"), report=pytest.fail)
    assert (tmp_path / "mine.txt").read_text() == "keep"
