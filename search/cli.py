"""The command line: parses, calls the public functions, prints. Nothing heavy is imported before a command needs it.

Results go to standard output, progress and errors to standard error. Exit status: 0 done; 1 the run failed (what ran
is kept); 2 bad input (nothing was written).
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from cluster import commands as service_commands

from .commands.deploy_commands import deploy
from .commands.service_commands import serve, token

INTERRUPTED = 130  # 128 + SIGINT, as shells have it

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Find the best merge of fine-tuned language models: a safety-general Pareto front of exported checkpoints.",
)

RecipeFile = Annotated[Path, typer.Argument(metavar="RECIPE", help="Recipe file (YAML).")]
RunPlace = Annotated[str, typer.Argument(metavar="RUN", help="Run directory, or its URL.")]
Out = Annotated[
    str | None, typer.Option("--out", metavar="DIR|URL", help="Run directory; default: the recipe's storage.")
]


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Run directory.")] = Path("runs/demo"),
    candidates: Annotated[int, typer.Option("--candidates", metavar="N", min=1, help="Merges to score.")] = 96,
) -> None:
    """Run the whole main job on the embedded demo world."""
    from .api import write_demo

    recipe = out / "world" / "recipe.yaml"
    if not recipe.is_file():
        recipe = write_demo(out / "world", candidates=candidates)
    _run(str(recipe), str(out), "run")


@app.command()
def run(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE|RUN", help="Recipe file, or a run (directory or URL) to go on with.")
    ],
    out: Out = None,
    fork: Annotated[
        str | None,
        typer.Option("--fork", metavar="RUN", help="Take over what is still valid of a run of a changed recipe."),
    ] = None,
    directory: Annotated[
        Path | None, typer.Option("--directory", metavar="DIR", help="Where the recipe's relative paths start.")
    ] = None,
    cluster: Annotated[
        str | None, typer.Option("--cluster", metavar="ADDRESS", help="In place of the recipe's cluster.address.")
    ] = None,
    elastic: Annotated[bool, typer.Option("--elastic", help="With --cluster: it adds nodes on demand.")] = False,
) -> None:
    """Check, train experts, search, confirm, export, report; run again to resume."""
    _run(recipe, out, "run", fork, directory, cluster, elastic)


@app.command()
def check(recipe: RecipeFile, out: Out = None) -> None:
    """Validate a recipe from metadata alone, and estimate cost, memory and disk."""
    from .check import check as checked
    from .run.place import to_check

    with to_check(recipe, out) as (plan, path):
        typer.echo(str(checked(plan, out=path)))


@app.command()
def train(recipe: RecipeFile, out: Out = None) -> None:
    """Train the experts and baselines that do not exist yet."""
    _run(str(recipe), out, "train")


@app.command()
def search(recipe: RecipeFile, out: Out = None) -> None:
    """Search merges; trains what is missing, stops before the confirmation."""
    _run(str(recipe), out, "search")


@app.command()
def front(
    run: RunPlace,
    as_json: Annotated[bool, typer.Option("--json", help="The whole front document, for machines.")] = False,
    objective: Annotated[
        list[str] | None,
        typer.Option("--objective", metavar="NAME", help="Decide the front on these objectives only."),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Show the points off the front too.")] = False,
) -> None:
    """Show the front of a run."""
    from .api import front as read_front
    from .results.table import front_table

    document = read_front(run, objectives=objective or ())
    typer.echo(json.dumps(document, ensure_ascii=False) if as_json else front_table(document, every=every))


@app.command()
def export(
    run: RunPlace,
    pick: Annotated[
        list[str],
        typer.Option("--pick", metavar="PICK", help="knee, safest, best-OBJECTIVE, or '#ID'; may be repeated."),
    ],
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Directory to make (with several picks: its parent).")
    ],
) -> None:
    """Write points of the front as checkpoints that transformers loads."""
    from .api import export as write_export

    for path in write_export(run, pick, out):
        typer.echo(path)


@app.command()
def report(run: RunPlace) -> None:
    """Write report.html and front.csv again."""
    from .api import report as write_report

    for path in write_report(run):
        typer.echo(path)


@app.command()
def optuna(
    run: Annotated[str, typer.Argument(metavar="RUN|FILE", help="Run (directory or URL), or the file of a study.")],
    out: Annotated[
        str | None,
        typer.Option("--out", metavar="FILE|URL", help="Storage to write; default: optuna.db beside it, or here."),
    ] = None,
) -> None:
    """Copy the studies into an Optuna storage, for optuna-dashboard."""
    from .commands.optuna_storage import FILE
    from .commands.optuna_storage import export as copy
    from .run.place import is_url, read_place, without_weights

    with read_place(run, without_weights) as path:
        url, names = copy(path, out or FILE if is_url(run) else out)
    typer.echo(
        f"{len(names)} studies: {', '.join(names)}" if names else "no study yet: no search of this run has begun"
    )
    typer.echo(f"optuna-dashboard {url}")


@app.command()
def merge(
    recipe: Annotated[Path, typer.Argument(metavar="MERGE.yaml", help="A merge in mergekit's YAML.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Directory to make.")],
    adapter: Annotated[bool, typer.Option("--adapter", help="Write a LoRA adapter (of LoRA experts).")] = False,
    rank: Annotated[int | None, typer.Option("--rank", metavar="R", min=1, help="Its largest rank.")] = None,
    shard: Annotated[float, typer.Option("--shard", metavar="GB", min=0.001, help="Largest file.")] = 5.0,
    threads: Annotated[int | None, typer.Option("--threads", metavar="N", min=1, help="Default: all.")] = None,
) -> None:
    """Do the merges of a file in mergekit's YAML."""
    from .commands.merging import merge_file

    size = int(shard * 1e9)
    for line in merge_file(recipe, out, shard_bytes=size, threads=threads, adapter=adapter, rank=rank):
        typer.echo(line)


