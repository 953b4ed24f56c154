"""Errors of the trainers."""


class InputError(ValueError):
    """Input that no retry can repair; the text is one line: the rule, the value, the remedy."""

    exit_status = 2


class TrainingError(RuntimeError):
    """A training that ran and went wrong (a loss that is not finite); the text is one line."""

    exit_status = 1
