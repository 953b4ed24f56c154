"""What travels with the weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from mergers._checkpoint.carry import carry_files
from mergers._errors import InputError


def source(tmp_path: Path, config: Mapping[str, object], **files: str) -> Path:
    (tmp_path / "source").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "source" / "config.json").write_text(json.dumps(config))
    for name, text in files.items():
        (tmp_path / "source" / name.replace("__", ".")).write_text(text)
    return tmp_path / "source"


def test_named_code_is_carried_with_a_note_and_other_code_is_not(tmp_path: Path) -> None:
    config = {"auto_map": {"AutoModel": "modeling_x.X", "AutoConfig": "owner/repo--configuration_x.C"}}
    folder = source(
        tmp_path,
        config,
        modeling_x__py="from .helper import f\nfrom . import more\nimport os\n",
        helper__py="from .modeling_x import X\n",
        more__py="this is ( not Python\n",
        setup__py="raise SystemExit",
        tokenizer_config__json=json.dumps({"auto_map": {"AutoTokenizer": ["gone.T", None]}}),
        pytorch_model__bin="",
    )
    notes = carry_files(folder, tmp_path / "out", "bfloat16")
    carried = {"config.json", "tokenizer_config.json", "modeling_x.py", "helper.py", "more.py"}
    assert {file.name for file in (tmp_path / "out").iterdir()} == carried
    assert [note.split(" (")[0] for note in notes if note.startswith("carried")] == [
        f"carried code: {name}" for name in ("modeling_x.py", "helper.py", "more.py")
    ]
    assert any("names code gone.py, which is not there" in note for note in notes)


def test_auto_map_reaches_no_file_outside(tmp_path: Path) -> None:
    (tmp_path / "secret.py").write_text("")
    folder = source(tmp_path, {"auto_map": {"AutoModel": "../secret.X", "AutoConfig": "/etc/passwd.X"}})
    assert carry_files(folder, tmp_path / "out", "bfloat16") == ()
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["config.json"]


def carried(tmp_path: Path, config: Mapping[str, object], **changes: int) -> object:
    shutil.rmtree(tmp_path / "source", ignore_errors=True)
    shutil.rmtree(tmp_path / "out", ignore_errors=True)
    carry_files(source(tmp_path, config), tmp_path / "out", "float16", changes=changes)
    return json.loads((tmp_path / "out" / "config.json").read_text())


def test_layers_and_rows_are_written_where_the_configuration_has_them(tmp_path: Path) -> None:
    nested = {
        "vocab_size": 3,
        "text_config": {"num_hidden_layers": 2, "vocab_size": 3},
        "vision_config": {"num_hidden_layers": 5},
    }
    assert carried(tmp_path, nested, num_hidden_layers=4, vocab_size=7) == {
        "vocab_size": 7,
        "text_config": {"num_hidden_layers": 4, "vocab_size": 7},
        "vision_config": {"num_hidden_layers": 5},
        "dtype": "float16",
    }
    assert carried(tmp_path, {"n_layer": 2, "vocab_size": 3}, num_hidden_layers=4) == {
        "n_layer": 4,
        "vocab_size": 3,
        "dtype": "float16",
    }
    assert carried(tmp_path, {}, num_hidden_layers=4, vocab_size=7) == {
        "num_hidden_layers": 4,
        "vocab_size": 7,
        "dtype": "float16",
    }


@pytest.mark.parametrize("text", ["{", "[]"])
def test_unreadable_configurations_are_refused(tmp_path: Path, text: str) -> None:
    folder = source(tmp_path, {})
    (folder / "config.json").write_text(text)
    with pytest.raises(InputError, match=r"config\.json is not"):
        carry_files(folder, tmp_path / "out", "float32")
