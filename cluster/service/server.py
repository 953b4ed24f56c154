"""The process: its lock, its database, its first token, uvicorn."""

from __future__ import annotations

import fcntl
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version

import sqlalchemy as sa

from .._errors import InputError
from . import head, tokens
from .database import claim, open_database
from .domain import Domain, Permits
from .guard import LOOPBACK
from .logbook import open_log
from .settings import Settings

DRAIN_S = 5


def serve(settings: Settings, permits: Permits, domain: Domain) -> None:
    """Serve until a signal; jobs go on without the service, and the next one finds them.

    Raises:
        InputError: bad settings, a port or a state directory in use, a database that cannot be opened.
    """
    _refuse(settings)
    try:
        import uvicorn

        from .app import create_app
    except ImportError as error:
        raise InputError(f"serve: {error.name} is not installed; pip install 'mergefront[service]'") from None
    settings.state.mkdir(parents=True, exist_ok=True)
    with _alone(settings), _listening(settings) as listener:
        engine = open_database(settings.url)
        held = claim(engine)
        open_log(settings.state)
        _announce(settings, engine, listener.getsockname()[1])
        app = create_app(settings, permits, engine, domain, version("mergefront"))
        config = uvicorn.Config(
            app,
            access_log=False,
            log_config=None,
            timeout_graceful_shutdown=DRAIN_S,
            server_header=False,
            h11_max_incomplete_event_size=32 * 1024,
        )
        try:
            uvicorn.Server(config).run(sockets=[listener])
        finally:
            if held is not None:
                held.invalidate()  # closed and not pooled: the lock ends with the connection


def stop_cluster(settings: Settings) -> bool:
    """End the cluster that a service of this state directory started, and what runs on it; whether there was one.

    Raises:
        InputError: a service is running there.
    """
    if not settings.state.is_dir():
        raise InputError(f"--state: {settings.state}: there is no such directory; name that of the service")
    with _alone(settings):
        found = head.known(settings.state)
        if found is None or not found.runs():
            return False
        head.stop(found)
        return True


def _refuse(settings: Settings) -> None:
    if not settings.auth and settings.host not in LOOPBACK:
        raise InputError(
            f"--no-auth: whoever reaches {settings.host} could run jobs; listen on 127.0.0.1, or keep tokens on"
        )
    if settings.cluster != "local" and not settings.cluster.startswith(("http://", "https://")):
        raise InputError(
            f"--cluster: must be local or the URL of a Ray dashboard such as http://head:8265, got {settings.cluster!r}"
        )


@contextmanager
def _alone(settings: Settings) -> Iterator[None]:
    """Hold the state directory: two supervisors would start every job twice. The lock dies with the process."""
    with (settings.state / ".lock").open("a+") as guard:
        try:
            fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            guard.seek(0)
            pid = guard.read().strip() or "unknown"
            said = f"--state: {settings.state}: another service works there (pid {pid}); stop it, or name another"
            raise InputError(said) from None
        guard.seek(0)
        guard.truncate()
        guard.write(str(os.getpid()))
        guard.flush()
        yield


@contextmanager
def _listening(settings: Settings) -> Iterator[socket.socket]:
    """The port, taken before anything is written."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((settings.host, settings.port))
        except (OSError, OverflowError) as error:
            cause = getattr(error, "strerror", None) or str(error)
            said = f"--port: {settings.host}:{settings.port}: {cause}; name another, or stop what listens there"
            raise InputError(said) from None
        listener.listen(1024)
        yield listener


def _announce(settings: Settings, engine: sa.Engine, port: int) -> None:
    """Where it is, and, once, a token: only its hash is kept."""
    url = f"http://{settings.host}:{port}"
    lines = [f"mergefront listens on {url}"]
    if not settings.auth:
        lines.append("tokens are off: every program of this machine may submit and cancel jobs")
    elif not tokens.listed(engine):
        _, token = tokens.add_token(engine, "operator", ("admin",))
        lines += ["the operator's token, shown this once:", f"  export MERGEFRONT_URL={url} MERGEFRONT_TOKEN={token}"]
        lines += ["the page:", f"  {url}/#token={token}"]
    print("\n".join(lines), file=sys.stderr, flush=True)
