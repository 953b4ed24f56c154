from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from evaluators._errors import InputError
from evaluators._items import load_items

ROWS = [
    {"prompt": "date 07-05", "answer": "July 5", "language": "en", "group": "d1", "task": "date"},
    {"prompt": "le 07-05", "answer": "5 juillet", "language": "fr", "group": "d1", "task": "date"},
    {"prompt": "देश", "answer": "\u2028x", "language": "hi", "group": "c", "task": ""},
]


def write(folder: Path, rows: list[dict[str, Any]], name: str = "items.jsonl") -> Path:
    path = folder / name
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def test_columns_become_items_in_file_order(tmp_path: Path) -> None:
    items = load_items(write(tmp_path, ROWS), ("en", "fr", "hi"))
    assert [item.prompt for item in items] == ["date 07-05", "le 07-05", "देश"]
    assert [item.answer for item in items] == ["July 5", "5 juillet", "\u2028x"]
    assert items[0].group == items[1].group == "d1"
    assert items[0].split == items[1].split
    assert len({item.id for item in items}) == 3
    assert items == load_items({"path": "json", "files": [str(tmp_path / "items.jsonl")]}, ("en", "fr", "hi"))


def test_defaults_of_absent_columns(tmp_path: Path) -> None:
    (item,) = load_items(write(tmp_path, [{"prompt": "p", "language": "en"}]), ("en",))
    assert (item.answer, item.task, item.group) == ("", "", item.id)


def test_columns_are_mapped_and_ids_kept(tmp_path: Path) -> None:
    path = write(tmp_path, [{"q": "p", "lang": "en", "key": 7, "split": "report"}])
    spec = {"path": "json", "files": [str(path)], "columns": {"prompt": "q", "language": "lang", "id": "key"}}
    (item,) = load_items(spec, ("en",))
    assert (item.id, item.prompt, item.split) == ("7", "p", "report")


def test_splits_without_a_column_are_halves_by_group(tmp_path: Path) -> None:
    rows = [{"prompt": f"p{row}", "language": "en", "group": str(row // 4)} for row in range(2000)]
    items = load_items(write(tmp_path, rows), ("en",))
    sides = {group: {item.split for item in items if item.group == group} for group in {item.group for item in items}}
    assert all(len(side) == 1 for side in sides.values())
    assert 200 < sum(side == {"search"} for side in sides.values()) < 300


@pytest.mark.parametrize("form", ["array", "csv", "parquet", "bom"])
def test_other_file_forms_give_the_same_items(tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Texts that readers like to turn into dates, numbers and missing values.
    rows = [
        {"prompt": "07", "answer": "2024-05-07 00:00:00", "language": "en"},
        {"prompt": "NA", "answer": "2024-05-08 00:00:00", "language": "en"},
    ]
    expected = load_items(write(tmp_path, rows), ("en",))
    assert expected[0].answer == "2024-05-07 00:00:00"
    if form == "array":
        path = tmp_path / "items.json"
        path.write_text(json.dumps(rows), encoding="utf-8")
    elif form == "bom":
        path = tmp_path / "bom.jsonl"
        path.write_bytes(b"\xef\xbb\xbf" + (tmp_path / "items.jsonl").read_bytes())
    elif form == "csv":
        path = tmp_path / "items.csv"
        path.write_text("prompt,answer,language\n" + "".join(f"{r['prompt']},{r['answer']},en\n" for r in rows))
    else:
        path = tmp_path / "items.parquet"
        pq.write_table(pa.Table.from_pylist(rows), path)
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    assert load_items(path, ("en",)) == expected


BAD: list[tuple[str, list[dict[str, Any]], str]] = [
    ("missing column", [{"promt": "p", "language": "en"}], "no column 'prompt'; did you mean 'promt'? Map it with"),
    ("no items", [], "holds no items"),
    (
        "language",
        [{"prompt": "p", "language": "de"}],
        "1 of 1 items have a language that the recipe does not list: 'de'",
    ),
    ("same row twice", [{"prompt": "p", "language": "en"}] * 2, "1 ids occur more than once"),
    ("same id", [{"id": "a", "prompt": str(row), "language": "en"} for row in range(2)], "more than once .*: a;"),
    (
        "split",
        [{"prompt": "p", "language": "en", "split": "test"}],
        "jsonl:1: unknown split 'test'; use search",
    ),
    ("empty prompt", [{"prompt": " ", "language": "en"}], "items.jsonl:1: has no prompt"),
    ("no text", [{"prompt": ["p"], "language": "en"}], "column 'prompt' must hold text"),
]


@pytest.mark.parametrize(("rows", "text"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_bad_rows(tmp_path: Path, rows: list[dict[str, Any]], text: str) -> None:
    path = write(tmp_path, rows)
    with pytest.raises(InputError, match=text.replace("?", r"\?")) as caught:
        load_items(path, ("en",))
    assert "\n" not in str(caught.value)
    assert "items.jsonl" in str(caught.value)


def test_bad_files(tmp_path: Path) -> None:
    broken = tmp_path / "broken.jsonl"
    broken.write_text('{"prompt": "a", "language": "en"}\n{"prompt": \n')
    with pytest.raises(InputError, match=r"broken.jsonl:2: is not valid JSON"):
        load_items(broken, ("en",))
    latin = tmp_path / "latin.jsonl"
    latin.write_bytes('{"prompt": "é", "language": "en"}\n'.encode("latin-1"))
    with pytest.raises(InputError, match=r"latin.jsonl: is not UTF-8 \(byte 12\)"):
        load_items(latin, ("en",))
    listed = tmp_path / "list.jsonl"
    listed.write_text("[1, 2]")
    with pytest.raises(InputError, match=r"list.jsonl item 1: is a JSON int"):
        load_items(listed, ("en",))
    with pytest.raises(InputError, match=r"none.jsonl: no such file"):
        load_items(tmp_path / "none.jsonl", ("en",))
    ragged = tmp_path / "ragged.csv"
    ragged.write_text("prompt,language\na,en\nb,c,en\n")
    with pytest.raises(InputError, match=r"ragged.csv:3: has another number of cells"):
        load_items(ragged, ("en",))
    table = tmp_path / "bad.parquet"
    table.write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"bad.parquet: cannot be read as parquet"):
        load_items(table, ("en",))


def test_mapped_column_must_exist(tmp_path: Path) -> None:
    path = write(tmp_path, ROWS)
    with pytest.raises(InputError, match=r"no column 'answr'; did you mean 'answer'"):
        load_items({"path": "json", "files": [str(path)], "columns": {"answer": "answr"}}, ("en", "fr", "hi"))
