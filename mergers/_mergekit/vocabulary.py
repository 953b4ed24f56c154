"""mergekit's words and ours: methods, their parameters, and what plays the base in each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from .._schema import Method, Parameter

_TASK_VECTORS = ("weight", "density", "normalize", "rescale", "lambda", "int8_mask")

METHODS: Mapping[str, tuple[str, ...]] = {
    "arcee_fusion": (),
    "breadcrumbs": (*_TASK_VECTORS, "gamma"),
    "breadcrumbs_ties": (*_TASK_VECTORS, "gamma"),
    "dare_linear": _TASK_VECTORS,
    "dare_ties": _TASK_VECTORS,
    "della": (*_TASK_VECTORS, "epsilon"),
    "della_linear": (*_TASK_VECTORS, "epsilon"),
    "karcher": ("max_iter", "tol"),
    "linear": ("weight", "normalize"),
    "model_stock": ("filter_wise",),
    "multislerp": ("weight", "normalize_weights", "eps"),
    "nearswap": ("t",),
    "nuslerp": ("weight", "nuslerp_flatten", "nuslerp_row_wise"),
    "passthrough": ("scale",),
    "ram": ("epsilon",),
    "ramplus_tl": ("epsilon", "r", "alpha"),
    "sce": ("select_topk", "int8_mask"),
    "slerp": ("t",),
    "task_arithmetic": _TASK_VECTORS,
    "ties": _TASK_VECTORS,
}
"""mergekit 0.1.5: method -> its parameters. Ours of the same name follow the same convention."""

_WORDS = {word for words in METHODS.values() for word in words}
_IDLE = {"task_arithmetic": ("density", "rescale")}  # mergekit accepts them there, and they change nothing


def word(parameter: Parameter) -> str:
    """Mergekit's name of our parameter: `lambda` for `lambda_`."""
    return parameter.name.rstrip("_")


def words(method: Method) -> dict[str, Parameter]:
    """What a file may set for `method`, by mergekit's names."""
    return {word(parameter): parameter for parameter in method.parameters if parameter.name != "task_vectors"}


def without_effect(method: Method, key: str) -> bool:
    """Whether mergekit accepts parameter `key` for this method and its result does not depend on it.

    mergekit ignores every parameter that a method does not know; we do so only for those that another method has, as
    files carry them along. A misspelt one is refused.
    """
    if key == "int8_mask" or key in _IDLE.get(method.name, ()):
        return True
    return key in _WORDS and key not in METHODS.get(method.name, ())


def base_role(method: Method) -> Literal["required", "optional", "first", "none"]:
    """What base_model is to `method`: the base, the base if it is named, the first of two, or one more input."""
    if method.name == "slerp":
        return "first"
    if method.needs_base:
        return "required"
    return "optional" if method.optional_base else "none"


def beside_model(method: Method, parameter: Parameter) -> bool:
    """Whether mergekit takes `parameter` beside a model: passthrough's scale too, though there is only one model."""
    return parameter.per_expert or (method.name, parameter.name) == ("passthrough", "scale")
