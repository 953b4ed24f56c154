"""Random numbers by position: the same on every device, in every order and for every sharding.

Entry e of expert i of tensor NAME under SEED gets 16 bits of a 32-bit word that depends on (SEED, NAME, i // 2, e) and
on nothing else: the low half for even i, the high half for odd i. With p = i // 2, modulo 2^32:

    h = (e mod 2^32) ^ k0
    h ^= h >> 17;  h *= 0xed5ad4bb;  h ^= h >> 11;  h += k1
    h *= 0xac4c1b51;  h ^= h >> 15;  h *= 0x31848bab;  h ^= h >> 14

where (k0, k1) are the two little-endian halves of the 8-byte blake2b of SEED, NAME, p and e >> 32, written in decimal
with a zero byte between each two. The rounds are those of triple32 (Wellons, hash-prospector, 2018), a permutation
of the 32-bit integers, keyed at its start and in its middle. So among the 2^32 entries of one key every word occurs
exactly once.

Sixteen bits make a keep probability exact to 1 / 131072, and one word serves two experts: the mask costs a fraction of
reading the weights. An entry is kept if its bits are below `threshold(probability)`.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

LEVELS = 1 << 16
"""Bits lie in [0, LEVELS)."""

_CPU_BLOCK, _DEVICE_BLOCK = 1 << 16, 1 << 22  # 256 KiB of int32 stay in a CPU's second-level cache


def threshold(probability: float) -> int:
    """Bits below this number keep an entry with `probability`, in (0, 1). In [1, 65535]: never all, never none."""
    return min(LEVELS - 1, max(1, math.floor(probability * LEVELS + 0.5)))


@dataclass(frozen=True)
class Draw:
    """The random numbers of one tensor.

    Attributes:
        seed: of the merge.
        name: of the tensor in the checkpoint.
    """

    seed: int
    name: str

    @classmethod
    def of(cls, seed: int, name: str) -> Draw:
        """The draw of tensor `name` under `seed`."""
        return cls(seed, name)

    def keys(self, pair: int, high_word: int = 0) -> tuple[int, int]:
        """(k0, k1) of experts 2 * pair and 2 * pair + 1, for entries from `high_word` * 2^32 on."""
        text = f"{self.seed}\0{self.name}\0{pair}\0{high_word}"
        digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
        return int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:], "little")

    def bits(self, count: int, index: int, device: torch.device | str = "cpu", *, start: int = 0) -> Tensor:
        """The numbers of `count` entries of the flattened tensor, from entry `start` on: int32 in [0, 65536).

        Args:
            count: how many.
            index: of the expert.
            device: where to draw.
            start: position in the whole tensor of the first entry asked for.
        """
        result = torch.empty(count, dtype=torch.int32, device=device)
        block = _CPU_BLOCK if result.device.type == "cpu" else _DEVICE_BLOCK
        steps = _steps(min(block, count), result.device)
        scratch = torch.empty_like(steps)
        low = 0
        while low < count:
            entry = start + low
            size = min(block, count - low, (1 << 32) - entry % (1 << 32))
            words = torch.add(steps[:size], _signed(entry % (1 << 32)), out=result[low : low + size])
            _mix(words, self.keys(index // 2, entry >> 32), scratch[:size])
            if index % 2:
                words.bitwise_right_shift_(16)
            words.bitwise_and_(LEVELS - 1)
            low += size
        return result


def _mix(words: Tensor, keys: tuple[int, int], scratch: Tensor) -> None:
    """The words of entries `words`, in place. Products and sums of int32 wrap modulo 2^32."""
    words.bitwise_xor_(_signed(keys[0]))
    for bits, added, factor in ((17, 0, 0xED5AD4BB), (11, keys[1], 0xAC4C1B51), (15, 0, 0x31848BAB)):
        words.bitwise_xor_(_shifted(words, bits, scratch)).add_(_signed(added)).mul_(_signed(factor))
    words.bitwise_xor_(_shifted(words, 14, scratch))


def _shifted(words: Tensor, bits: int, out: Tensor) -> Tensor:
    """Logical right shift; torch's own keeps the sign."""
    return torch.bitwise_right_shift(words, bits, out=out).bitwise_and_((1 << (32 - bits)) - 1)


@lru_cache(maxsize=8)
def _steps(count: int, device: torch.device) -> Tensor:
    """0 .. count - 1. Shared: never written to."""
    return torch.arange(count, dtype=torch.int32, device=device)


def _signed(value: int) -> int:
    return value - (1 << 32) if value >= 1 << 31 else value