@app.command()
def inspect(
    models: Annotated[list[str], typer.Argument(metavar="BASE [MODEL...]", help="Directories or hub ids.")],
    dtype: Annotated[str, typer.Option("--dtype", help="Of the output that room is counted for.")] = "bfloat16",
) -> None:
    """Say from headers alone whether models can be merged, and what a merge needs; downloads no weights."""
    from mergers._checkpoint.preflight import inspect as look

    found = look(models, dtype=dtype)
    for line in found.lines():
        typer.echo(line)
    if found.problems:
        raise typer.Exit(2)


@app.command("import")
def import_(
    genome: Annotated[Path, typer.Argument(metavar="GENOME.yaml", help="A configuration of mergekit-evolve.")],
) -> None:
    """Print the recipe that asks what a mergekit-evolve configuration asks."""
    from .commands.merging import import_genome

    typer.echo(import_genome(genome), nl=False)


@app.command()
def score(
    recipe: RecipeFile,
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Checkpoint directory.")],
    split: Annotated[str, typer.Option("--split", help="search or report.")] = "report",
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Score one checkpoint with the recipe's evaluators."""
    from .commands.single import score_model
    from .results.table import score_table

    scores = score_model(recipe, model, split)
    typer.echo(json.dumps(scores, ensure_ascii=False) if as_json else score_table(scores))


@app.command("judge-check")
def judge_check(
    recipe: RecipeFile,
    labelled: Annotated[
        Path | None, typer.Argument(metavar="[LABELLED]", help="Items that people labelled (JSON lines or CSV).")
    ] = None,
    evaluator: Annotated[
        str | None, typer.Option("--evaluator", metavar="NAME", help="Whose judge; needed where several have one.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Hold a recipe's judge against labelled items; without them, say what its judges did and cost so far."""
    from .commands.judging import judge_check as checked
    from .commands.judging import judge_table

    found = checked(recipe, labelled, evaluator)
    typer.echo(json.dumps(found, ensure_ascii=False) if as_json else judge_table(found))


@app.command()
def methods() -> None:
    """List what a recipe can name: merge methods, trainers, evaluators, samplers."""
    from .results.table import methods_table

    typer.echo(methods_table())


@app.command()
def doctor(
    path: Annotated[
        Path | None, typer.Argument(metavar="[RECIPE|RUN]", help="Look at its database, judges and log as well.")
    ] = None,
) -> None:
    """Print what this machine offers: all that a bug report needs."""
    from .commands.doctor import findings

    for line in findings(path):
        typer.echo(line)


app.command()(serve)
service_commands.add(app)
app.add_typer(token, name="token")
app.add_typer(deploy, name="deploy")


def _run(
    recipe: str,
    out: str | None,
    until: str,
    fork: str | None = None,
    directory: Path | None = None,
    cluster: str | None = None,
    elastic: bool = False,
) -> None:
    from .run.place import forked, place_of
    from .run.progress import Display
    from .run.unchanged import has_its_models

    display = Display()
    with place_of(recipe, out, display.line, directory) as place:
        plan = place.recipe if cluster is None else place.recipe.on(cluster, elastic=elastic or None)
        if until == "train" and has_its_models(plan, place.path):
            typer.echo(f"nothing to train: all models are in {place.shown}/experts")
            return
        # Only now: the samplers' libraries take a second to load, and where nothing is to be done nobody needs them.
        from .check import check as checked
        from .pipeline import run_recipe

        checked(plan, out=place.path)
        with forked(fork) as source, place.held() as milestone:
            document = run_recipe(plan, place.path, display, until=until, fork=source, milestone=milestone)
    if until == "train":
        typer.echo(f"experts: {place.shown}/experts")
        return
    from .commands.judging import judge_summary
    from .results.table import front_table

    typer.echo(front_table(document))
    if summary := judge_summary(plan):
        typer.echo(summary)
    if until == "run":
        typer.echo(f"report:  {place.shown}/report.html")
        typer.echo(f"exports: {place.shown}/exports")


def main() -> None:
    """Entry point: one line for each problem, and the exit status that it calls for."""
    debug = "--debug" in sys.argv
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    # Small models gain nothing from a second thread, and waiting threads would take the other processes' cores.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        import mergefront  # noqa: F401  # the guard against foreign packages of our names runs on import

        app(args=arguments, prog_name="mergefront", standalone_mode=True)
    except SystemExit as end:
        if end.code == INTERRUPTED:  # typer turns Ctrl-C into this status, without a word
            _say("interrupted; what ran is kept, the same command goes on with it")
        raise
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:  # the boundary to a person: a line instead of a traceback
        if debug:
            raise
        status = int(getattr(error, "exit_status", 1))
        for line in _lines(error, status):
            _say(line)
        sys.exit(status)


def _lines(error: Exception, status: int) -> list[str]:
    text = str(error) or type(error).__name__
    lines = text.splitlines()
    if status != 2 and getattr(error, "kept", True):
        if not isinstance(error, (RuntimeError, TimeoutError, OSError)):
            lines[0] = f"{type(error).__name__}: {lines[0]}"
        lines.append("what ran is kept; `mergefront run` on the same directory goes on with it (--debug: traceback)")
    return lines


def _say(line: str) -> Any:
    print(f"mergefront: {line}", file=sys.stderr)
