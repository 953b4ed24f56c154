"""Which mixture to train on: group DRO over the sources, as Re-Mix does it. The result is a mixture, not a model."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from ._built import Built, Fitted
from ._errors import InputError
from ._mixture import MIXTURE
from ._run import fit, started, with_options
from ._schema import Report
from ._types import DEFAULT, Choice, Columns, Placement, Range, TrainSpec

if TYPE_CHECKING:
    from ._workplace import Workplace

COLUMNS = Columns((("prompt", "response"), ("messages",)))


def remix(
    spec: TrainSpec,
    *,
    out: str,
    work: str,
    report: Report,
    placement: Placement = DEFAULT,
    threads: int | None = None,
    domains: Annotated[str, Choice(("source", "language"))] = "source",
    eta: Annotated[float, Range(0, 100, open_low=True)] = 0.2,
    smoothing: Annotated[float, Range(0, 1)] = 0.05,
    reference_steps: Annotated[int, Range(0, 10**9)] = 0,
) -> None:
    """Learn a mixture: give weight to domains that a proxy still learns less well than a reference does.

    First a reference is trained on `spec.sources` as ``sft`` would, then a proxy from the same start on the same
    samples. At every step the excess of each sample, its loss (nats for each trained token) under the proxy less that
    under the reference, moves the domains' weights alpha (``_dro``), and the proxy steps on the sum over domains of
    alpha times the mean excess. The running mean of alpha is the result (Hejna et al. 2024, arXiv 2408.14037, whose
    values for many robots' data sets are the defaults).

    `out` receives ``mixture.json`` (see ``_mixture``) and ``training.json``; both models are thrown away. Steps are
    counted through: those of the reference, then those of the proxy.

    Args:
        spec: what to train; the probabilities of its sources are the prior, its `steps` are the proxy's.
        out: see ``trainers.sft``.
        work: see ``trainers.sft``.
        report: see ``trainers.sft``; the proxy's loss is excess.
        placement: see ``trainers.sft``.
        threads: see ``trainers.sft``.
        domains: whether a domain is a source, or what a source has in one language.
        eta: step size of the weights.
        smoothing: share of the prior that is mixed into the weights at every step.
        reference_steps: of the reference; 0 takes as many as the proxy.

    Raises:
        InputError: see ``trainers.sft``; fewer than two domains; LoRA.
        TrainingError: see ``trainers.sft``.
    """
    spec = with_options(
        spec, domains=domains, eta=eta, smoothing=smoothing, reference_steps=reference_steps or spec.steps
    )
    if spec.lora is not None:
        raise InputError("remix learns a mixture and keeps no model; leave lora out")
    with started(spec, placement, out, work, threads) as at:
        if at is None:
            return
        from ._checkpoint import RECORD, atomic_directory
        from ._deepspeed import forget
        from ._mixture import learnt
        from ._record import joined, record

        first = _reference(at, placement, report)
        forget()  # the second engine of one process
        fitted = _proxy(at, report, first)
        made = record("remix", spec, placement, fitted, at.workers)
        if at.rank != 0:
            return
        with atomic_directory(Path(out)) as temporary:
            (temporary / MIXTURE).write_text(json.dumps(learnt(spec, fitted.built.trainer), indent=1) + "\n")
            (temporary / RECORD).write_text(json.dumps(joined(first, made), indent=1) + "\n")


def _reference(at: Workplace, placement: Placement, report: Report) -> dict[str, Any]:
    """Train the reference into ``reference/model`` under the work directory, unless it is there; its record."""
    from ._checkpoint import RECORD, is_complete
    from ._deepspeed import barrier
    from ._record import record
    from ._save import save
    from .sft import build

    steps = int(dict(at.spec.options)["reference_steps"])
    alone = replace(at, spec=replace(at.spec, steps=steps, options=()), work=at.work / "reference" / "work")
    model = at.work / "reference" / "model"
    if not is_complete(model):
        fitted = fit(alone, build, report, after=at.spec.steps)
        made = record("remix", alone.spec, placement, fitted, at.workers)
        save(alone, at.spec.base, fitted.built.trainer, fitted.built.trainer.processing_class, model, made)
        barrier()
    found: dict[str, Any] = json.loads((model / RECORD).read_text(encoding="utf-8"))
    return found


def _proxy(at: Workplace, report: Report, first: dict[str, Any]) -> Fitted:
    from ._costs import Costs

    alone = replace(at, work=at.work / "proxy")
    costs = Costs(before={key: first[key] for key in ("seconds", "cpu_seconds", "gpu_seconds")})
    return fit(alone, partial(_build, at.work / "reference" / "model"), report, before=first["steps"], costs=costs)


def _build(reference: Path, at: Workplace) -> Built:
    import torch
    from transformers import AutoModelForCausalLM
    from trl import SFTConfig

    from ._data import mixture
    from ._encode import completions
    from ._mixture import domains_of
    from ._proxy import proxy_trainer
    from ._tally import CompletionCollator
    from ._workplace import pad_token

    options: dict[str, Any] = dict(at.spec.options)
    arguments = SFTConfig(
        **at.arguments(),
        max_length=at.spec.max_length,
        shuffle_dataset=False,
        dataset_kwargs={"skip_prepare_dataset": True},
        completion_only_loss=True,
    )
    tokenizer = at.tokenizer()
    rows, groups, sizes = mixture(at.spec, COLUMNS)
    domains = domains_of(at.spec, groups, sizes, options["domains"])
    trainer = proxy_trainer()(
        model=at.model(),
        args=arguments,
        train_dataset=rows.with_transform(completions(tokenizer, at.spec.max_length)),
        data_collator=CompletionCollator(pad_token(tokenizer), len(groups), with_groups=True),
        processing_class=tokenizer,
    )
    trainer.attend(
        AutoModelForCausalLM.from_pretrained(reference, dtype=getattr(torch, at.spec.dtype)),
        domains,
        eta=options["eta"],
        smoothing=options["smoothing"],
    )
    return Built(trainer, groups, more_forward=2.0)
