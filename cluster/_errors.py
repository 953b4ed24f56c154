"""Errors of the cluster package."""


class InputError(ValueError):
    """Input that no retry can repair; the text is one line: the rule, the value, the remedy."""

    exit_status = 2


class WorkersFailed(RuntimeError):
    """A worker group that ended before its work did; the text is one line: which worker, and why."""

    exit_status = 1
