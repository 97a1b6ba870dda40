"""The classes of a dataset: verbs, nouns, actions (pairs of both), many-shot and tail lists.

Promise: ids are positions; every action names a verb and a noun that exist, or none does: then an
action is a label of its own, there are no verbs and nouns, and none are made up. `fingerprint` is
equal exactly for equal taxonomies, so that soft targets and checkpoints of another one are
recognised.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from antcache.errors import BadAnnotations

KINDS = ("action", "verb", "noun")
"""What a segment may have a label of."""


@dataclass(frozen=True, kw_only=True)
class Taxonomy:
    """Names and structure of the classes.

    Attributes:
        dataset: which dataset these classes belong to, e.g. `epic-kitchens-55`.
        verbs: name of each verb (V); none where actions are single labels.
        nouns: name of each noun (O); likewise.
        actions: name of each action (C), as the dataset writes it.
        action_verbs: verb id of each action (C), or none.
        action_nouns: noun id of each action (C), or none.
        many_shot_actions: ids on the official many-shot list (verb and noun many-shot), or None.
        many_shot_verbs: ids of the many-shot verbs, or None.
        many_shot_nouns: ids of the many-shot nouns, or None.
        tail_verbs: ids of the rare verbs (EPIC-KITCHENS-100), or None.
        tail_nouns: ids of the rare nouns, or None.
    """

    dataset: str
    verbs: tuple[str, ...]
    nouns: tuple[str, ...]
    actions: tuple[str, ...]
    action_verbs: tuple[int, ...]
    action_nouns: tuple[int, ...]
    many_shot_actions: tuple[int, ...] | None = None
    many_shot_verbs: tuple[int, ...] | None = None
    many_shot_nouns: tuple[int, ...] | None = None
    tail_verbs: tuple[int, ...] | None = None
    tail_nouns: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        count = len(self.actions)
        if self.paired and not len(self.action_verbs) == len(self.action_nouns) == count:
            raise BadAnnotations(
                "each action needs one verb and one noun, or none has any",
                where=f"taxonomy of {self.dataset}",
                expected=f"{count} of each",
                found=f"{len(self.action_verbs)} verbs and {len(self.action_nouns)} nouns",
            )
        for kind, ids, limit in (
            ("verb", self.action_verbs, len(self.verbs)),
            ("noun", self.action_nouns, len(self.nouns)),
            ("many-shot action", self.many_shot_actions or (), count),
            ("many-shot verb", self.many_shot_verbs or (), len(self.verbs)),
            ("many-shot noun", self.many_shot_nouns or (), len(self.nouns)),
            ("tail verb", self.tail_verbs or (), len(self.verbs)),
            ("tail noun", self.tail_nouns or (), len(self.nouns)),
        ):
            unknown = [i for i in ids if not 0 <= i < limit]
            if unknown:
                raise BadAnnotations(
                    f"unknown {kind} id",
                    where=f"taxonomy of {self.dataset}",
                    expected=f"0 to {limit - 1}" if limit else f"none: there is no {kind}",
                    found=unknown[0],
                )

    @cached_property
    def paired(self) -> bool:
        """Whether an action is a pair of verb and noun, and not a single label."""
        return any((self.verbs, self.nouns, self.action_verbs, self.action_nouns))

    @property
    def kinds(self) -> tuple[str, ...]:
        """What its segments have a label of: those of `KINDS`, or `action` alone."""
        return KINDS if self.paired else KINDS[:1]

    @property
    def counts(self) -> str:
        """How many classes there are, for people: `17 actions`, or with verbs and nouns."""
        return ", ".join(f"{len(getattr(self, f'{kind}s'))} {kind}s" for kind in self.kinds)

    @cached_property
    def verb_of(self) -> NDArray[np.int64]:
        """Verb id of each action (C,), -1 where there are none."""
        return self._of(self.action_verbs)

    @cached_property
    def noun_of(self) -> NDArray[np.int64]:
        """Noun id of each action (C,), -1 where there are none."""
        return self._of(self.action_nouns)

    def _of(self, ids: tuple[int, ...]) -> NDArray[np.int64]:
        return np.asarray(ids if self.paired else [-1] * len(self.actions), dtype=np.int64)

    @cached_property
    def any_shot_actions(self) -> tuple[int, ...] | None:
        """Actions whose verb *or* noun is many-shot: the list that RULSTM and AVT average over."""
        return self._with_either(self.many_shot_verbs, self.many_shot_nouns)

    @cached_property
    def both_shot_actions(self) -> tuple[int, ...] | None:
        """Actions whose verb *and* noun are many-shot: what the official list holds."""
        if self.many_shot_verbs is None or self.many_shot_nouns is None:
            return None
        both = np.isin(self.verb_of, self.many_shot_verbs)
        both &= np.isin(self.noun_of, self.many_shot_nouns)
        return tuple(int(i) for i in np.flatnonzero(both))

    @cached_property
    def tail_actions(self) -> tuple[int, ...] | None:
        """Actions whose verb *or* noun is rare, as EPIC-KITCHENS-100's challenge defines them."""
        return self._with_either(self.tail_verbs, self.tail_nouns)

    def _with_either(
        self, verbs: tuple[int, ...] | None, nouns: tuple[int, ...] | None
    ) -> tuple[int, ...] | None:
        """Actions with one of these verbs or one of these nouns; None without a list."""
        if verbs is None or nouns is None:
            return None
        either = np.isin(self.verb_of, verbs) | np.isin(self.noun_of, nouns)
        return tuple(int(i) for i in np.flatnonzero(either))

    @cached_property
    def fingerprint(self) -> str:
        """Hash of everything above but the lists of many-shot and tail classes."""
        lists = ("many_shot", "tail")
        classes = {k: v for k, v in self.to_dict().items() if not k.startswith(lists)}
        text = json.dumps(classes, sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form; `from_dict` reads it back."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in fields.items()}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Taxonomy:
        """Taxonomy from its `to_dict` form."""
        plain: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()
        }
        return cls(**plain)
