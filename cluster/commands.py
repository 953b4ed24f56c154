"""The commands of the job service's client. Nothing but typer is imported before one of them runs."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from .client import Client

JobId = Annotated[str, typer.Argument(metavar="JOB", help="Id of a job.")]
Url = Annotated[str | None, typer.Option("--url", metavar="URL", help="The service; default: MERGEFRONT_URL.")]
AsJson = Annotated[bool, typer.Option("--json", help="For machines.")]


def submit(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="Recipe file (YAML).")],
    directory: Annotated[
        str | None, typer.Option("--directory", metavar="DIR", help="Where its paths start, on the service's disk.")
    ] = None,
    priority: Annotated[int, typer.Option("--priority", metavar="N", min=-100, max=100, help="Higher is first.")] = 0,
    key: Annotated[
        str | None, typer.Option("--key", metavar="KEY", help="Idempotency key: never a second job for the same one.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Show progress until the job has ended.")] = False,
    url: Url = None,
) -> None:
    """Submit a recipe to the job service; prints the job's id."""
    client = _client(url)
    job = client.submit(recipe, directory=directory, priority=priority, key=key)
    typer.echo(job["id"])
    if wait:
        _watch(client, job["id"])


def jobs(
    state: Annotated[str | None, typer.Option("--state", metavar="STATE", help="Only jobs in it.")] = None,
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, max=500, help="At most.")] = 20,
    as_json: AsJson = False,
    url: Url = None,
) -> None:
    """List jobs, newest first."""
    found = _client(url).jobs(state=state.upper() if state else None, limit=limit)
    if as_json:
        typer.echo(json.dumps(found, ensure_ascii=False))
        return
    typer.echo(f"{'id':<14}{'name':<22}{'owner':<14}{'state':<12}{'progress':<26}reason")
    for job in found:
        cells = f"{job['id']:<14}{job['name'][:20]:<22}{job['owner'][:12]:<14}{job['state']:<12}"
        typer.echo(f"{cells}{_progress(job):<26}{job['reason'][:80]}".rstrip())


def status(
    job: JobId,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Show progress until it has ended.")] = False,
    as_json: AsJson = False,
    url: Url = None,
) -> None:
    """Show a job: its state, progress, history and named points."""
    from .client import ServiceError

    client = _client(url)
    if follow:
        _watch(client, job)
        return
    found = client.status(job)
    if as_json:
        typer.echo(json.dumps(found, ensure_ascii=False))
        return
    typer.echo(f"{found['id']}  {found['name']}  {found['state']}  {_progress(found)}")
    if found["reason"]:
        typer.echo(found["reason"])
    for event in found["events"]:
        at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(event["at"]))
        typer.echo(f"  {at}  {event['state']:<11} {event['reason']}".rstrip())
    try:
        document = client.front(job)
    except ServiceError as error:
        if error.code != "no-front":
            raise
        return
    count = sum(point["on_front"] for point in document["points"])
    typer.echo(f"front: {count} of {len(document['points'])} points, hypervolume {document['hypervolume']:.4f}")
    for pick, point in document["picks"].items():
        typer.echo(f"  {pick}: {point}  {_scores(document, point)}")


def logs(
    job: JobId,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Until it has ended.")] = False,
    url: Url = None,
) -> None:
    """Print the log of a job."""
    for line in _client(url).logs(job, follow=follow):
        typer.echo(line)


def cancel(job: JobId, url: Url = None) -> None:
    """Cancel a job; what ran is kept."""
    found = _client(url).cancel(job)
    typer.echo(f"{found['id']}: {found['state']}")


def fetch(
    job: JobId,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Directory to make.")],
    pick: Annotated[
        str, typer.Option("--pick", metavar="PICK", help="knee, safest, best-OBJECTIVE, or '#ID'.")
    ] = "knee",
    url: Url = None,
) -> None:
    """Download the checkpoint of a point of a job's front."""
    typer.echo(_client(url).fetch(job, pick, out))


def add(app: typer.Typer) -> None:
    """Give the commands to the program."""
    for command in (submit, jobs, status, logs, cancel, fetch):
        app.command()(command)


def _client(url: str | None) -> Client:
    from .client import Client

    return Client(url)


def _watch(client: Client, job: str) -> None:
    """Progress until the job has ended: a live line in a terminal, a line for each change elsewhere.

    Raises:
        ServiceError: it did not end well.
    """
    from .client import ServiceError

    said, live = "", sys.stderr.isatty()
    for found in client.watch(job):
        line = f"{found['state']}  {_progress(found)}  {found['reason']}".rstrip()
        if line != said:
            print(f"\r\x1b[2K{line[:150]}" if live else line, end="" if live else "\n", file=sys.stderr, flush=True)
            said = line
    if live:
        print(file=sys.stderr)
    if found["state"] != "DONE":
        raise ServiceError(0, "not-done", f"job {job} is {found['state']}: {found['reason']}")


def _progress(job: dict[str, Any]) -> str:
    progress = job["progress"]
    if not progress["of"]:
        return ""
    if progress["stage"] == "experts":
        return f"experts {progress['trained']}/{progress['to_train']}"
    return f"{progress['stage']} {progress['scored']}/{progress['of']}"


def _scores(document: dict[str, Any], point: str) -> str:
    row = next(row for row in document["points"] if row["id"] == point)
    scores = ((name, row["scores"][name]) for name in document["objectives"])
    return "  ".join(f"{name} {100 * score['value']:.1f} ± {100 * score['stderr']:.1f}" for name, score in scores)
