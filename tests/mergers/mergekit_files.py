"""Merge files in the words of mergekit's documentation, over three tiny models: base, one and two."""

from __future__ import annotations

from pathlib import Path

from .mergekit_runs import LAYERS

FILES = {
    "linear": """
        models:
          - model: one
            parameters: {weight: 1.0}
          - model: two
            parameters: {weight: 0.3}
          - model: base
            parameters: {weight: 0.5}
        merge_method: linear
        """,
    "gradient-slerp": f"""
        slices:
          - sources:
              - model: one
                layer_range: [0, {LAYERS}]
              - model: two
                layer_range: [0, {LAYERS}]
        merge_method: slerp
        base_model: one
        parameters:
          t:
            - filter: self_attn
              value: [0, 0.5, 0.3, 0.7, 1]
            - filter: mlp
              value: [1, 0.5, 0.7, 0.3, 0]
            - value: 0.5 # fallback for rest of tensors
        """,
    "ties": """
        models:
          - model: one
            parameters:
              density: [1, 0.7, 0.1] # density gradient
              weight: 1.0
          - model: two
            parameters:
              density: 0.33
              weight:
                - filter: mlp
                  value: 0.5
                - value: 0
        merge_method: ties
        base_model: base
        parameters:
          normalize: true
          int8_mask: true
        """,
    "bio-merge": """
        models:
          - model: one
            parameters: {density: 0.5, weight: 0.5}
          - model: two
            parameters: {density: 0.5, weight: 0.5}
        merge_method: ties
        base_model: base
        parameters: {normalize: false, int8_mask: true}
        """,
    "dare_ties with filters": """
        models:
          - model: base # no parameters necessary for base model
          - model: one
            parameters:
              density: 1
              weight:
                - {filter: self_attn, value: 0.4}
                - {filter: mlp, value: [0.1, 0.9]}
                - {value: 0.25}
          - model: two
            parameters: {density: 1, weight: 0.5}
        merge_method: dare_ties
        base_model: base
        """,
    "stacked layers": """
        slices:
          - sources:
            - model: one
              layer_range: [0, 3]
          - sources:
            - model: two
              layer_range: [2, 5]
        merge_method: passthrough
        """,
    "scaled layers": """
        slices:
          - sources:
            - model: one
              layer_range: [0, 2]
          - sources:
            - model: one
              layer_range: [2, 4]
              parameters:
                scale:
                  - {filter: o_proj, value: 0.0}
                  - {filter: down_proj, value: 0.0}
                  - {value: 1.0}
          - sources:
            - model: one
              layer_range: [4, 5]
        merge_method: passthrough
        """,
    "slices of their own": """
        slices:
          - sources:
              - {model: base, layer_range: [0, 3], parameters: {weight: 9}}
              - {model: one, layer_range: [0, 3], parameters: {weight: [0.1, 0.9]}}
              - {model: two, layer_range: [1, 4]}
            parameters: {weight: 0.7, density: [0.9, 0.5]}
          - sources:
              - {model: two, layer_range: [3, 5]}
              - {model: base, layer_range: [3, 5]}
        merge_method: ties
        base_model: base
        parameters: {weight: 0.3, density: 0.8, lambda: [0.5, 1.5]}
        """,
    "slerp with a base for each slice": """
        slices:
          - sources:
              - {model: one, layer_range: [0, 2]}
              - {model: two, layer_range: [0, 2]}
            base_model: two
            parameters: {t: 0.2}
          - sources:
              - {model: two, layer_range: [2, 5]}
              - {model: one, layer_range: [2, 5]}
            base_model: one
        merge_method: slerp
        parameters: {t: 0.6}
        """,
    "one layer": """
        slices:
          - sources:
              - {model: one, layer_range: [3, 4]}
              - {model: two, layer_range: [4, 5]}
            parameters: {weight: [0.2, 0.4, 0.6]}
        merge_method: linear
        """,
    "modules": """
        modules:
          default:
            models:
              - model: one
              - model: two
                parameters: {weight: {filter: mlp, value: 0.25}}
            parameters: {weight: [1, 0.5]}
        merge_method: linear
        parameters: {weight: 7, normalize: false}
        """,
    "karcher": """
        models: [{model: one}, {model: two}, {model: base}]
        merge_method: karcher
        parameters: {max_iter: 20, tol: 1e-6}
        """,
    "model_stock": "{merge_method: model_stock, base_model: base, models: [{model: one}, {model: two}]}",
    "model_stock by row": """
        merge_method: model_stock
        base_model: base
        models: [{model: one}, {model: two}]
        parameters: {filter_wise: true}
        """,
    "a task taken away": """
        merge_method: task_arithmetic
        base_model: base
        models:
          - {model: one, parameters: {weight: 1.0}}
          - {model: two, parameters: {weight: -0.5}}
        parameters: {lambda: 0.8, density: 0.3, rescale: true}
        """,
    "nuslerp": """
        merge_method: nuslerp
        models:
          - {model: one, parameters: {weight: [0, 0.5, 0.3, 0.7, 1]}}
          - {model: two, parameters: {weight: 0.4}}
        """,
    "nuslerp from a base": """
        merge_method: nuslerp
        base_model: base
        models:
          - {model: one, parameters: {weight: 0.7}}
          - {model: two, parameters: {weight: 0.4}}
        parameters: {nuslerp_flatten: false}
        """,
    "multislerp": """
        merge_method: multislerp
        models: [{model: one}, {model: two}, {model: base}]
        parameters: {weight: 0.5}
        """,
    "multislerp from a base": """
        merge_method: multislerp
        base_model: base
        models: [{model: one}, {model: two}]
        parameters: {weight: 0.5}
        """,
    "nearswap": "{merge_method: nearswap, base_model: base, models: [{model: one}], parameters: {t: 1e-3}}",
    "sce": """
        merge_method: sce
        base_model: base
        models: [{model: one}, {model: two}]
        parameters: {select_topk: 0.6, int8_mask: true}
        """,
    "ram": "{merge_method: ram, base_model: base, models: [{model: one}, {model: two}], parameters: {epsilon: 0.01}}",
    "ramplus_tl": """
        merge_method: ramplus_tl
        base_model: base
        models: [{model: one}, {model: two}]
        parameters: {epsilon: 0.01, r: 0.3, alpha: 0.5}
        """,
    "breadcrumbs": """
        merge_method: breadcrumbs
        base_model: base
        models: [{model: one}, {model: two}]
        parameters: {weight: 0.6, density: 0.8, gamma: 0.05}
        """,
    "breadcrumbs_ties": """
        merge_method: breadcrumbs_ties
        base_model: base
        models: [{model: one}, {model: two}]
        parameters: {weight: [0.2, 0.6], density: 0.8, gamma: 0.05, normalize: true}
        """,
    "dare_linear": """
        merge_method: dare_linear
        base_model: base
        models: [{model: one}, {model: two}]
        parameters: {weight: 0.6, density: 1}
        """,
    "della": "{merge_method: della, base_model: base, models: [{model: one}, {model: two}], parameters: {weight: 0.6}}",
    "della_linear": """
        merge_method: della_linear
        base_model: base
        models: [{model: one}, {model: two}]
        parameters: {weight: 0.6}
        """,
}
"""The first ones are mergekit's examples with other models; the rest take every other method and form of file."""

BY_RANK = ("ties", "bio-merge", "slices of their own", "sce", "breadcrumbs", "breadcrumbs_ties")

STAGES = """
merge_method: task_arithmetic
base_model: base
models:
  - model: second-merge
    parameters: {weight: 0.6}
  - model: two
    parameters: {weight: 0.5}
---
name: second-merge
merge_method: slerp
base_model: first-merge  # Reference previous merge
models:
  - model: one
parameters:
  t: 0.5
---
name: first-merge
merge_method: linear
models:
  - model: base
  - model: two
parameters:
  weight: 0.5
"""


def placed(text: str, root: Path) -> str:
    """`text` with its models in `root`. Only names of models stand after `model:` and `base_model:`."""
    for name in ("base", "one", "two"):
        for key in ("model: ", "base_model: "):
            text = text.replace(f"{key}{name}", f"{key}{root / name}")
    return text
