"""The sections of a recipe that say where things come from, run and go: data, evaluators, cluster, export.

Values that later versions will accept are read in full and refused with "not available yet", never ignored.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePath
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, model_validator

from search._recipe.fields import (
    Size,
    Text,
    as_list,
    flag,
    number,
    one_of,
    plugin,
    refusal,
    tuple_of,
    whole,
    whole_number,
)
from search.errors import suggestion
from search.statistics import aggregates
from search.stopping import RuleError, duration

BUILDERS = {".jsonl": "json", ".json": "json", ".parquet": "parquet", ".csv": "csv"}
COLUMNS = (
    "id",
    "prompt",
    "response",
    "answer",
    "messages",
    "chosen",
    "rejected",
    "language",
    "group",
    "task",
    "split",
    "choices",
    "tests",
)
PICKS = ("knee", "safest")
TRACKERS = ("tensorboard", "wandb", "mlflow")


class Section(BaseModel):
    """Base of all sections: immutable, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", serialize_by_alias=True, defer_build=True)


class DataSource(Section):
    """Where rows come from, as `datasets.load_dataset` takes it.

    Attributes:
        path: "json", "csv" or "parquet" with `files`; else a hub id or directory.
        files: paths relative to the recipe; globs allowed. Required for the three formats above.
        columns: our name of a column -> the name it has in the data; columns not listed keep their name.
        split: the split to read; plain files have only "train".
    """

    path: Text
    files: Annotated[tuple[Text, ...], BeforeValidator(as_list)] = ()
    columns: Mapping[Annotated[str, one_of(*COLUMNS)], Text] = {}
    split: Text = "train"

    @model_validator(mode="after")
    def _has_files(self) -> DataSource:
        if self.path in BUILDERS.values() and not self.files:
            raise refusal(f"path: {self.path} needs files", "add `files: data/x.jsonl`", value=None)
        return self


class TrainingSource(DataSource):
    """Data to train on.

    Attributes:
        contamination: "allow" = rows that are items of an evaluator too, or nearly, are counted and reported, and do
            not stop the run (`search._check.contamination`).
    """

    contamination: Annotated[Literal["refuse", "allow"], one_of("refuse", "allow")] = "refuse"


def as_source(value: Any) -> Any:
    """A path alone stands for the data source that its ending names."""
    if not isinstance(value, str):
        return value
    builder = BUILDERS.get(PurePath(value).suffix)
    return {"path": builder, "files": [value]} if builder else {"path": value}


class EvaluatorSpec(Section):
    """One evaluator over one item set.

    Attributes:
        kind: a file of `evaluators/`, or "package.module:function".
        data: its items; a path alone is enough. Columns: prompt, answer, language; optionally id, group, task, split,
            choices, tests. Left out for kinds that bring their items (harness).
        options: keyword arguments of the kind, as its signature states them.
        look_alikes: the evaluator that scores harmless look-alikes of this one's items, shown beside it: a model that
            refuses everything is safe.
        optimise_on: names of the public test sets that these items are, to permit a search that is aimed at them.
    """

    kind: Annotated[str, plugin("evaluators")]
    data: Annotated[DataSource, BeforeValidator(as_source)] | None = None
    options: Mapping[str, Any] = {}
    look_alikes: Text | None = None
    optimise_on: Annotated[tuple[Text, ...], BeforeValidator(as_list)] = ()


_ACTORS = "write a number of processes, auto, or {min: 1, max: 8}"


class ActorRange(Section):
    """At least `min` evaluator actors, more up to `max` while candidates wait and a node has room."""

    min: Annotated[int, whole(1, 10**5, _ACTORS)] = 1
    max: Annotated[int, whole(1, 10**5, _ACTORS)] = 10**5

    def __str__(self) -> str:
        """`2`, `1 to 8` or `1 or more`."""
        if self.max == self.min:
            return str(self.min)
        return f"{self.min} to {self.max}" if self.max < 10**5 else f"{self.min} or more"

    @model_validator(mode="after")
    def _is_range(self) -> ActorRange:
        if self.max < self.min:
            raise refusal("max must be at least min", "swap them", value=f"min {self.min}, max {self.max}")
        return self


def _as_range(value: Any) -> Any:
    if value == "auto":
        return {}
    if isinstance(value, Mapping | ActorRange):
        return value
    count = whole_number(value, 1, 10**5, _ACTORS)
    return {"min": count, "max": count}


def _seconds(value: Any) -> float:
    try:
        return duration(value)
    except RuleError as error:
        raise refusal(error.rule, error.remedy) from None


class EvaluatorActors(Section):
    """Processes that score candidates, and what each holds.

    Attributes:
        actors: how many; `auto` for as many as the cluster has room for, whatever it becomes; or a range.
        cpus: of each; below a whole number leaves room for the search itself.
        gpus: of each; 0 = none, 0.5 = two actors share one.
        engine: what runs the model.
        task_timeout: seconds (or a text such as 2h) for one candidate; an actor that takes longer is replaced.
        start_timeout: seconds for an actor to load the base, and for the cluster to have a place for it.
    """

    actors: Annotated[ActorRange, BeforeValidator(_as_range)] = ActorRange(min=1, max=1)
    cpus: Annotated[float, number(0, remedy="write a number of CPUs", open_low=True)] = 0.9
    gpus: Annotated[float, number(0, remedy="write a number of GPUs, 0 for none")] = 0.0
    engine: Annotated[Literal["transformers", "vllm"], one_of("transformers", "vllm", what="engine")] = "transformers"
    task_timeout: Annotated[float, BeforeValidator(_seconds)] = 4 * 3600.0
    start_timeout: Annotated[float, BeforeValidator(_seconds)] = 1200.0


