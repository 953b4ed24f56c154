"""How judging ends without a verdict: by the candidate's fault or by nobody's. Neither is ever turned into a score."""

from __future__ import annotations


class Unjudged(RuntimeError):
    """This answer gets no verdict, whoever asks again: its candidate is FAILED with this text as the reason."""


class Unavailable(RuntimeError):
    """Judging is out of reach for now: an endpoint that is down, a key that it refuses, a limit of money that is met.

    No candidate is at fault, so a search stops on it and leaves its candidates to the next `mergefront run`.
    """
