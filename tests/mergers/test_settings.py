"""Gradients and filters, resolved for one tensor."""

from __future__ import annotations

import pytest

from mergers._errors import InputError
from mergers._settings import Filters, Gradient, at, layer_of, position_of, scalars
from mergers._spec import Merge


def test_a_gradient_is_interpolated_between_layers() -> None:
    gradient = Gradient((0.0, 1.0, 0.5))
    assert [at(gradient, "x", position) for position in (0.0, 0.25, 0.5, 0.75, 1.0)] == [0.0, 0.5, 1.0, 0.75, 0.5]
    assert at(Gradient((3.0,)), "x", 0.7) == 3.0


def test_switches_and_words_step() -> None:
    assert [at(Gradient((True, False)), "x", position) for position in (0.0, 0.5, 0.99, 1.0)] == [True] * 3 + [False]


def test_the_first_filter_that_matches_counts() -> None:
    filters = Filters((("self_attn", Gradient((0.0, 1.0))), ("attn", 7.0), ("*", 0.5)))
    assert at(filters, "model.layers.1.self_attn.q_proj.weight", 1.0) == 1.0
    assert at(filters, "h.1.attn.c_proj.weight", 1.0) == 7.0
    assert at(filters, "model.norm.weight", 0.0) == 0.5
    assert scalars(filters) == (0.0, 1.0, 7.0, 0.5)


def test_no_filter_matches() -> None:
    with pytest.raises(InputError, match=r"no filter matches tensor model\.norm\.weight"):
        at(Filters((("mlp", 1.0),)), "model.norm.weight", 0.0)


@pytest.mark.parametrize(
    ("name", "layers", "layer", "position"),
    [
        ("model.layers.0.mlp.up_proj.weight", 5, 0, 0.0),
        ("model.layers.3.mlp.up_proj.weight", 5, 3, 0.75),
        ("transformer.h.4.attn.c_attn.weight", 5, 4, 1.0),
        ("model.layers.0.mlp.up_proj.weight", 1, 0, 1.0),
        ("model.embed_tokens.weight", 5, None, 0.0),
        ("model.norm.weight", 5, None, 0.0),
        ("lm_head.weight", 5, None, 0.0),
        ("model.layers.2.mlp.experts.7.up_proj.weight", 5, 2, 0.5),
    ],
)
def test_positions(name: str, layers: int, layer: int | None, position: float) -> None:
    assert layer_of(name) == layer
    assert position_of(name, layers) == position


def test_values_inside_gradients_and_filters_are_checked() -> None:
    inside = Filters((("mlp", Gradient((0.5, 1.5))), ("*", 0.2)))
    with pytest.raises(InputError, match=r"density must lie in \[0, 1\], got 1.5 for expert 2"):
        Merge("ties", (("weight", 1.0), ("density", (0.5, inside)))).check(2)
    with pytest.raises(InputError, match="weight is empty"):
        Merge("ties", (("weight", Gradient(())),)).check(2)


def test_weights_of_one_tensor_that_sum_to_zero_are_refused_by_name() -> None:
    merge = Merge("linear", (("weight", (Gradient((1.0, 0.0)), Gradient((0.0, 0.0)))),))
    merge.check(2)
    assert merge.at(2, "a", 0.0)["weight"] == (1.0, 0.0)
    with pytest.raises(InputError, match=r"sum of weight, which is 0 .* in tensor a"):
        merge.at(2, "a", 1.0)
