"""Earlier searches of a run: those of `searches`, whose fronts later trainings and merges start from.

Each is a study of its own in `RUN/searches/NAME`, carried out like the run's last one up to the confirmation, so that
what is picked is picked on scores of the report split, as every pick is; `mergefront front RUN/searches/NAME` shows it.
Checkpoints and scores of unmerged models are shared with the run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from . import experts
from ._training.merges import write
from .experts import Model
from .results import export
from .results.document import front_document
from .run import fork as forking
from .run.progress import Display
from .run.rundir import Run, is_run, log, open_run
from .scoring.bench import Bench
from .scoring.objective import Grader
from .searches import SearchesFailed

FOLDER = "searches"
Compute = Callable[[Run, Sequence[Model], Sequence[Grader], Bench, Display, str], None]


def search(
    run: Run,
    model: Model,
    known: Sequence[Model],
    graders: Sequence[Grader],
    bench: Bench,
    contents: Mapping[str, str],
    display: Display,
    compute: Compute,
) -> None:
    """Carry out the search that `model` is picked from, as far as it is not done, and write the picked point.

    Args:
        run: whose `searches` has it.
        model: that is made of what it finds.
        known: all models.
        graders: of the recipe.
        bench: the actors.
        contents: name -> content address of the given models.
        display: for progress.
        compute: carries out the stages of a search in a run of its own.

    Raises:
        SearchesFailed: the front is empty, so that there is nothing to pick; or as `search.searches`.
        ScoringFailed: one of its models cannot be scored.
    """
    recipe, path = run.recipe.for_search(model.search), run.path / FOLDER / model.search
    path.parent.mkdir(exist_ok=True)
    with open_run(recipe, path, contents) as inner:
        models = experts.scored(recipe, known)
        take_over(inner, models, contents, run.path / FOLDER)
        display.line(
            f"{FOLDER}.{model.search}: {recipe.search.candidates} candidates over {', '.join(m.name for m in models)}"
        )
        compute(inner, models, graders, bench, display, "run")
        document = front_document(recipe, inner.store, inner.path)
        point = document["picks"].get(model.pick)
        if point is None:
            raise SearchesFailed(f"{FOLDER}.{model.search}: its front is empty, so there is no {model.pick}")
        merge, references = export.recipe_of(inner, models, point)
        display.line(f"  {model.name}: {model.pick} = {point}")
        write(run, model, merge, references, {"search": model.search, "pick": model.pick, "point": point})
    log(run, "picked", name=model.name, search=model.search, pick=model.pick, point=point)


def take_over(run: Run, models: Sequence[Model], contents: Mapping[str, str], folder: Path) -> None:
    """Scores of unmerged models that other searches of the run have found."""
    for other in sorted(folder.glob("*")):
        if is_run(other) and other.resolve() != run.path.resolve():
            forking.fork(run, models, contents, other, merges=False)
