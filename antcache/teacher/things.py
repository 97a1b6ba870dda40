"""What is done to what: verb and noun of each action, as the memories of teachers look at them.

Promise: of actions that are pairs, their verbs and nouns. Of single labels, each is a thing of its
own, to which one and the same is done: a memory then says how recently each *action* was done, and
nothing about verbs. That is a memory's view alone: no teacher predicts, learns or reports a verb or
noun that the dataset does not have.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from antcache.annotations import Taxonomy


@dataclass(frozen=True, kw_only=True)
class Things:
    """C actions as verbs and nouns.

    Attributes:
        verb_of: (C,) int64.
        noun_of: (C,) int64.
        verbs: how many there are.
        nouns: how many there are.
    """

    verb_of: NDArray[np.int64]
    noun_of: NDArray[np.int64]
    verbs: int
    nouns: int

    @classmethod
    def of(cls, taxonomy: Taxonomy) -> Things:
        """Those of a taxonomy."""
        if taxonomy.paired:
            return cls(
                verb_of=taxonomy.verb_of,
                noun_of=taxonomy.noun_of,
                verbs=len(taxonomy.verbs),
                nouns=len(taxonomy.nouns),
            )
        each = np.arange(len(taxonomy.actions))
        return cls(verb_of=np.zeros_like(each), noun_of=each, verbs=1, nouns=len(each))