class TrainerWorkers(Section):
    """Processes of one training, and what each holds.

    Attributes:
        workers: how many; `batch` is spread over them.
        cpus: of each.
        gpus: of each; 0 = train on CPUs.
        zero: DeepSpeed ZeRO stage: 0 = nothing sharded, 1 optimizer, 2 and gradients, 3 and weights.
        micro_batch: sequences per forward pass of one worker, gradients accumulated; 0 = a worker's whole share.
        offload: keep the optimizer's state, and at stage 3 the weights, in the host's memory.
        activation_checkpointing: compute activations again in the backward pass instead of keeping them.
        deepspeed: a DeepSpeed configuration (JSON file, relative to the recipe) or the name of a preset of
            `trainers/presets`, in place of `zero` and `offload`.
        report_to: trackers that trainings report to.

    None of them changes what is trained beyond rounding, so all may change between a run and its resumption.
    """

    workers: Annotated[int, whole(1, 10**5, "write a number of processes")] = 1
    cpus: Annotated[float, number(0, remedy="write a number of CPUs", open_low=True)] = 1.0
    gpus: Annotated[float, number(0, remedy="write a number of GPUs, 0 for none")] = 0.0
    zero: Annotated[int, whole(0, 3, "write a ZeRO stage from 0 to 3")] = 2
    micro_batch: Annotated[int, whole(0, 65536, "write a number of sequences, 0 for all at once")] = 0
    offload: Annotated[bool, flag()] = False
    activation_checkpointing: Annotated[bool, flag()] = False
    deepspeed: Text | None = None
    report_to: Annotated[tuple[Annotated[str, one_of(*TRACKERS)], ...], BeforeValidator(as_list)] = ()

    @model_validator(mode="after")
    def _one_source(self) -> TrainerWorkers:
        doubled = [key for key in ("zero", "offload") if key in self.model_fields_set]
        if self.deepspeed is not None and doubled:
            raise refusal(f"deepspeed and {doubled[0]} say the same thing twice", "keep one of them", value=None)
        return self


_HOST = re.compile(r"(?:[\w.-]+|\[[0-9A-Fa-f:.]+\]):(\d{1,5})")


def _address(value: Any) -> str:
    text = value if isinstance(value, str) else ""
    found = _HOST.fullmatch(text)
    if text in ("local", "auto") or (found and 0 < int(found[1]) < 2**16):
        return text
    if text.startswith("ray://"):
        rule = "Ray Client cannot carry a run (Ray Tune and the run directory would be on two machines)"
        raise refusal(rule, "run on a node of the cluster with `address: auto`, or submit to `mergefront serve`")
    if text.startswith(("http://", "https://")):
        remedy = f"`mergefront serve --cluster {text}` submits there; on one of its nodes write `address: auto`"
        raise refusal("is the address of a dashboard, which takes jobs and no drivers", remedy)
    raise refusal("must be local, auto or HOST:PORT of a cluster that this machine is a node of", "write auto")


class ClusterSpec(Section):
    """Where things run.

    Attributes:
        address: `local` starts Ray on this machine alone, `auto` joins the cluster it belongs to, HOST:PORT (of the
            head) the one of several that is meant.
        elastic: the cluster adds nodes on demand, so what it has now limits nothing.
        files: `shared`: every node sees base and experts under the same paths; `ship`: a node that does not, or sees
            others there, gets them from the driver, once.
        evaluators, trainers: processes.
    """

    address: Annotated[str, BeforeValidator(_address)] = "local"
    elastic: Annotated[bool, flag()] = False
    files: Annotated[Literal["shared", "ship"], one_of("shared", "ship", what="files")] = "shared"
    evaluators: EvaluatorActors = Field(default_factory=EvaluatorActors)
    trainers: TrainerWorkers = Field(default_factory=TrainerWorkers)


def _pick(value: Any, info: ValidationInfo) -> str:
    if value is None:
        raise refusal("is empty", 'a # starts a comment: quote a number ("#12")', value=None)
    text = str(value) if isinstance(value, str) else ""
    objectives = (info.context or {}).get("objectives")
    named = [pick for pick in PICKS if pick != "safest" or objectives is None or aggregates.safety(objectives)]
    known = (*named, *(f"best-{name}" for name in objectives or ()))
    if text in known or (text[:1] == "#" and text[1:].isdecimal()):
        return text
    if text.startswith("best-") and objectives is None and len(text) > 5:
        return text
    raise refusal('must be knee, safest, best-OBJECTIVE or "#NUMBER"', suggestion(value, known))


class ExportSpec(Section):
    """What is written at the end.

    Attributes:
        picks: named points of the front, each exported as a checkpoint.
        dtype: of the exports, and of every candidate while it is scored: what is scored is what is exported.
        shard: bytes per safetensors file ("5GB" = 5e9).
    """

    picks: Annotated[tuple[Annotated[str, BeforeValidator(_pick)], ...], tuple_of()] = ("knee",)
    dtype: Annotated[Literal["float32", "bfloat16", "float16"], one_of("float32", "bfloat16", "float16")] = "bfloat16"
    shard: Size = 5 * 10**9
