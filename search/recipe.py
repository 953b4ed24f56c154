"""The recipe: one YAML file that states a whole run, as frozen models.

`load_recipe` reads, expands matrix experts, validates everything at once and raises one `UserError` with every problem.
Nothing here loads torch, ray or datasets: a recipe can be read on any machine. A name of the form
"package.module:function" is imported, since nothing less shows that it exists.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, PrivateAttr, ValidationError

from cluster.storage import urls
from search._recipe import yaml_text
from search._recipe.chains import is_mixture
from search._recipe.constraints import Constraint
from search._recipe.factors import FactorError, grid_of
from search._recipe.fields import Language, Name, Seed, Text, at_least_one, tuple_of
from search._recipe.judges import JudgeSpec, with_judges
from search._recipe.judges import problems as judge_problems
from search._recipe.lock import fingerprint
from search._recipe.matrix import Scalar, expand
from search._recipe.models import (
    ClusterSpec,
    DataSource,
    EvaluatorActors,
    EvaluatorSpec,
    ExportSpec,
    Section,
    TrainerWorkers,
    TrainingSource,
)
from search._recipe.places import database as a_database
from search._recipe.places import storage as a_storage
from search._recipe.problems import Origin, translate
from search._recipe.search import SearchSpec
from search._recipe.training import (
    Baseline,
    ExistingExpert,
    Expert,
    FrontPick,
    MergedExpert,
    MixFrom,
    TrainedBaseline,
    TrainedExpert,
    Training,
)
from search._recipe.trainings import matched_steps
from search._recipe.trainings import problems as training_problems
from search._recipe.yaml_text import Document, KeyPath
from search._space.grid import Grid
from search.errors import Problem, UserError
from search.statistics import aggregates

__all__ = [
    "LOCK",
    "ClusterSpec",
    "Constraint",
    "DataSource",
    "EvaluatorActors",
    "EvaluatorSpec",
    "ExistingExpert",
    "ExportSpec",
    "FrontPick",
    "MergedExpert",
    "MixFrom",
    "Recipe",
    "SearchSpec",
    "TrainedBaseline",
    "TrainedExpert",
    "TrainerWorkers",
    "Training",
    "load_recipe",
    "parse_recipe",
]

RECIPE, LOCK = "recipe.yaml", "recipe.lock.json"
LOCK_FORMAT = 1
_HUB_ID = re.compile(r"[A-Za-z0-9_][\w.-]*(?:/[A-Za-z0-9_][\w.-]*)?")


class Recipe(Section):
    """A whole run. See DESIGN: "The recipe"; each section documents its keys.

    Attributes:
        name: of the run.
        base: the model that every expert starts from; a directory or a hub id.
        seed: of everything random; experts may state their own.
        languages: the universe of language codes; data in others is refused.
        data: named training data.
        experts: after matrix expansion, in the recipe's order.
        baselines: trained or existing models that are scored and never merged.
        evaluators: named scores.
        judges: named models behind endpoints that evaluators ask (`docs/judges.md`).
        searches: earlier searches by name, whose fronts `from: {front: NAME, pick: knee}` picks from. Each states its
            experts; what else it leaves out is that of `search`.
        search, cluster, export: see their sections.
        storage: the run directory when the command line names none, relative to the recipe; or a URL in a bucket.
        database: "sqlite" = a file in the run directory; or postgresql://USER@HOST/DATABASE, of which the run takes a
            schema of its own.
    """

    name: Name
    base: Text
    seed: Seed = 0
    languages: Annotated[tuple[Language, ...], tuple_of()]
    data: Mapping[Name, TrainingSource] = {}
    experts: Annotated[Mapping[Name, Expert], AfterValidator(at_least_one)]
    baselines: Mapping[Name, Baseline] = {}
    evaluators: Annotated[Mapping[Name, EvaluatorSpec], AfterValidator(at_least_one)]
    judges: Mapping[Name, JudgeSpec] = {}
    searches: Mapping[Name, SearchSpec] = {}
    search: SearchSpec
    cluster: ClusterSpec = Field(default_factory=ClusterSpec)
    storage: Annotated[str, BeforeValidator(a_storage)] = ""
    database: Annotated[str, BeforeValidator(a_database)] = "sqlite"
    export: ExportSpec = Field(default_factory=ExportSpec)

    _origin: Origin = PrivateAttr()
    _directory: Path = PrivateAttr()
    _grid: Grid | None = PrivateAttr(None)
    _axes: Mapping[str, Mapping[str, Scalar]] = PrivateAttr({})
    _earlier: str = PrivateAttr("")

    @property
    def directory(self) -> Path:
        """Absolute; relative paths of the recipe start here."""
        return self._directory

    @property
    def file(self) -> str:
        """The recipe's file as the user named it."""
        return self._origin.document.file

    @property
    def grid(self) -> Grid | None:
        """Objective and language of each expert of the search, where coefficients are factorized."""
        return self._grid

    @property
    def earlier(self) -> str:
        """The name among `searches` of the search that this recipe is for; "" for the recipe as it is written."""
        return self._earlier

    def competes(self, name: str) -> bool:
        """Whether a model is scored for the front: in an earlier search only the base and what is searched over."""
        return not self._earlier or name == "base" or name in self.search.experts

    def for_search(self, name: str) -> Recipe:
        """The recipe with one of `searches` in place of `search`."""
        spec = self.searches[name]
        found = self.model_copy(update={"search": spec})
        found._earlier = name
        factorized = spec.coefficients == "factorized"
        found._grid = grid_of(spec.experts, self.experts, self._axes) if factorized else None
        return found

    def resolve(self, path: str) -> str:
        """A path of the recipe as an absolute one; a hub id as its snapshot in the hub cache.

        What is neither a file nor cached comes back unchanged if it may be a hub id, else as the absolute path that
        does not exist. What a URL names is fetched into the local cache.

        Raises:
            InputError: a URL that cannot be used.
        """
        if urls.is_url(path):
            from cluster.storage.inputs import local as fetched

            return str(fetched(path))
        local = Path(os.path.abspath(self._directory / Path(path).expanduser()))
        if local.exists() or not _HUB_ID.fullmatch(path):
            return str(local)
        from huggingface_hub import try_to_load_from_cache

        config = try_to_load_from_cache(path, "config.json")
        return str(Path(config).parent) if isinstance(config, str) else path

    def source(self, source: DataSource) -> DataSource:
        """`source` with absolute files (globs stay globs); what URLs name is fetched into the local cache."""
        files = tuple(
            self.resolve(file) if urls.is_url(file) else os.path.abspath(self._directory / Path(file).expanduser())
            for file in source.files
        )
        return source.model_copy(update={"path": source.path if files else self.resolve(source.path), "files": files})

    def steps(self, name: str) -> int:
        """Optimizer steps of a trained expert or baseline, `match` worked out.

        A matched baseline costs as much as all trained experts of the search together with what they are made of, less
        what it is made of itself (`search._recipe.compute`), rounded up to steps.
        """
        trained = self.entry(name)
        assert isinstance(trained, (TrainedExpert, TrainedBaseline)), f"{name} is not trained here"
        return matched_steps(self, name) if trained.steps == "match" else trained.steps

    def entry(self, name: str) -> Expert | Baseline:
        """The expert or baseline of that name."""
        return self.experts[name] if name in self.experts else self.baselines[name]

    def mixture(self, name: str) -> Mapping[str, float]:
        """Data -> share of a trained model; where a remix run finds it, the mixture that this run begins with."""
        mix = self.entry(name).mix  # type: ignore[union-attr]  # the caller names a training
        return self.mixture(mix.from_) if isinstance(mix, MixFrom) else mix

    def problem(self, path: KeyPath, rule: str, value: str | None = None, remedy: str = "") -> Problem:
        """A problem at a key of this recipe, with its file and line; `path` is in terms of the expanded recipe."""
        return self._origin.problem(path, rule, value, remedy)

    def states(self, path: KeyPath) -> bool:
        """Whether the file itself has this key; a default has no line."""
        return self._origin.path(path) in self._origin.document.lines

    def on(self, address: str, *, elastic: bool | None = None) -> Recipe:
        """This recipe, to be run on another cluster; `elastic`: whether that one adds nodes on demand.

        Raises:
            UserError: no such address.
        """
        try:
            ClusterSpec.model_validate({"address": address})
        except ValidationError as error:
            found = error.errors()[0]
            remedy = str(found.get("ctx", {}).get("remedy", ""))
            raise UserError(Problem("", None, "--cluster", found["msg"], address, remedy)) from None
        changes = {"address": address, "elastic": self.cluster.elastic if elastic is None else elastic}
        return self.model_copy(update={"cluster": self.cluster.model_copy(update=changes)})

    def fingerprint(self) -> str:
        """Hash (64 hex digits) of all that changes results: recipes with the same one may share a run directory.

        Left out, so that they may change between a run and its resumption: name, cluster (but for the
        engine), storage, database, the number of candidates, `save_every`, picks and shard size. Contents of
        files are not part of it.
        """
        return fingerprint(self.model_dump(mode="json"))

    def lock(self) -> dict[str, Any]:
        """The resolved recipe for `recipe.lock.json`: JSON types only."""
        dump = self.model_dump(mode="json")
        return {
            "format": LOCK_FORMAT,
            "fingerprint": fingerprint(dump),
            "directory": str(self._directory),
            "earlier": self._earlier,
            "recipe": dump,
        }


