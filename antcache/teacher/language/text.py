"""Actions and histories as text, and as the tokens of a language model.

Promise: the tokens of a history are those of its whole text; each action is tokenised only once.

Two forms, oldest action first:

- `paper` (Ghosh et al. 2023): `take <v> cutting board <a> wash <v> knife`, with `<v>` and `<a>` as
  tokens of their own.
- `natural`: `take cutting board, wash knife`.

Names of actions become words by the rules of their dataset. EPIC-KITCHENS-55 writes
`take_board:cutting`, the parts of the noun in reverse, and `pick-up` (natural text has a blank for
the hyphen); EGTEA Gaze+ `Divide/Pull Apart_paper:towel`, which reads `divide or pull apart` and
`paper towel`; EPIC-KITCHENS-100 has no mark between the two, and the names of verb and noun are
taken instead. Single labels (`place_tomato_into_bowl`) are read as they stand, a blank for each
underscore, and have no `<v>`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from antcache.annotations import Taxonomy
from antcache.errors import BadConfig

VERB_MARK = "<v>"
"""Stands between verb and noun in the paper's form."""
ACTION_MARK = "<a>"
"""Stands between actions in the paper's form."""
JOINS = {"paper": f" {ACTION_MARK} ", "natural": ", "}

Ints = NDArray[np.int64]


def action_words(taxonomy: Taxonomy) -> list[tuple[str, str]]:
    """Verb and noun of each action (C), as the paper writes them; of single labels, all is verb."""
    if not taxonomy.paired:
        return [(" ".join(name.replace("_", " ").split()), "") for name in taxonomy.actions]
    if taxonomy.dataset.startswith("egtea"):
        return [
            (verb, noun)
            for verb, _, noun in (
                name.lower().replace("/", " or ").replace(":", " ").partition("_")
                for name in taxonomy.actions
            )
        ]
    words = []
    for name, v, n in zip(
        taxonomy.actions, taxonomy.action_verbs, taxonomy.action_nouns, strict=True
    ):
        verb, mark, noun = name.partition("_")
        if not mark:
            verb, noun = taxonomy.verbs[v], taxonomy.nouns[n]
        words.append((verb, " ".join(reversed(noun.split(":")))))
    return words


def action_text(verb: str, noun: str, form: str) -> str:
    """One action in `form`, which may have no noun."""
    if form == "paper":
        return f"{verb} {VERB_MARK} {noun}" if noun else verb
    return f"{verb} {noun}".strip().replace("-", " ")


def action_texts(taxonomy: Taxonomy, form: str) -> list[str]:
    """Text of each action (C)."""
    return [action_text(verb, noun, form) for verb, noun in action_words(taxonomy)]


def add_marks(tokenizer: Any) -> int:
    """Give the tokenizer the marks of the paper's form as special tokens; the number of new ones.

    A blank before a mark belongs to it, so that the word before it reads as at a text's end.
    """
    from transformers import AddedToken

    marks = [
        AddedToken(mark, lstrip=True, rstrip=False, normalized=False, special=True)
        for mark in (VERB_MARK, ACTION_MARK)
    ]
    added: int = tokenizer.add_tokens(marks, special_tokens=True)
    return added


def surrounding_tokens(tokenizer: Any) -> tuple[list[int], list[int]]:
    """Tokens that the tokenizer puts before and after a text.

    A tokenizer that adds none gets its first of begin, end, class, separator and padding token
    before: a text without any action needs one to be read at.

    Raises:
        BadConfig: there is no such token.
    """
    bare, full = tokenize(tokenizer, ["a"])[0], list(tokenizer("a")["input_ids"])
    for start in range(len(full) - len(bare) + 1):
        if full[start : start + len(bare)] == bare:
            before, after = full[:start], full[start + len(bare) :]
            break
    else:
        raise BadConfig("the tokenizer changes a text between its special tokens", found=full)
    if not before and not after:
        for name in ("bos", "eos", "cls", "sep", "pad"):
            token = getattr(tokenizer, f"{name}_token_id", None)
            if token is not None:
                return [token], []
        raise BadConfig(
            "the tokenizer has no special token", expected="a begin, end or padding token"
        )
    return before, after


