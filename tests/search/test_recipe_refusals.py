import pytest

from tests.search.test_recipe import edited, problems_of

REFUSED = [
    ("seed: 3", "sead: 3", "r.yaml:3: sead: unknown key; did you mean 'seed'?"),
    ("steps: 60", "step: 60", "r.yaml:9: experts.general.step: unknown key; did you mean 'steps'?"),
    ("candidates: 10", "budget: 10", "r.yaml:26: search.budget: unknown key; choose from"),
    ("files: data/general.jsonl", "file: x", "r.yaml:6: data.general.file: unknown key; did you mean 'files'?"),
    ("actors: 2", "actor: 2", "r.yaml:28: cluster.evaluators.actor: unknown key; did you mean 'actors'?"),
    ("{path: models/bought}", "{path: x, steps: 5}", "r.yaml:15: experts.bought.steps: unknown key; choose from"),
    ("files: eval/h.csv", "fles: eval/h.csv", "r.yaml:20: evaluators.safety.data.fles: unknown key; did you mean"),
    ("base: models/base\n", "", "r.yaml: base: is required; add `base:`"),
    ("methods: [linear, ties]", "sampler: tpe", "r.yaml:21: search.methods: is required; add `methods:`"),
    ("mix: {general: 1}", "steps: 1", "r.yaml:11: experts.{lang}-only.mix: is required; add `mix:`"),
    ("name: small", "name: a/b", "r.yaml:1: name: a name is at most 64 letters"),
    ("base: models/base", "base:", "r.yaml:2: base: must be text, got nothing; write a value after the colon"),
    ("base: models/base", "base: 7", "r.yaml:2: base: must be text, got 7; quote it if it is meant as text"),
    ("base: models/base", "base: ''", "r.yaml:2: base: must not be empty, got ''"),
    ("seed: 3", "seed: 3.0", "r.yaml:3: seed: must be a whole number, got 3.0; write a whole number such as 0"),
    ("seed: 3", "seed: -1", "r.yaml:3: seed: must be between 0 and 4294967295, got -1; write a whole number"),
    ('"no"]', "no]", 'r.yaml:4: languages[2]: must be text, got false, which YAML reads from no; quote it: "no"'),
    ('"no"]', "fr]", "r.yaml:4: languages: names 'fr' twice; keep one"),
    ('"no"]', "Français]", "r.yaml:4: languages[2]: must be a language code, got 'Français'; write a code such as en"),
    ('[en, fr, "no"]', "[]", "r.yaml:4: languages: must not be empty; name at least one"),
    ('[en, fr, "no"]', "en", "r.yaml:4: languages: must be a list, got 'en'; write [a, b]"),
    ("{path: json, files: data/general.jsonl}", "{path: json}", "r.yaml:6: data.general: path: json needs files;"),
    ("columns: {prompt: q", "columns: {promt: q", "r.yaml:7: data.safety.columns.promt: must be one of id, prompt"),
    ("trainer: sft", "trainer: my.pkg:fn", "r.yaml:9: experts.general.trainer: cannot import module my.pkg (Module"),
    ("trainer: sft", "trainer: stf", "r.yaml:9: experts.general.trainer: unknown trainer, got 'stf'; did you mea"),
    ("{safety: 0.7, general: 0.3}", "{safety: 0.7, general: 1.5}", "r.yaml:10: experts.safety.mix.general: must"),
    ("{safety: 0.7, general: 0.3}", "{safety: 0.7, general: 0.2}", "r.yaml:10: experts.safety.mix: shares must s"),
    ("{safety: 0.7, general: 0.3}", "{}", "r.yaml:10: experts.safety.mix: must not be empty; name at least one"),
    ("{safety: 0.7, general: 0.3}", "{safty: 1.0}", "r.yaml:10: experts.safety.mix.safty: unknown data, got 'saf"),
    ("{safety: 0.7, general: 0.3}", "safety", "r.yaml:10: experts.safety.mix: must be a mapping, got 'safety'; w"),
    ("learning_rate: 1e-3", "learning_rate: .nan", "r.yaml:10: experts.safety.learning_rate: must be finite, got"),
    ("learning_rate: 1e-3", "learning_rate: 0", "r.yaml:10: experts.safety.learning_rate: must be above 0 and at"),
    ("learning_rate: 1e-3", "learning_rate: fast", "r.yaml:10: experts.safety.learning_rate: must be a number, g"),
    ("learning_rate: 1e-3", "schedule: cosin", "r.yaml:10: experts.safety.schedule: must be one of cosine, linea"),
    ("languages: [fr]", "languages: [de]", "r.yaml:10: experts.safety.languages[0]: unknown language, got 'de';"),
    ("languages: [fr]", "steps: 12:30", "r.yaml:10: experts.safety.steps: duplicate key"),
    ("steps: 60", "steps: 12:30", "r.yaml:9: experts.general.steps: must be a whole number, got '12:30'; write a"),
    ("steps: 60", "steps: match", "r.yaml:9: experts.general.steps: only a baseline can match the compute of oth"),
    ("{trainer: sft, mix: {general: 1.0}, steps: 60, batch: 64}", "{matrix: {}}", "r.yaml:9: experts.general.matri"),
    ("batch: 64}\nev", "batch: 64, steps: mach}\nev", "r.yaml:17: baselines.mixed.steps: must be a whole number"),
    ("  mixed:", "  general:", "r.yaml:17: baselines.general: an expert has this name too; rename one"),
    ("  bought:", "  base:", "r.yaml:15: experts.base: base is the name of the base model; rename it"),
    ("  bought:", "  '{x}':", "r.yaml:15: experts.{x}: a name with {placeholders} needs a matrix, got '{x}'; add"),
    ('languages: ["{lang}"]', "languages: [{lang: 1}]", "r.yaml:14: experts.{lang}-only.languages[0]: must be text"),
    ("mix: {general: 1}\n", "mix: {generl: 1}\n", "r.yaml:13: experts.{lang}-only.mix.generl: unknown data, got"),
    ("kind: exact_match", "kind: exactmatch", "r.yaml:19: evaluators.general.kind: unknown evaluator kind, got '"),
    ("kind: refusal", "kind: no_such_pkg:fn", "r.yaml:20: evaluators.safety.kind: cannot import module no_such_p"),
    ("kind: refusal", "kind: json:dmups", "r.yaml:20: evaluators.safety.kind: module json has no function dmups,"),
    ("kind: refusal", "kind: evaluators.refusal", "r.yaml:20: evaluators.safety.kind: unknown evaluator kind, go"),
    ("[general, safety]\n", "[general, sefety]\n", "r.yaml:22: search.experts[1]: unknown expert, got 'sefety';"),
    ("[general, safety]\n", "[general, general]\n", "r.yaml:22: search.experts: names 'general' twice; keep one"),
    ("[linear, ties]", "[linear, tie]", "r.yaml:23: search.methods[1]: unknown merge method, got 'tie'; did you"),
    ("[linear, ties]", "[linear, dare-ties]", "r.yaml:23: search.methods[1]: unknown merge method, got 'dare-tie"),
    ("safety: max}", "safty: max}", "r.yaml:24: search.objectives.safty: unknown evaluator, got 'safty'; did you"),
    ("safety: max}", "safety: maximize}", "r.yaml:24: search.objectives.safety: must be one of max, min, got 'ma"),
    ("general: max, safety: max", "", "r.yaml:24: search.objectives: must not be empty; name at least one"),
    ("min_language(general) >= base - 0.02", "min_language(genral) >= base", "r.yaml:25: search.constraints[0]:"),
    ("min_language(general) >= base - 0.02", "general > base", "r.yaml:25: search.constraints[0]: '>' is not a c"),
    ("candidates: 10", "candidates: 0", "r.yaml:26: search.candidates: must be between 1 and 1000000, got 0; wri"),
    ("candidates: 10", "sampler: tep", "r.yaml:26: search.sampler: unknown sampler, got 'tep'; did you mean 'tpe'"),
    ("candidates: 10", "stages: [0.5, 0.25]", "r.yaml:26: search.stages: stages must rise and end with 1.0, got"),
    ("actors: 2", "cpus: yes", "r.yaml:28: cluster.evaluators.cpus: must be a number, got true, which YAML reads"),
    ("evaluators: {actors: 2}", "trainers: {zero: 4}", "r.yaml:28: cluster.trainers.zero: must be between 0 and"),
    ("evaluators: {actors: 2}", "trainers: {workers: 3}", "r.yaml:9: experts.general.batch: batch must be a multiple"),
    ("evaluators: {actors: 2}", "address: loca", "r.yaml:28: cluster.address: must be local, auto or HOST:PORT of a"),
    ("evaluators: {actors: 2}", "address: a:70000", "r.yaml:28: cluster.address: must be local, auto or HOST:PORT of"),
    ("evaluators: {actors: 2}", "address: http://a:8265", "r.yaml:28: cluster.address: is the address of a dashboard"),
    ("actors: 2", "actors: 0", "r.yaml:28: cluster.evaluators.actors: must be between 1 and 100000, got 0; write a nu"),
    (
        "actors: 2",
        "actors: many",
        "r.yaml:28: cluster.evaluators.actors: must be a whole number, got 'many'; write a n",
    ),
    ("actors: 2", "actors: {min: 3, max: 2}", "r.yaml:28: cluster.evaluators.actors: max must be at least min, got mi"),
    ("actors: 2", "actors: {least: 3}", "r.yaml:28: cluster.evaluators.actors.least: unknown key; choose from"),
    ("actors: 2", "task_timeout: 0", "r.yaml:28: cluster.evaluators.task_timeout: must be a duration above 0, got 0;"),
    ("actors: 2", "start_timeout: soon", "r.yaml:28: cluster.evaluators.start_timeout: must be a duration above 0, go"),
    (
        "best-safety",
        "best-safty",
        'r.yaml:29: export.picks[1]: must be knee, safest, best-OBJECTIVE or "#NUMBER", got '
        "'best-safty'; did you mean 'best-safety'?",
    ),
    ("5GB", "5 gigs", "r.yaml:29: export.shard: must be a size in bytes, got '5 gigs'; write a size such as 5GB"),
    ("seed: 3", "storage: s3://bucket", "r.yaml:3: storage: must name a prefix of the bucket such as s3://bucket/runs"),
    ("seed: 3", "storage: s4://bucket/x", "r.yaml:3: storage: must begin with s3://, gs://, file://, got s4://"),
    ("seed: 3", "storage: s3://key:word@bucket/x", "r.yaml:3: storage: s3://: credentials do not belong in a URL"),
    ("5GB", "0", "r.yaml:29: export.shard: must be at least 1kB, got 0; write a size such as 5GB"),
]