def load_recipe(path: str | Path, *, directory: str | Path | None = None) -> Recipe:
    """Read and validate a recipe.

    Args:
        path: a recipe file, or a run directory: then its copy of the recipe, with paths relative to where the
            recipe first was.
        directory: where relative paths of the recipe start; its own by default.

    Raises:
        UserError: with every problem found; nothing is written.
    """
    file = Path(path)
    if file.is_dir():
        if not (file / RECIPE).is_file():
            remedy = "name a recipe file or the directory of a run"
            raise UserError(Problem(str(path), None, "", f"is a directory without {RECIPE}", remedy=remedy))
        directory = directory or _original_directory(file / LOCK)
        file = file / RECIPE
    document = yaml_text.read(file)
    return _validated(document, Path(os.path.abspath(directory or Path(os.path.abspath(file)).parent)))


def parse_recipe(text: str, *, file: str = "recipe.yaml", directory: str | Path = ".") -> Recipe:
    """Validate a recipe held as text; `file` is its name for messages. Raises UserError as `load_recipe` does."""
    return _validated(yaml_text.parse(text, file), Path(os.path.abspath(directory)))


def _original_directory(lock: Path) -> Path | None:
    """Where the recipe of a run was first read from; None if the run says nothing about it."""
    try:
        return Path(json.loads(lock.read_text("utf-8"))["directory"])
    except (OSError, ValueError, KeyError, TypeError):
        return None  # `check` says what is wrong with a lock file