def tokenize(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Tokens of each text, without any around it."""
    ids: list[list[int]] = tokenizer(list(texts), add_special_tokens=False)["input_ids"]
    return ids


@dataclass(frozen=True, kw_only=True)
class ActionTokens:
    """Tokens of every action, and of every history made of them.

    Only tokens that can occur have a number here, their row in `vocabulary`: of a vocabulary of
    30,000, a few hundred.

    Attributes:
        vocabulary: (K,) ids in the model's vocabulary, ascending.
        pad: row of the token that fills a batch; where it stands nobody looks.
        flat: (T,) rows of all pieces, one after the other: what stands before a text, what stands
            after it, the C actions at the start of a text, the C actions further on.
        starts: (2 C + 3,) where each piece starts.
        limit: longest text in tokens that the model reads, or None.
    """

    vocabulary: Ints
    pad: int
    flat: Ints
    starts: Ints
    limit: int | None

    @classmethod
    def of(cls, tokenizer: Any, texts: Sequence[str], form: str, limit: int | None) -> ActionTokens:
        """Tokenise all actions.

        Raises:
            BadConfig: the tokenizer does not work action by action, or the longest action does not
                fit into `limit`.
        """
        before, after = surrounding_tokens(tokenizer)
        # What follows is tokenised behind another action: its first token may hold the blank.
        anchor = texts[0]
        head = tokenize(tokenizer, [anchor])[0]
        follow = []
        pairs = [f"{anchor}{JOINS[form]}{text}" for text in texts]
        for pair, both in zip(pairs, tokenize(tokenizer, pairs), strict=True):
            if both[: len(head)] != head:
                raise BadConfig("the tokenizer does not read a text action by action", found=pair)
            follow.append(both[len(head) :])
        pieces = [before, after, *tokenize(tokenizer, texts), *follow]
        longest = len(before) + len(after) + max(map(len, pieces[2:]))
        if limit is not None and longest > limit:
            raise BadConfig(
                "the model does not read a whole action", expected=f"{longest} tokens", found=limit
            )
        pad = tokenizer.pad_token_id
        pad = (before + after)[0] if pad is None else pad
        ids = np.array([token for piece in pieces for token in piece], dtype=np.int64)
        vocabulary = np.unique(np.append(ids, pad))
        return cls(
            vocabulary=vocabulary,
            pad=int(np.searchsorted(vocabulary, pad)),
            flat=np.searchsorted(vocabulary, ids),
            starts=np.cumsum([0, *map(len, pieces)]),
            limit=limit,
        )

    def encode(self, history: Ints) -> tuple[Ints, Ints]:
        """Tokens of every history (N, h), -1 for nothing, and where each starts.

        A history that is too long for the model loses its oldest actions.

        Returns:
            Rows of `vocabulary` (T,), text after text, and starts (N + 1,).
        """
        count, classes = len(history), (len(self.starts) - 3) // 2
        history = history.copy()
        while True:
            there = history >= 0
            oldest = there & (there.cumsum(axis=1) == 1)
            piece = np.where(oldest, 2 + history, 2 + classes + history)
            piece = np.column_stack([np.zeros(count, int), piece, np.ones(count, int)])
            there = np.pad(there, ((0, 0), (1, 1)), constant_values=True)
            size = np.where(there, self.starts[piece + 1] - self.starts[piece], 0)
            total = size.sum(axis=1)
            over = total > (self.limit or np.inf)
            if not over.any():
                break
            history[oldest & over[:, None]] = -1
        size, piece = size.ravel(), piece.ravel()
        place = np.arange(size.sum()) - np.repeat(np.cumsum(size) - size, size)
        return self.flat[np.repeat(self.starts[piece], size) + place], np.cumsum([0, *total])
