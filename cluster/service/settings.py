"""What an operator decides when the service starts, as one frozen value."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

PORT = 8460
MEBI = 2**20


@dataclass(frozen=True)
class Limits:
    """Sizes and times that no request and no job exceeds.

    Attributes:
        recipe_bytes: of an uploaded recipe.
        open_jobs: jobs of one owner that have not ended.
        check_s: seconds in which a recipe must be checked.
        streams: log streams open at the same time, over all clients.
        attempts: how often a job is started, the first time included.
        pause_s: seconds before the second attempt; doubled for each further one.
        cluster_s: seconds in which a cluster must answer once it was started.
        shrunk_s: seconds that a job larger than the whole cluster waits for nodes that may come back.
    """

    recipe_bytes: int = MEBI
    open_jobs: int = 100
    check_s: float = 120.0
    streams: int = 1000
    attempts: int = 4
    pause_s: float = 5.0
    cluster_s: float = 300.0
    shrunk_s: float = 600.0


@dataclass(frozen=True)
class Settings:
    """How the service runs.

    Attributes:
        state: directory of everything that it keeps; job J has `state/jobs/J`.
        host, port: where it listens.
        database: SQLAlchemy URL; "" = `state/service.db`.
        cluster: `local` starts a Ray cluster of this machine that outlives the service; else the URL of the dashboard
            of a running one (`http://head:8265`).
        cpus: that a cluster started here offers; all by default.
        elastic: the cluster grows on demand, so what it offers now limits nothing.
        running: jobs at the same time, at most.
        auth: whether requests need a token.
        names: host names beside `host` and loopback that requests may be addressed to.
        limits: sizes and times.
    """

    state: Path
    host: str = "127.0.0.1"
    port: int = PORT
    database: str = ""
    cluster: str = "local"
    cpus: int | None = None
    elastic: bool = False
    running: int = 100
    auth: bool = True
    names: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)

    @property
    def url(self) -> str:
        """The database as SQLAlchemy takes it."""
        if not self.database:
            return f"sqlite:///{self.state / 'service.db'}"
        return self.database.replace("postgresql://", "postgresql+psycopg://", 1)

    def job(self, job: str) -> Path:
        """The directory of a job: its recipe, log, run and exports."""
        return self.state / "jobs" / job
