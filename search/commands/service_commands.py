"""`mergefront serve` and `mergefront token`: the operator's side of the job service."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

token = typer.Typer(no_args_is_help=True, help="Make, list and revoke tokens of a job service.")
State = Annotated[Path, typer.Option("--state", metavar="DIR", help="The service's directory: database, jobs, runs.")]
Database = Annotated[
    str, typer.Option("--database", metavar="URL", help="postgresql://USER@HOST/DATABASE; default: SQLite in --state.")
]
DEFAULT = Path("runs/service")


def serve(
    port: Annotated[int, typer.Option("--port", metavar="N", min=0, max=65535, help="Port; 0 = any free one.")] = 8460,
    host: Annotated[str, typer.Option("--host", metavar="HOST", help="Address to listen on.")] = "127.0.0.1",
    state: State = DEFAULT,
    database: Database = "",
    cluster: Annotated[
        str, typer.Option("--cluster", metavar="local|URL", help="local, or the URL of a Ray cluster's dashboard.")
    ] = "local",
    cpus: Annotated[
        int | None, typer.Option("--cpus", metavar="N", min=1, help="CPUs that a local cluster offers; default: all.")
    ] = None,
    elastic: Annotated[bool, typer.Option("--elastic", help="The cluster grows on demand.")] = False,
    running: Annotated[int, typer.Option("--running", metavar="N", min=1, help="Jobs at the same time.")] = 100,
    attempts: Annotated[int, typer.Option("--attempts", metavar="N", min=1, help="Starts of one job, at most.")] = 4,
    allow: Annotated[
        list[str] | None,
        typer.Option("--allow", metavar="DIR|URL", help="Recipes may name what lies below; may be repeated."),
    ] = None,
    allow_code: Annotated[
        bool, typer.Option("--allow-code", help="Recipes may name code (package.module:function): trust who submits.")
    ] = False,
    no_auth: Annotated[bool, typer.Option("--no-auth", help="No tokens; on loopback only.")] = False,
    name: Annotated[
        list[str] | None, typer.Option("--name", metavar="HOST", help="With --no-auth: it is also addressed as this.")
    ] = None,
    stop_cluster: Annotated[
        bool, typer.Option("--stop-cluster", help="End the local cluster of a stopped service, and its jobs.")
    ] = False,
) -> None:
    """Run the job service and its web page; started again, it finds its jobs."""
    from cluster.service import server
    from cluster.service.domain import Permits
    from cluster.service.settings import Limits, Settings
    from search.errors import Problem, UserError

    settings = Settings(
        state=state.absolute(),
        host=host,
        port=port,
        database=database,
        cluster=cluster,
        cpus=cpus,
        elastic=elastic,
        running=running,
        auth=not no_auth,
        names=tuple(name or ()),
        limits=Limits(attempts=attempts),
    )
    if stop_cluster:
        typer.echo("ended" if server.stop_cluster(settings) else "no cluster of this service runs")
        return
    allowed = []
    for place in allow or ():
        if "://" not in place and not Path(place).is_dir():
            raise UserError(Problem("", None, "--allow", "there is no such directory", place, "make it first"))
        allowed.append(place if "://" in place else str(Path(place).resolve()))
    from .service import DOMAIN

    server.serve(settings, Permits(tuple(allowed), allow_code), DOMAIN)


@token.command("add")
def token_add(
    owner: Annotated[str, typer.Argument(metavar="OWNER", help="Whose jobs it sees.")],
    scope: Annotated[
        list[str], typer.Option("--scope", metavar="SCOPE", help="read, submit, metrics, admin; may be repeated.")
    ],
    days: Annotated[float | None, typer.Option("--days", metavar="N", help="Until it expires; default: never.")] = None,
    state: State = DEFAULT,
    database: Database = "",
) -> None:
    """Make a token; it is printed once and kept nowhere."""
    from cluster.service import tokens

    _, made = tokens.add_token(_engine(state, database), owner, scope, days)
    typer.echo(made)


@token.command("list")
def token_list(state: State = DEFAULT, database: Database = "") -> None:
    """List tokens without their text."""
    from cluster.service import tokens

    rows = tokens.listed(_engine(state, database))
    typer.echo(f"{'id':<10}{'owner':<20}{'scopes':<24}expires")
    for row in rows:
        until = "revoked" if row.revoked else "never" if row.expires is None else _day(row.expires)
        typer.echo(f"{row.id:<10}{row.owner:<20}{row.scopes:<24}{until}")


@token.command("revoke")
def token_revoke(
    which: Annotated[str, typer.Argument(metavar="ID", help="Of `mergefront token list`.")],
    state: State = DEFAULT,
    database: Database = "",
) -> None:
    """End a token; the service notices within a second."""
    from cluster.service import tokens

    tokens.revoke(_engine(state, database), which)


def _engine(state: Path, database: str):  # type: ignore[no-untyped-def]  # SQLAlchemy is not loaded for a signature
    from cluster.service.database import open_database
    from cluster.service.settings import Settings
    from search.errors import Problem, UserError

    if not (database or (state / "service.db").is_file()):
        rule, remedy = "there is no service in this directory", "start `mergefront serve`, or name its --state"
        raise UserError(Problem("", None, "--state", rule, str(state), remedy))
    return open_database(Settings(state.absolute(), database=database).url)


def _day(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at))