def _validated(document: Document, directory: Path) -> Recipe:
    raw = dict(document.value)
    sections = ("experts", "baselines", "searches")
    expanded = {section: expand(document, section) for section in sections if section in raw}
    for section, result in expanded.items():
        if isinstance(raw[section], dict):
            raw[section] = result.value
    moved = {path: source for result in expanded.values() for path, source in result.origin.items()}
    moved |= _inherit(raw)
    origin = Origin(document, moved)
    problems = [problem for result in expanded.values() for problem in result.problems]
    raw.setdefault("storage", f"runs/{raw.get('name')}")
    names = _names(raw)
    if problems:
        # A broken matrix leaves out entries that are meant to be there.
        names |= {"experts": None, "models": None, "searches": None}
    grids: dict[KeyPath, Grid] = {}
    try:
        recipe = Recipe.model_validate(raw, context=names)
    except ValidationError as error:
        problems += translate(error, Recipe, origin)
    else:
        problems += _clashes(recipe, origin)
        recipe = with_judges(_completed(recipe), directory)
        problems += training_problems(recipe, origin) + judge_problems(recipe, origin)
        axes = expanded["experts"].axes
        searches = [(("search",), recipe.search), *((("searches", n), spec) for n, spec in recipe.searches.items())]
        for path, spec in searches:
            try:
                if spec.coefficients == "factorized" and not problems:
                    grids[path] = grid_of(spec.experts, recipe.experts, axes)
            except FactorError as error:
                problems.append(origin.problem((*path, "coefficients"), error.rule, error.value, error.remedy))
    if problems:
        raise UserError(sorted(problems, key=lambda problem: problem.line or 0))
    recipe._origin, recipe._directory, recipe._axes, recipe._grid = origin, directory, axes, grids.get(("search",))
    return recipe


