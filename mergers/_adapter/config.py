"""`adapter_config.json`: which of PEFT's settings change the weights, and the refusal of those that we cannot do.

PEFT has some fifty settings and gains some with every release. A setting that is neither known to be harmless nor
supported is refused: an adapter read wrongly looks like a bad expert, not like an error.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .._errors import InputError

CONFIG = "adapter_config.json"

_HARMLESS = frozenset(
    (
        "alpha_pattern",
        "auto_mapping",
        "base_model_name_or_path",
        "bias",
        "corda_config",
        "ensure_weight_tying",
        "eva_config",
        "exclude_modules",
        "fan_in_fan_out",
        "inference_mode",
        "init_lora_weights",
        "layers_pattern",
        "layers_to_transform",
        "loftq_config",
        "lora_alpha",
        "lora_dropout",
        "lora_ga_config",
        "megatron_core",
        "modules_to_save",
        "peft_type",
        "peft_version",
        "qalora_group_size",
        "r",
        "rank_pattern",
        "revision",
        "runtime_config",
        "target_modules",
        "task_type",
        "trainable_token_indices",
        "use_dora",
        "use_rslora",
    )
)
"""Settings that say how it was trained or where, or that are read below; all others must be off."""

_STARTS = (None, True, False, "gaussian", "eva", "orthogonal", "mica")
"""Values of `init_lora_weights` that leave the base as it is; PiSSA, OLoRA, CorDA, LoftQ and LoRA-GA change it."""


@dataclass(frozen=True)
class Config:
    """What of an adapter's configuration its weights depend on.

    Attributes:
        rank: default of `ranks`.
        alpha: default of `alphas`.
        ranks: pattern of module names -> rank.
        alphas: pattern of module names -> alpha.
        root: whether the scaling is alpha / sqrt(rank) (rsLoRA).
        transposed: `fan_in_fan_out`.
        dora: whether every factor pair has a magnitude.
        tokens: rows trained, by the end of the embedding's module name; under "" if only a list is given.
        base_name: None if not given.
        task_type: None if not given.
    """

    rank: int
    alpha: float
    ranks: Mapping[str, int]
    alphas: Mapping[str, float]
    root: bool
    transposed: bool
    dora: bool
    tokens: Mapping[str, tuple[int, ...]]
    base_name: str | None
    task_type: str | None

    def scaling(self, module: str) -> tuple[int, float]:
        """Rank and scaling of `module`; the first pattern that matches the end of its name wins, as in PEFT."""
        rank = self.ranks.get(_pattern(self.ranks, module), self.rank)
        alpha = self.alphas.get(_pattern(self.alphas, module), self.alpha)
        return rank, alpha / math.sqrt(rank) if self.root else alpha / rank

    def token_rows(self, module: str) -> tuple[int, ...] | None:
        """Trained rows of the embedding `module`, None if the configuration names none."""
        matches = (rows for end, rows in self.tokens.items() if not end or f".{module}".endswith(f".{end}"))
        return next(matches, None)


def read_config(folder: Path) -> Config:
    """Read and check the adapter configuration in `folder`.

    Raises:
        InputError: it is missing or not JSON, the adapter is not LoRA, or a setting is used that cannot be merged
            exactly; names the setting.
    """
    file = folder / CONFIG
    try:
        fields = json.loads(file.read_bytes())
    except FileNotFoundError as error:
        raise InputError(f"{folder} holds no {CONFIG}; give a directory that PEFT's save_pretrained wrote") from error
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {file}: {error}; copy it again") from error
    if not isinstance(fields, dict):
        raise InputError(f"{file} is not a JSON object; copy it again")
    _check(folder, fields)
    tokens = fields.get("trainable_token_indices") or {}
    try:
        config = Config(
            rank=int(fields["r"]),
            alpha=float(fields["lora_alpha"]),
            ranks={pattern: int(rank) for pattern, rank in (fields.get("rank_pattern") or {}).items()},
            alphas={pattern: float(alpha) for pattern, alpha in (fields.get("alpha_pattern") or {}).items()},
            root=bool(fields.get("use_rslora")),
            transposed=bool(fields.get("fan_in_fan_out")),
            dora=bool(fields.get("use_dora")),
            tokens={
                end: tuple(int(row) for row in rows)
                for end, rows in (tokens.items() if isinstance(tokens, dict) else [("", tokens)])
            },
            base_name=fields.get("base_model_name_or_path") or None,
            task_type=fields.get("task_type") or None,
        )
        for pattern in (*config.ranks, *config.alphas):
            re.compile(pattern)
    except (KeyError, TypeError, ValueError, AttributeError, re.error) as error:
        raise InputError(f"{file} has an unreadable value ({error!r}); save the adapter again") from error
    if min((config.rank, *config.ranks.values())) < 1:
        raise InputError(f"{file}: every rank must be at least 1, got {config.rank} and {dict(config.ranks)}")
    return config


def _check(folder: Path, fields: Mapping[str, object]) -> None:
    kind = fields.get("peft_type")
    if kind != "LORA":
        raise InputError(
            f"{folder} holds an adapter with peft_type {kind}; only LORA can be merged, so save full models"
        )
    start = fields.get("init_lora_weights")
    if start not in _STARTS:
        raise InputError(
            f"{folder} has init_lora_weights '{start}', which changed the base while training; save it as plain LoRA "
            "(save_pretrained with path_initial_model_for_weight_conversion)"
        )
    for key, value in fields.items():
        if value and key not in _HARMLESS:
            raise InputError(
                f"{folder} sets {key}, which cannot be merged exactly; merge the adapter into its base with PEFT, "
                f"or remove the key from {CONFIG} if it does not change the weights"
            )


def _pattern(patterns: Mapping[str, object], module: str) -> str:
    return next((pattern for pattern in patterns if re.match(rf"(.*\.)?({pattern})$", module)), module)
