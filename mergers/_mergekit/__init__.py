"""mergekit's YAML, both ways: its files as blueprints of ours, a merge of ours as a file that mergekit 0.1.5 runs.

Imports no torch until a method is looked up.
"""

from .documents import NamedBlueprint, read_merges
from .headers import Headers
from .vocabulary import METHODS
from .writing import mergekit_text, to_mergekit

__all__ = [
    "METHODS",
    "Headers",
    "NamedBlueprint",
    "mergekit_text",
    "read_merges",
    "to_mergekit",
]