def _names(raw: Mapping[str, Any]) -> dict[str, tuple[str, ...] | None]:
    """What references are checked against; None (not checked) where the section itself is missing or broken."""

    def keys(value: Any) -> tuple[str, ...] | None:
        return tuple(value) if isinstance(value, dict) else None

    search, languages = raw.get("search"), raw.get("languages")
    sections = [keys(raw.get(section, {})) for section in ("experts", "baselines")]
    objectives = keys(search.get("objectives")) if isinstance(search, dict) else None
    return {
        "data": keys(raw.get("data", {})),
        "experts": keys(raw.get("experts")),
        "models": None if None in sections else tuple(name for section in sections for name in section or ()),
        "searches": keys(raw.get("searches", {})),
        "evaluators": keys(raw.get("evaluators")),
        "objectives": None if objectives is None else tuple(aggregates.canonical(str(name)) for name in objectives),
        "languages": tuple(map(str, languages)) if isinstance(languages, list) else None,
    }


def _completed(recipe: Recipe) -> Recipe:
    """`recipe` with the defaults that depend on other sections."""

    def with_defaults(model: Any) -> Any:
        if not isinstance(model, Training):
            return model
        inherited = {"seed": recipe.seed, "languages": recipe.languages}
        missing = {key: value for key, value in inherited.items() if key not in model.model_fields_set}
        return model.model_copy(update=missing)

    experts = {name: with_defaults(expert) for name, expert in recipe.experts.items()}
    baselines = {name: with_defaults(baseline) for name, baseline in recipe.baselines.items()}
    every = tuple(name for name, model in experts.items() if not is_mixture(model))
    search = recipe.search.model_copy(update={"experts": recipe.search.experts or every})
    return recipe.model_copy(update={"experts": experts, "baselines": baselines, "search": search})


def _clashes(recipe: Recipe, origin: Origin) -> list[Problem]:
    """Names that mean two things on the front."""
    problems = []
    for section, models in (("experts", recipe.experts), ("baselines", recipe.baselines)):
        if "base" in models:
            problems.append(origin.problem((section, "base"), "base is the name of the base model", None, "rename it"))
    for name in recipe.baselines:
        if name in recipe.experts:
            problems.append(origin.problem(("baselines", name), "an expert has this name too", None, "rename one"))
    for name, spec in recipe.searches.items():
        if not spec.experts:
            rule = "must name its experts"
            problems.append(origin.problem(("searches", name), rule, None, "add `experts: [a, b]`"))
    return problems


def _inherit(raw: dict[str, Any]) -> dict[KeyPath, KeyPath]:
    """Give every search of `searches` what it leaves out; where those keys stand in the file."""
    searches, main = raw.get("searches"), raw.get("search")
    if not isinstance(searches, dict) or not isinstance(main, dict):
        return {}
    taken = {
        name: [key for key in main if key not in (*spec, "experts")]
        for name, spec in searches.items()
        if isinstance(spec, dict)
    }
    raw["searches"] = searches | {
        name: {**searches[name], **{key: main[key] for key in keys}} for name, keys in taken.items()
    }
    return {("searches", name, key): ("search", key) for name, keys in taken.items() for key in keys}
