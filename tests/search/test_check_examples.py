"""`examples/paper-aya.yaml` by a whole check, with the demo world in place of what a test machine cannot hold."""

from pathlib import Path

from search.check import check
from search.demo.world import write_world
from search.recipe import load_recipe

EXAMPLE = Path(__file__).parents[2] / "examples" / "paper-aya.yaml"
FILES = {
    "data/ultrafeedback-translated.jsonl": "data/general.jsonl",
    "data/safe-completions.jsonl": "data/safety.jsonl",
    "data/ultrafeedback-pairs.jsonl": "data/preferences-general.jsonl",
    "data/safety-pairs.jsonl": "data/preferences-safety.jsonl",
}
SIZES = {  # the demo's model reads 64 tokens; 8 GPUs
    "base: CohereLabs/aya-23-8B": "base: base",
    "max_length: 2048": "max_length: 64",
    "kind: chrf,": "kind: chrf, options: {max_new_tokens: 8},",
    "address: auto": "address: local",
    "{actors: 8, cpus: 4, gpus: 1}": "{actors: 1, cpus: 1}",
    "workers: 8, cpus: 8, gpus: 1,": "workers: 1, cpus: 1,",
}


def test_the_papers_grid_passes_a_check_on_smaller_things(tmp_path: Path) -> None:
    write_world(tmp_path)
    text = EXAMPLE.read_text(encoding="utf-8")
    for theirs, ours in (FILES | SIZES).items():
        assert theirs in text, theirs
        text = text.replace(theirs, ours)
    (tmp_path / "recipe.yaml").write_text(text, encoding="utf-8")
    report = check(load_recipe(tmp_path / "recipe.yaml"))
    amounts = {row.what: row.amount for row in report.estimates if row.what}
    assert amounts["to train"].startswith("15 models")
    assert amounts["to score"].startswith("96 merges by 4 methods")
    assert [warning.path for warning in report.warnings] == ["experts.merge-dpo"]
