"""Merging matrices by their singular vectors (Task Singular Vectors, arXiv:2412.00081). Float64 throughout.

Everything here depends on a difference only through pairs of left and right vectors, so the sign that an SVD gives a
pair has no effect.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Triplets(NamedTuple):
    """The d first singular triplets of an m x n matrix.

    Attributes:
        left: m x d, orthonormal columns.
        values: d, descending; times a coefficient of any sign.
        right: n x d, orthonormal columns.
    """

    left: Tensor
    values: Tensor
    right: Tensor


def leading(matrix: Tensor, count: int) -> Triplets:
    """The first `count` triplets of an m x n matrix, without those of value 0: their vectors would be any vectors."""
    left, values, right = torch.linalg.svd(matrix.double(), full_matrices=False)
    count = min(count, int((values > _smallest(values, matrix)).sum()))
    return Triplets(left[:, :count], values[:count], right[:count].T)


def joined(tasks: Sequence[Triplets]) -> Tensor:
    """`U S V^T`, m x n: all tasks' triplets side by side, U and V each made orthonormal."""
    left, right = (orthonormal(torch.cat(sides, 1)) for sides in ([t.left for t in tasks], [t.right for t in tasks]))
    return torch.mm(left * torch.cat([task.values for task in tasks]), right.T)


def orthonormal(vectors: Tensor) -> Tensor:
    """`P Q^T` of the SVD `P D Q^T`: the nearest matrix with orthonormal columns.

    Where columns depend on each other there are many such matrices, and which one `P Q^T` is would be the SVD routine's
    choice: singular values of 0 are left out, which gives the nearest partial isometry, the only one of its rank.
    """
    if vectors.shape[1] == 0:
        return vectors
    left, values, right = torch.linalg.svd(vectors, full_matrices=False)
    rank = int((values > _smallest(values, vectors)).sum())
    return torch.mm(left[:, :rank], right[:rank])


def _smallest(values: Tensor, matrix: Tensor) -> float:
    """What counts as 0 among singular values: rounding's share of the largest (as in numpy.linalg.matrix_rank)."""
    return float(values[0]) * max(matrix.shape) * torch.finfo(torch.float64).eps
