"""Made-up items with known success rates: what races and intervals are tested on.

Item i of evaluator e is solved by candidate x when a latent number stays below the rate of its language:

    Phi(sqrt(a) g + sqrt(b) h + sqrt(1 - a - b) z) < rate_el(x),   g, h, z standard normal

g belongs to the item's group, h to the item, z to item and candidate. Groups and items are drawn anew for each bank, so
the expected score is exactly the rate, a makes items of a group stand or fall together, and a + b is how much two
candidates agree. In the demo's recorded results two merges' items correlate by 0.4 to 0.7.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from evaluators._types import Item
from search.racing.ordering import balanced
from search.statistics.uncertainty import Layout

from ._search_tasks import Array

GROUP, ITEM = 0.2, 0.4


@dataclass(frozen=True)
class Bank:
    """Items of several evaluators in their balanced order.

    Attributes:
        layouts: evaluator -> groups and languages.
        codes: evaluator -> (n,) number of each item's language.
        latent: evaluator -> (n,) what group and item add to the latent number.
        own: weight of the candidate's own draw in the latent number's variance.
        seed: of the candidates' own draws.
    """

    layouts: dict[str, Layout]
    codes: dict[str, Array]
    latent: dict[str, Array]
    own: float
    seed: int

    def results(self, rates: Array, number: int) -> dict[str, Array]:
        """What candidate `number` gets on every item: evaluator -> (1, n) of 0 and 1; rates (evaluators, languages)."""
        rng = np.random.default_rng((self.seed, number))
        found = {}
        for index, name in enumerate(self.layouts):
            z = rng.standard_normal(len(self.codes[name]))
            solved = ndtr(self.latent[name] + np.sqrt(self.own) * z) < rates[index][self.codes[name].astype(int)]
            found[name] = solved[None].astype(np.float64)
        return found


def make_bank(
    evaluators: int, languages: int, templates: int, seed: int, *, group: float = GROUP, item: float = ITEM
) -> Bank:
    """A bank of `templates` groups for each evaluator, each in every language."""
    rng = np.random.default_rng((seed, 99))
    layouts, codes, latent = {}, {}, {}
    for index in range(evaluators):
        items = [
            Item(f"{index}/{t}/{code}", "", "", f"l{code}", f"t{t}", "", "search")
            for t in range(templates)
            for code in range(languages)
        ]
        shared = np.repeat(rng.standard_normal(templates), languages)
        number = np.sqrt(group) * shared + np.sqrt(item) * rng.standard_normal(len(items))
        order = list(balanced(items))
        name = f"e{index}"
        layouts[name] = Layout(tuple(items[i].group for i in order), tuple(items[i].language for i in order))
        codes[name] = np.array([int(items[i].language[1:]) for i in order], dtype=np.float64)
        latent[name] = number[order]
    return Bank(layouts, codes, latent, 1.0 - group - item, seed)


Rates = Callable[[Array], Array]
"""(n, d) points of the cube -> (n, evaluators, languages) rates."""
