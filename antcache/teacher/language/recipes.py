"""Recipes as texts for masked-LM training: pieces of action text, and masks on them.

Promise: a piece is drawn, and masked, by the seed and its step alone, so that a training which is
taken up again sees what it would have seen; nothing around a text and no mark is ever masked.

Of the tokens chosen, 80 % are masked, 10 % replaced by any other and 10 % left (Devlin et al. 2019,
BERT); the choice is made anew for every step (Liu et al. 2019, RoBERTa).
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from antcache.errors import BadConfig
from antcache.teacher.language.text import ActionTokens, action_text

Ints = NDArray[np.int64]
Recipe = Sequence[tuple[str, str]]
"""Verb and object of each step."""


@dataclass(frozen=True, kw_only=True)
class Pieces:
    """Recipes cut into pieces of at most as many actions as one text shows.

    Attributes:
        names: text of each distinct action (A).
        actions: (T,) int64, all actions, recipe after recipe.
        starts: (P + 1,) int64, where each piece starts.
        recipes: how many recipes these are.
    """

    names: tuple[str, ...]
    actions: Ints
    starts: Ints
    recipes: int

    def __len__(self) -> int:
        return len(self.starts) - 1

    @classmethod
    def of(
        cls, recipes: Iterable[Recipe], form: str, actions: int, known: dict[str, int]
    ) -> Pieces:
        """Cut `recipes`, which are read once, into pieces of about equal length.

        Args:
            recipes: verb and object of each step.
            form: see `antcache.teacher.language.text`.
            actions: most actions of a piece.
            known: number of each action's text so far; new ones are added.
        """
        numbers, sizes, count = array("q"), array("q"), 0
        for recipe in recipes:
            if not recipe:
                continue
            count += 1
            for verb, noun in recipe:
                name = action_text(verb, noun, form)
                numbers.append(known.setdefault(name, len(known)))
            parts = -(-len(recipe) // actions)
            sizes.extend(len(part) for part in np.array_split(np.arange(len(recipe)), parts))
        return cls(
            names=tuple(known),
            actions=np.array(numbers, dtype=np.int64),
            starts=np.cumsum([0, *sizes], dtype=np.int64),
            recipes=count,
        )

    def histories(self, rows: Ints) -> Ints:
        """Actions (N, h) of the pieces `rows`, -1 on the left where there is nothing."""
        size = np.diff(self.starts)[rows]
        place = self.starts[rows + 1, None] + np.arange(-size.max(), 0)
        return np.where(place >= self.starts[rows, None], self.actions[np.maximum(place, 0)], -1)


def order(count: int, step: int, batch: int, seed: int) -> Ints:
    """Rows (B,) of the batch at `step`: of random orders of all pieces, one after the other."""
    at = np.arange(step * batch, (step + 1) * batch)
    rows = np.empty(batch, dtype=np.int64)
    for turn in np.unique(at // count):
        there = at // count == turn
        rows[there] = _shuffled(count, seed, int(turn))[at[there] % count]
    return rows


@lru_cache(maxsize=2)
def _shuffled(count: int, seed: int, turn: int) -> Ints:
    return np.random.default_rng([seed, turn]).permutation(count)


@dataclass(frozen=True, kw_only=True)
class Masked:
    """A batch of masked texts.

    Attributes:
        ids: (B, L) int64 tokens, masked.
        there: (B, L) int64, 1 where a token stands and 0 where the batch is filled up.
        chosen: (M,) int64, places in the flattened batch that are to be predicted.
        target: (M,) int64, what stood there.
    """

    ids: Tensor
    there: Tensor
    chosen: Tensor
    target: Tensor


class Masker:
    """Turns pieces into masked batches for one tokenizer."""

    def __init__(self, tokenizer: Any, tokens: ActionTokens, share: float) -> None:
        """A masker of `share` of the tokens.

        Raises:
            BadConfig: the tokenizer has no token for a mask.
        """
        if tokenizer.mask_token_id is None:
            raise BadConfig(
                "the tokenizer has no mask token",
                expected="an encoder that was trained as a masked language model",
            )
        self.tokenizer = tokenizer
        self._tokens, self._share = tokens, share
        self._mask, self._words = tokenizer.mask_token_id, len(tokenizer)
        # The frame around a text, padding and marks: special tokens all.
        added = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
        self._special = torch.tensor(sorted(added | {*tokenizer.all_special_ids}))

    def batch(self, histories: Ints, seed: Sequence[int]) -> Masked:
        """Texts of `histories` (B, h), masked as `seed` decides."""
        flat, starts = self._tokens.encode(histories)
        lengths = np.diff(starts)
        place = np.arange(lengths.max())
        there = place < lengths[:, None]
        rows = np.where(there, flat[np.minimum(starts[:-1, None] + place, len(flat) - 1)], 0)
        ids = torch.from_numpy(np.where(there, self._tokens.vocabulary[rows], 0))
        ids[torch.from_numpy(~there)] = int(self._tokens.vocabulary[self._tokens.pad])
        present = torch.from_numpy(there)
        free = present & ~torch.isin(ids, self._special)
        rng = np.random.default_rng(list(seed))
        draw = torch.from_numpy(rng.random(ids.shape))
        draw[~free] = 2.0
        chosen = draw < max(self._share, float(draw.min()) + 1e-12)  # at least one
        fate = torch.from_numpy(rng.random(ids.shape))
        other = torch.from_numpy(rng.integers(self._words, size=tuple(ids.shape)))
        masked = torch.where(chosen & (fate < 0.8), self._mask, ids)
        masked = torch.where(chosen & (fate >= 0.9), other, masked)
        return Masked(
            ids=masked,
            there=present.long(),
            chosen=chosen.flatten().nonzero()[:, 0],
            target=ids[chosen],
        )
