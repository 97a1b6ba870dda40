"""Class files of the published forms: verbs, nouns, actions and the many-shot lists.

Promise: ids are the positions in what is returned, each given exactly once, or `BadAnnotations`
names the line. Names are kept as the dataset writes them (`board:cutting`, `turn-on`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from antcache.annotations.files import Rows, check_ids, is_integer, read_rows, read_table
from antcache.annotations.taxonomy import Taxonomy
from antcache.errors import BadAnnotations

MAX_CLASSES = 100_000
"""More classes than any dataset has: a larger id is a mistake, and would only fill the memory."""


ClassNames = tuple[tuple[str, ...], tuple[str, ...]]
"""Names of the verbs by id, and of the nouns."""


@dataclass(frozen=True, kw_only=True)
class Actions:
    """The actions of a dataset by id: what each is called, and its verb and noun ids."""

    names: tuple[str, ...]
    verbs: tuple[int, ...]
    nouns: tuple[int, ...]


def read_class_names(path: Path, id_column: str, name_column: str) -> tuple[str, ...]:
    """Names by id from a class file with a header."""
    rows = read_table(path, (id_column, name_column))
    names = rows.words(name_column)
    return tuple(names[row] for row in by_id(rows, id_column))


def read_actions(path: Path, names: ClassNames | None) -> Actions:
    """Actions from an `actions.csv` with the columns `id`, `action`, `verb`, `noun`, any order.

    Their verbs and nouns must be among `names`, where those are known.
    """
    rows = read_table(path, ("id", "action", "verb", "noun"))
    return _actions(rows, rows.integers("verb"), rows.integers("noun"), names)


def read_paired_actions(path: Path) -> Actions:
    """Actions from an `actions.csv` without header, `id, verb_noun, Name`, as for EGTEA Gaze+."""
    rows = read_rows(path, ("id", "verb_noun", "action"))
    pairs = np.asarray(rows.convert("verb_noun", _pair, "two ids such as 2_17"), dtype=np.int64)
    return _actions(rows, pairs[:, 0], pairs[:, 1], None)


def _pair(text: str) -> tuple[int, int]:
    verb, noun = (part.strip() for part in text.strip("()").replace(",", "_").split("_"))
    if not (is_integer(verb) and is_integer(noun)):
        raise ValueError
    return int(verb), int(noun)


def _actions(
    rows: Rows, verbs: NDArray[np.int64], nouns: NDArray[np.int64], names: ClassNames | None
) -> Actions:
    called = rows.words("action")
    order = by_id(rows, "id")
    check_ids("verb", verbs, MAX_CLASSES if names is None else len(names[0]), rows.place)
    check_ids("noun", nouns, MAX_CLASSES if names is None else len(names[1]), rows.place)
    return Actions(
        names=tuple(called[row] for row in order),
        verbs=tuple(int(verbs[row]) for row in order),
        nouns=tuple(int(nouns[row]) for row in order),
    )


def by_id(rows: Rows, column: str) -> list[int]:
    """Row of each id; the ids must be 0 to N - 1, each once, in any order."""
    place: dict[int, int] = {}
    for row, number in enumerate(rows.integers(column).tolist()):
        if not 0 <= number < len(rows) or number in place:
            raise BadAnnotations(
                "the id is used twice" if number in place else "the ids have a gap",
                where=rows.place(row),
                expected=f"0 to {len(rows) - 1}, each once",
                found=number,
            )
        place[number] = row
    return [place[number] for number in range(len(rows))]


def pair_actions(
    verb: NDArray[np.int64],
    noun: NDArray[np.int64],
    names: ClassNames,
    joint: str,
) -> Actions:
    """Actions that are the pairs present in `verb` and `noun` (N,), named by both with `joint`.

    They are in the order of RULSTM's lists, that of the text `verb_noun` (so `10_2` comes before
    `1_0`): on EPIC-KITCHENS-55 this gives the published action ids exactly.
    """
    pairs = np.unique(np.stack([verb, noun], axis=1), axis=0).tolist()
    pairs.sort(key=lambda pair: f"{pair[0]}_{pair[1]}")
    return Actions(
        names=tuple(f"{names[0][v]}{joint}{names[1][n]}" for v, n in pairs),
        verbs=tuple(v for v, _ in pairs),
        nouns=tuple(n for _, n in pairs),
    )


def action_ids(
    actions: Actions, verb: NDArray[np.int64], noun: NDArray[np.int64], rows: Rows
) -> NDArray[np.int64]:
    """Action id (N,) of each verb and noun; `rows` says where they come from.

    Raises:
        BadAnnotations: for the first pair that is no action.
    """
    known = {pair: i for i, pair in enumerate(zip(actions.verbs, actions.nouns, strict=True))}
    ids = [known.get(pair, -1) for pair in zip(verb.tolist(), noun.tolist(), strict=True)]
    if -1 in ids:
        row = ids.index(-1)
        raise BadAnnotations(
            "no action has this verb and noun",
            where=rows.place(row),
            expected=f"one of {len(actions.names)} pairs",
            found=f"verb {verb[row]}, noun {noun[row]}",
        )
    return np.asarray(ids, dtype=np.int64)


def with_names(dataset: str, actions: Actions, names: ClassNames) -> Taxonomy:
    """Taxonomy of a dataset, without many-shot lists."""
    return Taxonomy(
        dataset=dataset,
        verbs=names[0],
        nouns=names[1],
        actions=actions.names,
        action_verbs=actions.verbs,
        action_nouns=actions.nouns,
    )


def names_from_actions(actions: Actions, joint: str) -> ClassNames:
    """Names of verbs and nouns where no class file gives them.

    An action is called `verb<joint>noun`; a class gets the name that most of its actions use (the
    first of equals). An id without any action is called by its number.
    """
    verbs, nouns = zip(*(name.partition(joint)[::2] for name in actions.names), strict=True)
    return _commonest(actions.verbs, verbs, "verb"), _commonest(actions.nouns, nouns, "noun")


def _commonest(ids: Sequence[int], names: Sequence[str], kind: str) -> tuple[str, ...]:
    votes: list[Counter[str]] = [Counter() for _ in range(max(ids) + 1)]
    for number, name in zip(ids, names, strict=True):
        if name:
            votes[number][name] += 1
    return tuple(
        vote.most_common(1)[0][0] if vote else f"{kind} {number}"
        for number, vote in enumerate(votes)
    )


def read_class_list(path: Path, column: str, kind: str, count: int) -> tuple[int, ...]:
    """Ids in a column of a published list of verbs or nouns (`kind`, `count` of them), ascending.

    Raises:
        BadAnnotations: no such column, or what is no id.
    """
    rows = read_table(path, (column,))
    ids = rows.integers(column)
    check_ids(kind, ids, count, rows.place)
    return tuple(sorted(ids.tolist()))


def read_many_shot_actions(path: Path, actions: Actions) -> tuple[int, ...]:
    """Ids of a many-shot list of actions, which names them as `(verb, noun)`, ascending."""
    rows = read_table(path, ("action_class",))
    cells = rows.convert("action_class", _pair, "two ids such as (12, 78)")
    pairs = np.asarray(cells, dtype=np.int64)
    return tuple(sorted(action_ids(actions, pairs[:, 0], pairs[:, 1], rows).tolist()))
