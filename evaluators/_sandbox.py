"""Programs that a model wrote, run where they can do little: no network, no files to write, no processes, limits.

A process of its own under a seccomp filter (Linux, x86-64 or arm64; needs no rights). It keeps a model's mistakes from
doing harm; it is no wall against an attacker, for whom there are containers. A program may read files; what it prints
goes nowhere.
"""

from __future__ import annotations

import secrets
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ._errors import InputError

RUNNER = Path(__file__).with_name("_sandboxed.py")
WAIT = 4
"""Seconds of waiting for each second of CPU: the limit that decides is the one that a busy machine does not move."""
START_S = 5.0
UNUSABLE = 97  # what the other side ends with where it cannot limit itself


@dataclass(frozen=True)
class Limits:
    """Of one program.

    Attributes:
        seconds: of CPU time.
        memory: bytes of address space, the interpreter's included.
    """

    seconds: int
    memory: int


def passes(program: str, limits: Limits) -> bool:
    """Whether a Python program runs to its end: no exception, no early exit, no limit reached.

    Raises:
        RuntimeError: the sandbox itself cannot be set up; says why.
    """
    token = secrets.token_hex(16)
    text = f"{token} {limits.seconds} {limits.memory}\n{program}"
    command = [sys.executable, "-I", "-S", "-B", str(RUNNER)]
    with tempfile.TemporaryDirectory(prefix="mergefront-") as folder:
        try:
            done = subprocess.run(
                command,
                input=text.encode("utf-8", "surrogatepass"),
                capture_output=True,
                cwd=folder,
                env={"PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"},
                timeout=START_S + WAIT * limits.seconds,
                check=False,
                close_fds=True,
            )
        except subprocess.TimeoutExpired:
            return False
    if done.returncode == UNUSABLE:
        said = done.stdout.decode(errors="replace").strip()
        raise RuntimeError(f"programs cannot be run safely on this machine: {said}")
    # An early exit looks like success to the shell; only a program that came to its end is followed by the token.
    return done.returncode == 0 and done.stdout == token.encode()


def pass_all(programs: Sequence[str], limits: Limits, workers: int) -> list[bool]:
    """`passes` of many programs, `workers` at a time, in order."""
    with ThreadPoolExecutor(max_workers=max(1, workers)) as pool:
        return list(pool.map(lambda program: passes(program, limits), programs))


@lru_cache(maxsize=1)
def check_sandbox() -> None:
    """Refuse machines without the means.

    Raises:
        InputError: not Linux, or the filter cannot be installed.
    """
    try:
        usable = passes("", Limits(10, 1 << 30))
    except (RuntimeError, OSError) as error:
        raise InputError(f"code_pass_at_k: {error}") from None
    if not usable:
        raise InputError("code_pass_at_k: the empty program does not run in the sandbox on this machine")
