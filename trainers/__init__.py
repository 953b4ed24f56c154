"""Trainers: data and a base model in, an expert out. A file without underscore is one that a recipe can name.

Part of mergefront.
"""

from ._errors import InputError, TrainingError
from ._schema import Report, Trainer, load_trainer, trainer_names
from ._types import Source, TrainSpec, check_spec, spec_from_dict

__all__ = [
    "InputError",
    "Report",
    "Source",
    "TrainSpec",
    "Trainer",
    "TrainingError",
    "check_spec",
    "load_trainer",
    "spec_from_dict",
    "trainer_names",
]
