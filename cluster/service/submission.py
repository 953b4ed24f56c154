"""The body of a submission, and what can be refused about it without reading it as a recipe."""

from __future__ import annotations

from fastapi import Request

from .domain import Plan
from .problems import ApiProblem

TYPES = ("application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml", "text/plain")


def accepted_type(request: Request) -> None:
    """Refuse what says that it is not YAML; a browser's form, for one, is then never taken for a recipe.

    Raises:
        ApiProblem: 415.
    """
    given = request.headers.get("content-type", "")
    if given.split(";")[0].strip().lower() not in TYPES:
        said = f"Content-Type: must be application/yaml, got {given[:60]!r}"
        raise ApiProblem(415, "not-yaml", said, headers={"Accept": TYPES[0]})


async def read_limited(request: Request, most: int) -> bytes:
    """The body, given up as soon as it is too large, whatever its header promised.

    Raises:
        ApiProblem: 413 above `most` bytes, 400 if it is empty.
    """
    said = f"a recipe has at most {most} bytes; it names data, it does not hold it"
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared[:20]) > most:
        raise ApiProblem(413, "too-large", said, headers={"Connection": "close"})
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > most:
            raise ApiProblem(413, "too-large", said, headers={"Connection": "close"})
        parts.append(part)
    if not size:
        raise ApiProblem(400, "empty", "the body must be a recipe (YAML); it is empty")
    return b"".join(parts)


def refused_for_size(plan: Plan, total: tuple[float, float] | None) -> None:
    """Refuse what the cluster can never run: it would wait for ever, and hold back everybody behind it.

    Raises:
        ApiProblem: 422.
    """
    if total is None:
        return
    short = [
        f"{needed:g} {kind} (it has {present:g})"
        for kind, needed, present in (("CPUs", plan.cpus, total[0]), ("GPUs", plan.gpus, total[1]))
        if needed > present + 1e-9
    ]
    if short:
        said = f"cluster: this cluster can never give {' and '.join(short)}; ask for less, or start the service with"
        raise ApiProblem(422, "too-big", f"{said} --elastic where nodes are added on demand")