@pytest.mark.parametrize(("old", "new", "message"), REFUSED, ids=[f"{new[:24]}" for _, new, _ in REFUSED])
def test_each_bad_input_is_one_line_with_place_rule_value_and_remedy(old: str, new: str, message: str) -> None:
    found = problems_of(edited(old, new))
    assert str(found[0]).startswith(message)
    assert "\n" not in str(found[0])


LATER = [
    ("candidates: 10", "drop_above: 0.2", "r.yaml:26: search.drop_above: must be between 0.5 and 1, got 0.2; write a"),
    ("candidates: 10", "sampler: my.pkg:fn", "r.yaml:26: search.sampler: cannot import module my.pkg (ModuleNotFo"),
    ("candidates: 10", "scheduler: hyperband", "r.yaml:26: search.scheduler: must be one of asha, fair, got 'hype"),
    ("evaluators: {actors: 2}", "address: ray://a:1", "r.yaml:28: cluster.address: Ray Client cannot carry a run"),
    ("seed: 3", "database: mysql://u:pw@h/d", "r.yaml:3: database: must be sqlite or the URL of a PostgreSQL database"),
]


@pytest.mark.parametrize(("old", "new", "message"), LATER, ids=[new for _, new, _ in LATER])
def test_what_comes_later_is_refused_never_ignored(old: str, new: str, message: str) -> None:
    found = problems_of(edited(old, new))
    assert len(found) == 1
    assert str(found[0]).startswith(message)


@pytest.mark.parametrize(
    ("new", "rule"),
    [
        ("lora: {rank: 8}", "unknown key"),
        ("lora: {r: 0}", "must be between 1 and 1024"),
        ("tune: {batch: {low: 8}}", "is required"),
        ("tune: {batch: {low: 8, high: 4}}", "needs low < high, and low > 0 if log"),
        ("from: {front: a, pick: knee}", "unknown search"),
        ("from: nobody", "unknown model"),
        ("scheduler: asah", "must be one of asha, fifo"),
    ],
)
def test_what_is_inside_a_training_is_read_in_full(new: str, rule: str) -> None:
    assert [problem.rule for problem in problems_of(edited("steps: 60", new))] == [rule]
