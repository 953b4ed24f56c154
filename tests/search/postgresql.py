"""A PostgreSQL server of the tests' own: in a temporary folder, on a free port, as a user without privileges."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path


def binaries() -> Path | None:
    """Where Debian or the PATH has the server's programs; None where there are none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb")) or [Path(shutil.which("initdb") or "/none")]
    return found[-1].resolve().parent if found[-1].exists() else None


def unavailable() -> str:
    """Why no server can be started here; "" if one can."""
    if binaries() is None:
        return "PostgreSQL is not installed (Debian: apt-get install postgresql)"
    try:
        import psycopg  # noqa: F401
    except ImportError:
        return "psycopg is not installed (pip install 'mergefront[postgresql]')"
    return "" if _user() else "PostgreSQL refuses to run as root, and there is no user postgres or nobody"


@dataclass(frozen=True)
class Server:
    """A cluster in `folder` that listens on `port` of this machine alone."""

    folder: Path
    port: int

    @property
    def url(self) -> str:
        """Of its one database."""
        return f"postgresql://tester@127.0.0.1:{self.port}/postgres"

    def control(self, *arguments: str) -> None:
        """Run pg_ctl and wait for it."""
        settings = f"-p {self.port} -k {self.folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        command = ["pg_ctl", "-D", f"{self.folder}/data", "-l", f"{self.folder}/log", "-o", settings, "-w", "-t", "60"]
        _call([*command, *arguments])


def start() -> Server:
    """A running server."""
    folder = Path(tempfile.mkdtemp(prefix="mergefront-postgresql-"))
    if os.geteuid() == 0:
        user = _user()
        assert user is not None, unavailable()
        shutil.chown(folder, user)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    _call(["initdb", "-D", f"{folder}/data", "-U", "tester", "-A", "trust", "-N", "--locale=C", "-E", "UTF8"])
    server = Server(folder, port)
    server.control("start")
    return server


def stop(server: Server) -> None:
    """End the server and remove what it wrote."""
    try:
        server.control("stop", "-m", "immediate")
    except subprocess.CalledProcessError:
        pass  # a test has stopped it already
    finally:
        shutil.rmtree(server.folder, ignore_errors=True)


def _user() -> str | None:
    if os.geteuid() != 0:
        return pwd.getpwuid(os.geteuid()).pw_name
    names = {entry.pw_name for entry in pwd.getpwall()}
    return next((name for name in ("postgres", "nobody") if name in names), None)


def _call(command: list[str]) -> None:
    folder = binaries()
    assert folder is not None
    user = _user() if os.geteuid() == 0 else None
    subprocess.run(
        [str(folder / command[0]), *command[1:]],
        check=True,
        timeout=120,
        user=user,
        cwd="/",
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C"},
    )
