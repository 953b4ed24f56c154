"""Random numbers by position: the same on every device, in every order and for every sharding.

Element i of a tensor gets the i-th output of SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom
number generators, OOPSLA 2014) started at a state that hashes (seed, tensor name, expert index). Nothing is
drawn in sequence, so a slice of a tensor gets the slice of its numbers. Two streams are stretches of one
sequence of period 2^64; that two stretches of n numbers overlap has probability 2n / 2^64. Everything is
int64 arithmetic modulo 2^64: exact everywhere.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

_GOLDEN, _MIX1, _MIX2 = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_MODULUS = 1 << 64
_CPU_BLOCK, _DEVICE_BLOCK = 1 << 16, 1 << 22  # half a megabyte of int64 stays in a CPU's second-level cache


@dataclass(frozen=True)
class Draw:
    """The random numbers of one tensor; `key` in [0, 2^64)."""

    key: int

    @classmethod
    def of(cls, seed: int, name: str) -> Draw:
        """The draw of tensor `name` (its name in the checkpoint) under `seed`."""
        digest = hashlib.blake2b(f"{seed}\0{name}".encode(), digest_size=8).digest()
        return cls(int.from_bytes(digest, "little"))

    def uniform(
        self, shape: Sequence[int], index: int, device: torch.device | str = "cpu", *, start: int = 0
    ) -> Tensor:
        """Float32 numbers, uniform on the multiples of 2^-24 in [0, 1), of `shape` on `device`.

        Args:
            shape: of the tensor, or of a run of its elements in row-major order.
            index: of the expert; each has its own stream.
            device: where to draw.
            start: position in the whole tensor of the first element asked for.
        """
        count = math.prod(shape)
        result = torch.empty(count, dtype=torch.float32, device=device)
        origin = _mixed((self.key + (index + 1) * _GOLDEN) % _MODULUS)
        block = _CPU_BLOCK if result.device.type == "cpu" else _DEVICE_BLOCK
        steps = _steps(block, result.device)[:count]
        scratch = torch.empty_like(steps)
        for low in range(0, count, block):
            size = min(block, count - low)
            state = steps[:size] + _signed((origin + (start + low) * _GOLDEN) % _MODULUS)
            for bits, factor in ((30, _MIX1), (27, _MIX2)):
                state.bitwise_xor_(_shifted(state, bits, scratch[:size])).mul_(_signed(factor))
            # SplitMix64 ends with x ^= x >> 31, which leaves the 24 top bits, the ones used, as they are.
            torch.mul(_shifted(state, 40, scratch[:size]), 2.0**-24, out=result[low : low + size])
        return result.reshape(tuple(shape))


@lru_cache(maxsize=8)
def _steps(count: int, device: torch.device) -> Tensor:
    """The states of elements 0 .. count - 1, counted from the stream's origin."""
    return torch.arange(1, count + 1, dtype=torch.int64, device=device).mul_(_signed(_GOLDEN))


def _shifted(state: Tensor, bits: int, out: Tensor) -> Tensor:
    """Logical right shift; torch's own keeps the sign."""
    return torch.bitwise_right_shift(state, bits, out=out).bitwise_and_((1 << (64 - bits)) - 1)


def _mixed(state: int) -> int:
    """SplitMix64's finaliser on one number."""
    state = (state ^ (state >> 30)) * _MIX1 % _MODULUS
    state = (state ^ (state >> 27)) * _MIX2 % _MODULUS
    return state ^ (state >> 31)


def _signed(value: int) -> int:
    return value - _MODULUS if value >= _MODULUS >> 1 else value
