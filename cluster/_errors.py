"""Errors of the cluster package."""


class InputError(ValueError):
    """Input that no retry can repair; the text is one line: the rule, the value, the remedy."""

    exit_status = 2


class WorkersFailed(RuntimeError):
    """A worker group that ended before its work did; the text is one line: which worker, and why."""

    exit_status = 1


def one_line(error: BaseException) -> str:
    """Type and first line of an exception, without Ray's wrappers around it; of `WorkersFailed` its line as it is."""
    while isinstance(cause := getattr(error, "cause", None), BaseException):
        error = cause
    lines = str(error).strip().splitlines()
    if isinstance(error, WorkersFailed) and lines:
        return lines[0]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
